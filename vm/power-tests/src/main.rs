//! A host whose power is cut: `/init` of a virtual machine in one of two roles,
//! by the kernel's command line.
//!
//! ```text
//! power=load    syncs, swaps, removes and collects until it is killed  load.rs
//! power=check   says of each cut disk whether it is as it must be      check.rs
//! ```
//! Both run in Debian's root filesystem, without systemd: nothing but what is
//! tested writes to the disk. What the host does with it is in `vm/src/power`.

#[path = "../../../tests/common/mod.rs"]
#[allow(unused_imports, unreachable_pub, reason = "the integration tests' own")]
mod common;

mod check;
mod load;
mod marks;
mod on_disk;

use std::{convert::Infallible, env, fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use guest::{
    early,
    stage::{begin, mount_disk},
    sys,
};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, mount_move, unmount},
    process::{chdir, chroot},
};

/// Where `boundstore` and the images are.
const INPUT: &str = "/mnt";
const ROOT: &str = "/root";

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        // It has no checks that can be asked for one by one.
        Some("--list") => ExitCode::SUCCESS,
        None if std::process::id() == 1 => guest::stage::start(run),
        _ => {
            eprintln!("usage: power-tests --list; all else happens in the guest");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<Infallible> {
    begin()?;
    mount_disk("root", ROOT, MountFlags::empty())?;
    mount_disk("input", &format!("{ROOT}{INPUT}"), MountFlags::RDONLY)?;
    enter()?;
    let line = fs::read_to_string("/proc/cmdline").context("read /proc/cmdline")?;
    let role = line
        .split_whitespace()
        .find_map(|o| o.strip_prefix("power="));
    match role {
        Some("load") => load::run()?,
        Some("check") => check::run()?,
        other => bail!("there is no role {other:?}"),
    }
    sys::debug_exit(0);
    bail!("the machine goes on")
}

/// Makes [`ROOT`] the root, with all that podman needs and no systemd.
fn enter() -> Result<()> {
    for (_, target) in early::KERNELS {
        unmount(target, UnmountFlags::DETACH).with_context(|| format!("unmount {target}"))?;
    }
    chdir(ROOT)?;
    mount_move(".", "/").context("move the root")?;
    chroot(".").context("chroot")?;
    chdir("/")?;
    early::mount_all(&early::KERNELS)?;
    for (kind, target) in [
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        mount(kind, target, kind, MountFlags::empty(), c"")
            .with_context(|| format!("mount {target}"))?;
    }
    Ok(())
}
