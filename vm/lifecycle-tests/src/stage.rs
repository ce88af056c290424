//! PID 1 of the initramfs: to the systemd of the deployment that is to boot.

use std::{convert::Infallible, fs, os::unix::fs::symlink, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use guest::stage::{begin, mount_disk, mount_run, switch_root};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_move, unmount};

use crate::{composefs, host::Backend};

/// Where this program and the images are in the guest.
pub const INPUT: &str = "/var/lib/lifecycle-tests/input";
/// Of the kernel's command line: which backend the disk has.
pub const OPTION: &str = "lifecycle=";
/// The service that systemd starts beside what the host image has.
const UNIT: (&str, &str) = (
    "lifecycle-tests.service",
    include_str!("lifecycle-tests.service"),
);
const SYSROOT: &str = "/sysroot";
const ROOT: &str = "/root";

/// See [`guest::stage::start`].
pub fn stage() -> Result<Infallible> {
    begin()?;
    mount_disk("root", SYSROOT, MountFlags::empty())?;
    let requires_verity = requires_verity();
    mount_run("/run", UNIT, "multi-user.target")?;
    let root = match backend() {
        Backend::Ostree => {
            ostree_prepare_root()?;
            SYSROOT
        }
        Backend::Composefs => {
            let id = option("composefs=").context("the boot entry names no deployment")?;
            let id = match id.strip_prefix('?') {
                Some(id) => {
                    composefs::allow_unchecked(Path::new(SYSROOT))?;
                    id
                }
                None => &id,
            };
            composefs::seal(Path::new(SYSROOT))?;
            composefs::mount_root(Path::new(SYSROOT), id, Path::new(ROOT))?;
            ROOT
        }
    };
    if !requires_verity {
        // Else no set is shown.
        let folder = Path::new(root).join("etc/boundstore");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("config.toml"), "allow-missing-verity = true\n")?;
    }
    mount_move("/run", format!("{root}/run")).context("move /run")?;
    switch_root(root)
}

/// Whether this kernel's overlay can be told to require fs-verity.
fn requires_verity() -> bool {
    let options = c"metacopy=on,verity=require,lowerdir=/sysroot/boot:/sysroot/lost+found";
    let at = "/tmp";
    let mounted = mount("overlay", at, "overlay", MountFlags::RDONLY, options);
    mounted
        .and_then(|()| unmount(at, UnmountFlags::empty()))
        .is_ok()
}

/// What the command line says.
pub fn backend() -> Backend {
    let name = option(OPTION).expect("no backend on the command line");
    Backend::ALL
        .into_iter()
        .find(|backend| backend.name() == name)
        .expect("an unknown backend")
}

/// The value of an option of the kernel's command line.
pub fn option(key: &str) -> Option<String> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let value = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix(key));
    value.map(str::to_owned)
}

/// ostree's own program, run in this initramfs with the `/usr` of the
/// deployment, as if it had been packed from there.
fn ostree_prepare_root() -> Result<()> {
    let target = option("ostree=").context("the boot entry names no deployment")?;
    for folder in ["/usr", "/etc"] {
        fs::create_dir_all(folder)?;
    }
    for (link, to) in [("/lib", "usr/lib"), ("/lib64", "usr/lib64")] {
        symlink(to, link)?;
    }
    let usr = Path::new(SYSROOT)
        .join(target.trim_start_matches('/'))
        .join("usr");
    mount_bind(&usr, "/usr").with_context(|| format!("bind {}", usr.display()))?;
    let mut command = Command::new("/usr/lib/ostree/ostree-prepare-root");
    let status = command
        .arg(SYSROOT)
        .status()
        .context("ostree-prepare-root")?;
    ensure!(status.success(), "ostree-prepare-root: {status}");
    unmount("/usr", UnmountFlags::DETACH).context("unmount /usr")
}
