//! Steps that make images on top of one in the store.

use std::fs;

use super::{super::image::strings, Case};

pub fn tag(case: &Case) {
    let podman = &case.podman;
    podman.ok(&format!("tag {} localhost/other:tag", case.name));
    assert_eq!(
        podman.run("--rm", "localhost/other:tag", "cat /app/version"),
        "v1\n"
    );
    let names: Vec<String> = podman.images().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"localhost/other:tag".into()), "{names:?}");
    assert_eq!(podman.own_layers(), [""; 0]);
    podman.ok("untag localhost/other:tag localhost/other:tag");
    podman.ok(&format!("image exists {}", case.name));
}

pub fn commit(case: &Case) {
    let podman = &case.podman;
    let script = "echo committed >/app/version; rm /srv/links/a; chown 5:6 /srv/big; \
        mv /srv/data/d03 /srv/moved; setfattr -h -n user.x -v y /app 2>/dev/null; true";
    podman.run("--name writer", case.name, script);
    podman.ok("commit --quiet writer localhost/committed:1");
    let script = "cat /app/version; ls /srv/links; stat -c '%u %g %s' /srv/big; \
        ls /srv/moved | wc -l; ls /srv/data | grep -c d03; \
        grep -v /d03/ /app/SHA256SUMS | sha256sum --check --quiet && echo right bytes";
    let said = podman.run("--rm", "localhost/committed:1", script);
    let wanted = "committed\nc\ndangling\nsymlink\n5 6 12582912\n250\n0\nright bytes\n";
    assert_eq!(said, wanted);
    assert_lower_layers(case, "localhost/committed:1", 1);
    podman.ok("rm writer");
}

pub fn build(case: &Case) {
    let podman = &case.podman;
    let context = case.scratch.dir("context");
    let containerfile = format!(
        "FROM {}\nCOPY added /app/added\nRUN cat /app/version /app/added >/app/both && rm /app/payload\n\
         CMD [\"cat\", \"/app/both\"]\n",
        case.name
    );
    fs::write(context.join("Containerfile"), containerfile).unwrap();
    fs::write(context.join("added"), "added\n").unwrap();
    podman.ok(&format!(
        "build --quiet --isolation chroot --network host --pull-never --layers --tag localhost/built:1 {}",
        context.display()
    ));
    let said = podman.runtime("run --rm localhost/built:1");
    assert_eq!(
        String::from_utf8_lossy(&said.stdout),
        "v1\nadded\n",
        "{said:?}"
    );
    let said = podman.run("--rm", "localhost/built:1", "ls /app");
    assert_eq!(said, "SHA256SUMS\nadded\nboth\nhello\nversion\n");
    assert_lower_layers(case, "localhost/built:1", 2);
}

/// `name` has `more` layers on top of the subject's, and only those are in
/// the primary store.
fn assert_lower_layers(case: &Case, name: &str, more: usize) {
    let found = &case.podman.json(&format!("image inspect {name}"))[0];
    let layers = strings(&found["RootFS"]["Layers"]);
    let own = case.image.diff_ids();
    assert_eq!(&layers[..own.len()], &own[..]);
    assert_eq!(layers.len(), own.len() + more);
    let file = case.scratch.join("made.tar");
    case.podman
        .ok(&format!("save --output {} {name}", file.display()));
}
