//! How a deployment is staged again.

use std::io::Read;

use crate::{
    bound::parse_unit,
    deployment::host::{Backend, HostPaths},
    repo::DeploymentId,
    sys::RootDir,
};

const LIMIT_BYTES: u64 = 1 << 20;

/// The command for people that stages `id` again: an upgrade, or where it is
/// of another image than what runs, a switch to that.
pub(super) fn again(
    paths: &HostPaths,
    backend: Backend,
    id: &DeploymentId,
    booted: Option<&DeploymentId>,
) -> String {
    let has_bootc = paths.root.join("usr/bin/bootc").exists();
    if !has_bootc && backend == Backend::Ostree {
        return "ostree admin upgrade --stage".into();
    }
    let wanted = image(paths, backend, id);
    let runs = booted.and_then(|booted| image(paths, backend, booted));
    match wanted.filter(|wanted| Some(wanted) != runs.as_ref()) {
        Some(wanted) => format!("bootc switch {}", switch_arguments(&wanted)),
        None => "bootc upgrade".into(),
    }
}

/// What a deployment's origin says it is of.
fn image(paths: &HostPaths, backend: Backend, id: &DeploymentId) -> Option<String> {
    let origin = match backend {
        Backend::Ostree => {
            let (stateroot, folder) = id.as_str().rsplit_once('-')?;
            format!("ostree/deploy/{stateroot}/deploy/{folder}.origin")
        }
        Backend::Composefs => format!("state/deploy/{id}/{id}.origin"),
    };
    let sysroot = RootDir::open(&paths.sysroot).ok()?;
    let (file, _) = sysroot.open_file(origin).ok()??;
    let mut text = Vec::new();
    file.take(LIMIT_BYTES).read_to_end(&mut text).ok()?;
    let origin = parse_unit(&text).ok()?;
    let image = origin.last("origin", "container-image-reference")?;
    Some(image.value.clone())
}

/// ostree's name of an image, `ostree-unverified-registry:NAME` or
/// `ostree-image-signed:TRANSPORT:NAME`, as arguments of `bootc switch`.
fn switch_arguments(image: &str) -> String {
    let (scheme, mut rest) = image.split_once(':').unwrap_or(("", image));
    if scheme.starts_with("ostree-remote-") {
        // The remote that has the keys.
        rest = rest.split_once(':').map_or(rest, |(_, rest)| rest);
    }
    if scheme.ends_with("-registry") {
        return rest.to_owned();
    }
    if let Some(name) = rest.strip_prefix("docker://") {
        return name.to_owned();
    }
    match rest.split_once(':') {
        Some((transport @ ("oci" | "oci-archive" | "containers-storage"), name)) => {
            format!("--transport {transport} {name}")
        }
        Some(("registry", name)) => name.to_owned(),
        _ => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::switch_arguments;

    #[test]
    fn every_form_of_name_is_known() {
        for (image, arguments) in [
            ("ostree-unverified-registry:quay.io/x/y:1", "quay.io/x/y:1"),
            (
                "ostree-unverified-image:docker://quay.io/x:1",
                "quay.io/x:1",
            ),
            ("ostree-image-signed:registry:quay.io/x:1", "quay.io/x:1"),
            ("ostree-remote-registry:os:quay.io/x:1", "quay.io/x:1"),
            ("ostree-remote-image:os:docker://quay.io/x:1", "quay.io/x:1"),
            (
                "ostree-unverified-image:oci:/var/x:1",
                "--transport oci /var/x:1",
            ),
        ] {
            assert_eq!(switch_arguments(image), arguments);
        }
    }
}
