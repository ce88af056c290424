//! PID 1 of the initramfs: to the systemd of a Debian root filesystem.

use std::convert::Infallible;

use anyhow::Result;
use guest::stage::{begin, mount_disk, mount_run, switch_root};
use rustix::mount::MountFlags;

/// Where this program, `boundstore` and the images are in the guest.
pub const INPUT: &str = "/mnt";
/// The service that systemd starts; nothing else is asked of it.
const UNIT: (&str, &str) = ("podman-tests.service", include_str!("podman-tests.service"));
const ROOT: &str = "/root";

/// See [`guest::stage::start`].
pub fn stage() -> Result<Infallible> {
    begin()?;
    mount_disk("root", ROOT, MountFlags::empty())?;
    mount_disk("input", &format!("{ROOT}{INPUT}"), MountFlags::RDONLY)?;
    mount_run(&format!("{ROOT}/run"), UNIT, "multi-user.target")?;
    switch_root(ROOT)
}
