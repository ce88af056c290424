//! Steps with containers.

use std::fs;

use super::Case;

/// The check of the files that the image itself lists with their digests.
const CHECK: &str = "sha256sum --check --quiet /app/SHA256SUMS && wc -l </app/SHA256SUMS";

pub fn run(case: &Case) {
    let (podman, image) = (&case.podman, case.name);
    let said = podman.runtime(&format!("run --rm {image}"));
    assert_eq!(
        String::from_utf8_lossy(&said.stdout),
        "hello from v1\n",
        "{said:?}"
    );
    let counted = podman.run("--rm", image, CHECK);
    assert!(counted.trim().parse::<u32>().unwrap() > 200, "{counted}");
    // Read-only too, where there is no container layer to hide behind.
    let said = podman.run("--rm --read-only", image, "cat /srv/turns/file/inside");
    assert_eq!(said, "in a directory now\n");
    assert_eq!(podman.own_layers(), [""; 0]);
    let said = podman.run(
        "--rm",
        image,
        "ls /srv/opaque /srv/links; stat -c %h /srv/links/a",
    );
    assert!(
        said.starts_with("/srv/links:\na\nc\ndangling\nsymlink\n\n/srv/opaque:\nnew\n"),
        "{said}"
    );
    let capability = podman.run(
        "--rm",
        image,
        "stat -c '%a %u %g' /srv/attr/setuid /srv/attr",
    );
    assert_eq!(capability, "6755 0 42\n2750 0 0\n");
}

pub fn run_that_writes(case: &Case) {
    let script = "echo more >>/app/version && cat /app/version \
        && rm -rf /srv/data/d01 && mv /srv/data/d02 /srv/moved && ls /srv/moved | head -n 1 \
        && chown 7:7 /srv/big && sha256sum /srv/big && mkdir /srv/data/d01 && ls /srv/data/d01";
    let said = case.podman.run("--rm", case.name, script);
    let big = case
        .podman
        .run("--rm", case.name, "stat -c %u /srv/big; sha256sum /srv/big");
    let (owner, sum) = big.split_once('\n').unwrap();
    assert_eq!(owner, "0");
    assert_eq!(said, format!("v1\nmore\nf00500\n{sum}"));
    assert_eq!(
        case.podman.run("--rm", case.name, "cat /app/version"),
        "v1\n"
    );
}

pub fn create_and_mount(case: &Case) {
    let podman = &case.podman;
    let id = podman.ok(&format!("create --name writer {}", case.name));
    let at = podman.ok("mount writer");
    let at = std::path::Path::new(at.trim());
    assert_eq!(fs::read_to_string(at.join("app/version")).unwrap(), "v1\n");
    fs::write(at.join("app/version"), "changed\n").unwrap();
    podman.ok("unmount writer");
    let found = podman.runtime("start --attach writer");
    assert_eq!(
        String::from_utf8_lossy(&found.stdout),
        "hello from changed\n",
        "{found:?}"
    );
    assert_eq!(podman.ok("rm writer").trim(), "writer");
    assert_eq!(id.trim().len(), 64);
}

pub fn container_diff(case: &Case) {
    let podman = &case.podman;
    podman.ok(&format!("create --name writer {}", case.name));
    let at = podman.ok("mount writer");
    let at = std::path::Path::new(at.trim());
    fs::write(at.join("app/version"), "changed\n").unwrap();
    fs::write(at.join("srv/new"), "new\n").unwrap();
    fs::remove_file(at.join("srv/big")).unwrap();
    podman.ok("unmount writer");
    let shown = podman.ok("diff writer");
    // The directory of a changed file is listed or not, as the driver pleases.
    let mut lines: Vec<&str> = shown.lines().filter(|line| *line != "C /app").collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["A /srv/new", "C /app/version", "C /srv", "D /srv/big"]
    );
}
