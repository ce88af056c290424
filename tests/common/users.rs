//! Users of a store in podman's own: a name and two containers of an image of
//! the store, an image built on it, and the commands that their owner gives.

use super::podman::Podman;

/// The name given to the image of the store.
pub const MINE: &str = "localhost/mine:1";
/// The image built on it.
pub const BUILT: &str = "localhost/built:1";

/// What an owner, and the services of a host, do all day.
const COMMANDS: [&str; 22] = [
    "images",
    "images --all --digests",
    "ps --all --size",
    "system df",
    "info",
    "container inspect ran",
    "start --attach ran",
    "start --attach fresh",
    "diff ran",
    "export --output ARCHIVE fresh",
    "commit --quiet ran localhost/committed:1",
    "image rm localhost/committed:1",
    "image inspect localhost/mine:1",
    "image exists localhost/mine:1",
    "image tree localhost/mine:1",
    "history localhost/mine:1",
    "run --rm localhost/mine:1 true",
    "run --rm localhost/built:1 true",
    "save --quiet --output ARCHIVE localhost/mine:1",
    "save --quiet --output ARCHIVE localhost/built:1",
    "image prune --force",
    "container prune --force --filter label=none",
];

/// Makes the users of `name`: the containers `ran` and `fresh`, [`MINE`] and
/// [`BUILT`].
pub fn make(podman: &Podman, name: &str) {
    podman.ok(&format!("tag {name} {MINE}"));
    podman.ok(&format!("create --name ran {name} cat /app/version"));
    assert_eq!(starts(podman, "ran"), "v1\n");
    podman.ok(&format!("create --name fresh {MINE} cat /app/version"));
    podman.ok(&format!("commit --quiet ran {BUILT}"));
}

/// What a container says that is started.
pub fn starts(podman: &Podman, container: &str) -> String {
    let started = podman.runtime(&format!("start --attach {container}"));
    assert!(started.status.success(), "{started:?}");
    String::from_utf8(started.stdout).unwrap()
}

/// Which of the commands fail.
pub fn failing(podman: &Podman) -> Vec<&'static str> {
    let archive = podman.root().with_file_name("saved.tar");
    let fails = |command: &&'static str| {
        let _absent = std::fs::remove_file(&archive);
        let command = command.replace("ARCHIVE", &archive.display().to_string());
        let output = podman.runtime(&command);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            println!("podman {command}: {said}");
        }
        !output.status.success()
    };
    COMMANDS.into_iter().filter(fails).collect()
}
