//! The store as plain directories, and containers in user namespaces of their
//! own, which a mounted set cannot have.

use std::fs;

use super::Seen;
use crate::{
    common::{Scratch, podman::Podman},
    host::{Host, V1, V2},
};

const SCRIPT: &str = "cat /app/version; stat -c '%u %g' /app/version; touch /app/new; \
    stat -c '%u %g' /app/new; head -1 /proc/self/uid_map";

/// Embeds, with `options`; podman does with it what it does with its own.
fn embedded(host: &Host, options: &str) -> Seen {
    let scratch = Scratch::new();
    let place = scratch.join("store");
    let images = [V1, V2].map(|name| format!("--image {}", Host::bound(name)));
    host.exits(
        0,
        &format!(
            "embed {options} {} --output {}",
            images.join(" "),
            place.display()
        ),
    );
    let podman = Podman::new(scratch.join("podman"), Some(&place));
    assert_eq!(
        podman.images(),
        [V1, V2].map(|name| (name.to_owned(), true))
    );
    for (name, version) in [(V1, "v1"), (V2, "v2")] {
        let said = podman.run("--rm", name, "cat /app/version");
        assert_eq!(said.trim(), version);
    }
    let archive = scratch.join("saved.tar");
    let save = format!(
        "save --format oci-archive --output {} {V1}",
        archive.display()
    );
    podman.ok(&save);
    fs::remove_file(archive).unwrap();

    // Ids that podman hands out itself are those of the user "containers", who
    // must be there for libsubid to find them.
    for (file, line) in [
        (
            "/etc/passwd",
            "containers:x:990:990::/nonexistent:/usr/sbin/nologin",
        ),
        ("/etc/group", "containers:x:990:"),
        ("/etc/subuid", "containers:1000000:1048576"),
        ("/etc/subgid", "containers:1000000:1048576"),
    ] {
        let had = fs::read_to_string(file).unwrap_or_default();
        if !had.contains("containers:") {
            let had = had.trim_end();
            fs::write(file, format!("{had}\n{line}\n").trim_start()).unwrap();
        }
    }
    // The image has files of uid 4000000000, for which podman would want as many
    // ids, whatever store it is in.
    for (option, least) in [
        ("--uidmap 0:100000:65536 --gidmap 0:100000:65536", 100_000),
        ("--userns=auto:size=65536", 1),
    ] {
        let said = podman.run(&format!("--rm {option}"), V1, SCRIPT);
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(
            words[..6],
            ["v1", "0", "0", "0", "0", "0"],
            "{option}: {said}"
        );
        let first: u64 = words[6].parse().unwrap();
        assert!(first >= least, "{option}: {said}");
    }
    Seen::works()
}

/// As it is by default.
pub fn in_place(host: &Host) -> Seen {
    embedded(host, "")
}

/// With hard links across the trees of layers.
pub fn hardlinked(host: &Host) -> Seen {
    embedded(host, "--hardlink")
}
