//! SOURCE: where an image is to come from, as text.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::name::{ImageName, without_userinfo};

/// A transport and what it needs to find an image, as containers-transports(5)
/// writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SourceRef {
    /// `docker://NAME`: a registry.
    Docker(ImageName),
    /// `oci:DIR[:REF]`: an image layout.
    Oci {
        /// The folder.
        path: PathBuf,
        /// `org.opencontainers.image.ref.name`, or `@sha256:..`.
        reference: Option<String>,
    },
    /// `oci-archive:FILE[:REF]`: a tar of a layout.
    OciArchive {
        /// The file.
        path: PathBuf,
        /// As for `oci:`.
        reference: Option<String>,
    },
    /// `docker-archive:FILE[:REF]`: what `docker save` writes.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// A name, or `@N` for the N-th image.
        reference: Option<String>,
    },
    /// `containers-storage:[[DRIVER@]GRAPHROOT[+RUNROOT][:OPTIONS]]REF`
    ContainersStorage {
        /// The graph root; containers-storage's own default where none is given.
        path: Option<PathBuf>,
        /// The driver, where one is given; only overlay is read.
        driver: Option<String>,
        /// A name, a digest or an image ID.
        reference: Option<String>,
    },
}

/// A text that is no SOURCE.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no image source: {reason}; write docker://NAME, oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF] or containers-storage:[[DRIVER@]ROOT]REF"
)]
pub struct SourceRefError {
    text: String,
    reason: String,
}

impl FromStr for SourceRef {
    type Err = SourceRefError;

    fn from_str(text: &str) -> Result<Self, SourceRefError> {
        let fail = |reason: &str| SourceRefError {
            text: without_userinfo(text),
            reason: reason.to_owned(),
        };
        let (transport, rest) = text
            .split_once(':')
            .ok_or_else(|| fail("it names no transport"))?;
        let file = || {
            let (path, reference) = split_path(rest);
            if path.is_empty() {
                return Err(fail("the path is missing"));
            }
            Ok((PathBuf::from(path), reference.map(str::to_owned)))
        };
        match transport {
            "docker" => {
                let name = rest
                    .strip_prefix("//")
                    .ok_or_else(|| fail("docker: is followed by //"))?;
                let name = name.parse().map_err(|error| fail(&format!("{error}")))?;
                Ok(Self::Docker(name))
            }
            "oci" => file().map(|(path, reference)| Self::Oci { path, reference }),
            "oci-archive" => file().map(|(path, reference)| Self::OciArchive { path, reference }),
            "docker-archive" => {
                file().map(|(path, reference)| Self::DockerArchive { path, reference })
            }
            "containers-storage" => storage(rest).map_err(fail),
            _ => Err(fail("the transport is not known")),
        }
    }
}

/// Splits `DIR[:REF]` at the first colon, as containers/image does, and
/// `DIR@sha256:..` before the at sign.
fn split_path(text: &str) -> (&str, Option<&str>) {
    let colon = text.find(':');
    let digest = text.find("@sha256:");
    match (colon, digest) {
        (Some(colon), Some(at)) if at < colon => (&text[..at], Some(&text[at..])),
        (Some(colon), _) => {
            let reference = &text[colon + 1..];
            (&text[..colon], (!reference.is_empty()).then_some(reference))
        }
        _ => (text, None),
    }
}

fn storage(text: &str) -> Result<SourceRef, &'static str> {
    let (spec, reference) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or("the [ is not closed")?,
        None => ("", text),
    };
    if reference.starts_with('[') {
        return Err("no reference starts with [");
    }
    // [driver@graphroot+runroot:options]: runroot and options change nothing
    // for a reader.
    let (driver, root) = match spec.split_once('@') {
        Some((driver, root)) => (Some(driver), root),
        None => (None, spec),
    };
    let root = root.split(':').next().unwrap_or_default();
    let root = root.split('+').next().unwrap_or_default();
    if !root.is_empty() && !root.starts_with('/') {
        return Err("the graph root must be an absolute path");
    }
    Ok(SourceRef::ContainersStorage {
        path: (!root.is_empty()).then(|| root.into()),
        driver: driver
            .filter(|driver| !driver.is_empty())
            .map(str::to_owned),
        reference: (!reference.is_empty()).then(|| reference.to_owned()),
    })
}

impl fmt::Display for SourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, reference) = match self {
            Self::Docker(name) => return write!(f, "docker://{name}"),
            Self::Oci { path, reference } => ("oci", path, reference),
            Self::OciArchive { path, reference } => ("oci-archive", path, reference),
            Self::DockerArchive { path, reference } => ("docker-archive", path, reference),
            Self::ContainersStorage {
                path,
                driver,
                reference,
            } => {
                f.write_str("containers-storage:")?;
                match (driver, path) {
                    (None, None) => {}
                    (driver, path) => {
                        let at = driver.as_ref().map(|driver| format!("{driver}@"));
                        let path = path.as_ref().map(|path| path.display().to_string());
                        let (at, path) = (at.unwrap_or_default(), path.unwrap_or_default());
                        write!(f, "[{at}{path}]")?;
                    }
                }
                return f.write_str(reference.as_deref().unwrap_or_default());
            }
        };
        write!(f, "{transport}:{}", path.display())?;
        match reference {
            Some(reference) if reference.starts_with("@sha256:") => f.write_str(reference),
            Some(reference) => write!(f, ":{reference}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let hex = "ab".repeat(32);
        for (text, written) in [
            (
                "docker://alpine",
                "docker://docker.io/library/alpine:latest".into(),
            ),
            ("oci:/srv/images", "oci:/srv/images".into()),
            ("oci:/srv/images:", "oci:/srv/images".into()),
            ("oci:dir:quay.io/a/b:1", "oci:dir:quay.io/a/b:1".into()),
            (
                &format!("oci:dir@sha256:{hex}"),
                format!("oci:dir@sha256:{hex}"),
            ),
            (
                &format!("oci:dir:@sha256:{hex}"),
                format!("oci:dir@sha256:{hex}"),
            ),
            (
                &format!("oci:dir:quay.io/a@sha256:{hex}"),
                format!("oci:dir:quay.io/a@sha256:{hex}"),
            ),
            ("oci-archive:a.tar:x", "oci-archive:a.tar:x".into()),
            ("docker-archive:a.tar:@1", "docker-archive:a.tar:@1".into()),
            (
                "containers-storage:alpine",
                "containers-storage:alpine".into(),
            ),
            (
                "containers-storage:[overlay@/s+/run:overlay.x=y]q.io/a",
                "containers-storage:[overlay@/s]q.io/a".into(),
            ),
            ("containers-storage:[/s]", "containers-storage:[/s]".into()),
            ("containers-storage:", "containers-storage:".into()),
        ] {
            let source: SourceRef = text.parse().unwrap();
            assert_eq!(source.to_string(), written);
            assert_eq!(written.parse::<SourceRef>().unwrap(), source);
        }
        for bad in [
            "",
            "alpine",
            "oci:",
            "oci::x",
            "docker:alpine",
            "docker://",
            "docker://A",
            "dir:/x",
            "containers-storage:[overlay@rel]x",
            "containers-storage:[/s",
            "containers-storage:[][/s]x",
        ] {
            let text = bad.parse::<SourceRef>().unwrap_err().to_string();
            assert!(text.contains("oci-archive:FILE"), "{text}");
        }
    }
}
