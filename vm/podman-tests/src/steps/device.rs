//! A repository on a disk that fails and is well again: device mapper's
//! `flakey` and `error` targets below its filesystem.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use guest::{disk, tamper};
use rustix::io::Errno;

use super::Seen;
use crate::{
    common::{Scratch, podman::Podman, text},
    host::{Host, ONE, V1, V2},
};

/// The serial number of its disk, and the name of the device above that.
const NAME: &str = "flaky";
const SYSROOT: &str = "/flaky";
const STORE: &str = "/flaky-store";

/// What the device does.
#[derive(Debug, Clone, Copy)]
enum Behaviour {
    Well,
    FailsWrites,
    FailsAll,
}

impl Behaviour {
    fn table(self, below: &Path) -> String {
        let mut size = Command::new("blockdev");
        let sectors = text(size.arg("--getsz").arg(below));
        let (sectors, below) = (sectors.trim(), below.display());
        match self {
            Self::Well => format!("0 {sectors} linear {below} 0"),
            Self::FailsWrites => {
                format!("0 {sectors} flakey {below} 0 0 86400 1 error_writes")
            }
            Self::FailsAll => format!("0 {sectors} error"),
        }
    }

    fn set(self) {
        let table = self.table(&below());
        dmsetup(&["load", NAME, "--table", &table]);
        // What waits in the filesystem is for the new table.
        dmsetup(&["suspend", "--nolockfs", NAME]);
        dmsetup(&["resume", NAME]);
    }
}

fn below() -> PathBuf {
    disk::find(NAME).unwrap()
}

#[track_caller]
fn dmsetup(args: &[&str]) {
    let mut command = Command::new("dmsetup");
    text(command.args(["--noudevrules", "--noudevsync"]).args(args));
}

#[track_caller]
fn mount_device() {
    let mut mount = Command::new("mount");
    text(mount.arg(format!("/dev/mapper/{NAME}")).arg(SYSROOT));
}

#[track_caller]
fn mount_set(host: &Host) {
    let allow = if host.requires_verity {
        ""
    } else {
        "--allow-missing-verity "
    };
    host.exits(
        0,
        &format!("{allow}--sysroot {SYSROOT} mount --deployment {ONE} {STORE}"),
    );
}

/// As a host does that starts again.
#[track_caller]
fn again(host: &Host) {
    text(Command::new("umount").args(["--lazy", STORE]));
    text(Command::new("umount").arg(SYSROOT));
    mount_device();
    mount_set(host);
}

/// A call of `boundstore` for that disk.
fn on_disk(args: &str) -> String {
    format!("--sysroot {SYSROOT} {args}")
}

fn sync(deployment: &str, name: &str) -> String {
    let bound = Host::bound(name);
    on_disk(&format!("sync --deployment {deployment} --image {bound}"))
}

fn set_of(deployment: &str) -> PathBuf {
    let refs = Path::new(SYSROOT).join("composefs/streams/refs/boundstore/deployments");
    fs::read_link(refs.join(deployment)).unwrap()
}

fn runs() -> String {
    tamper::drop_caches().unwrap();
    let scratch = Scratch::new();
    let podman = Podman::new(scratch.join("podman"), Some(Path::new(STORE)));
    let got = podman.runtime(&format!("run --rm {V1}"));
    let said = String::from_utf8_lossy(&[got.stdout, got.stderr].concat()).into_owned();
    if got.status.success() {
        said.trim().to_owned()
    } else if said.contains("Input/output error") || said.contains("input/output error") {
        "EIO".to_owned()
    } else {
        said
    }
}

/// The set is at least as good as any file of the filesystem: ext4 that has given
/// up its journal becomes read-only, but from 6.6 to 6.14 it refuses reads too
/// (mended by "ext4: correct behavior under errors=remount-ro mode").
#[track_caller]
fn runs_if_files_are_read(beside: &Path) {
    let ran = runs();
    match fs::read(beside) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) && ran == "EIO" => {}
        read => assert_eq!(ran, "hello from v1", "{read:?}"),
    }
}

/// A sync meets the failing disk; the set there was stays and is shown.
pub fn writes_fail(host: &Host) -> Seen {
    for folder in [SYSROOT, STORE] {
        fs::create_dir_all(folder).unwrap();
    }
    let table = Behaviour::Well.table(&below());
    dmsetup(&["create", NAME, "--table", &table]);
    dmsetup(&["mknodes"]);
    mount_device();
    host.exits(0, &sync(ONE, V1));
    mount_set(host);
    let beside = Path::new(SYSROOT).join("none-of-ours");
    fs::write(&beside, "read").unwrap();
    // What ext4 has in its journal alone, and then cannot write to its place, is
    // not to be read until the journal is replayed: an unmount leaves none.
    again(host);
    assert_eq!(runs(), "hello from v1");
    let set = set_of(ONE);
    Behaviour::FailsWrites.set();
    // A deployment's new set, and one in place of the old.
    for deployment in [crate::host::TWO, ONE] {
        let failed = host.exits(1, &sync(deployment, V2));
        let said = String::from_utf8(failed.stderr).unwrap();
        for words in ["kernel's messages", "sync again", "the set it had"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    runs_if_files_are_read(&beside);
    // Now the journal is given up for certain.
    for _ in 0..2 {
        fs::write(Path::new(SYSROOT).join("new"), "lost").ok();
        let mut flush = Command::new("sync");
        flush.args(["--file-system", SYSROOT]).status().unwrap();
    }
    runs_if_files_are_read(&beside);
    Behaviour::Well.set();
    again(host);
    assert_eq!(set_of(ONE), set);
    host.exits(0, &on_disk("verify --deep"));
    assert_eq!(runs(), "hello from v1");
    host.exits(0, &sync(ONE, V2));
    host.exits(0, &sync(ONE, V1));
    host.exits(0, &on_disk("verify --deep"));
    Seen::works()
}

/// Everything fails: podman and `verify` say so, and nothing is taken away.
pub fn all_fails(host: &Host) -> Seen {
    Behaviour::FailsAll.set();
    tamper::drop_caches().unwrap();
    let damaged = runs();
    let verified = host.boundstore(&on_disk("verify --deep"));
    assert!(
        matches!(verified.status.code(), Some(1 | 3)),
        "{verified:?}"
    );
    for args in ["gc", "verify --deep --repair"] {
        let done = host.boundstore(&on_disk(args));
        assert!(!done.status.success(), "{args}: {done:?}");
    }
    Behaviour::Well.set();
    again(host);
    host.exits(0, &on_disk("verify --deep"));
    Seen::is(format!("{damaged}; {}", runs()), "EIO; hello from v1")
}
