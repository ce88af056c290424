//! Steps that try to harm the store, and other podmans that meet it.

use std::{
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use super::{
    super::{output, podman::Podman},
    Case,
};

fn still_there(case: &Case) {
    let listed = case.podman.images();
    assert!(listed.contains(&(case.name.to_owned(), true)), "{listed:?}");
    assert_eq!(
        case.podman.run("--rm", case.name, "cat /app/version"),
        "v1\n"
    );
}

pub fn rmi(case: &Case) {
    let said = case.podman.fails(125, &format!("rmi {}", case.name));
    assert!(said.contains("read-only"), "{said}");
    still_there(case);
}

pub fn rmi_force(case: &Case) {
    let said = case.podman.fails(125, &format!("rmi -f {}", case.name));
    assert!(said.contains("read-only"), "{said}");
    let said = case
        .podman
        .fails(125, &format!("rmi -f {}", case.image.id()));
    assert!(said.contains("read-only"), "{said}");
    still_there(case);
}

pub fn image_prune(case: &Case) {
    case.podman.ok("image prune --all --force");
    still_there(case);
}

pub fn system_prune(case: &Case) {
    case.podman
        .ok(&format!("create --name writer {}", case.name));
    case.podman.ok("system prune --all --force --volumes");
    assert_eq!(case.podman.ok("ps --all --quiet"), "");
    still_there(case);
}

pub fn system_reset(case: &Case) {
    case.podman
        .ok(&format!("tag {} localhost/other:tag", case.name));
    case.podman.ok("system reset --force");
    still_there(case);
}

/// With its own driver it cannot see these images, but it must work.
pub fn vfs_driver(case: &Case) {
    assert_eq!(case.podman.ok("--storage-driver vfs images --quiet"), "");
    case.podman.ok("--storage-driver vfs info");
}

pub fn service_sees_swap(podman: &Podman, before: &[&str], swap: impl FnOnce(), after: &[&str]) {
    let socket = podman.root().with_file_name("socket");
    let url = format!("unix://{}", socket.display());
    let mut service = podman.command(&format!("system service --time 0 {url}"));
    let service = Stopped(
        service
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let remote = |args: &str| {
        let mut command = podman.command(&format!("--remote --url {url} {args}"));
        output(&mut command)
    };
    for _ in 0..600 {
        if socket.exists() && remote("version").status.success() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let names = || {
        let listed = remote("images --format {{.Repository}}:{{.Tag}}");
        assert!(listed.status.success(), "{listed:?}");
        let mut names: Vec<String> = String::from_utf8(listed.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), before);
    swap();
    assert_eq!(names(), after);
    drop(service);
}

struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
