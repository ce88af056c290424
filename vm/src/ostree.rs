//! A disk with deployments that ostree has made: the one of the host images
//! themselves, run in their tree of files.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{command::output, lifecycle::HostImages};

/// Version 1 is deployed as `host`, the others are commits `v2`, `v3` in the
/// repository.
///
/// The sysroot is not this machine's: nothing is flushed or frozen, and nothing
/// is made immutable (`OSTREE_SYSROOT_DEBUG`).
const SCRIPT: &str = "
export PATH=/usr/bin:/usr/sbin OSTREE_SYSROOT_DEBUG=skip-sync,mutable-deployments
cd /sysroot
ostree admin init-fs .
ostree config --repo=ostree/repo set core.fsync false
ostree config --repo=ostree/repo set sysroot.readonly true
ostree config --repo=ostree/repo set sysroot.bootloader none
ostree admin os-init --sysroot=. debian
ostree commit --repo=ostree/repo --branch=base --tree=dir=/run/base
for own in /run/own/*; do
  ostree commit --repo=ostree/repo --branch=v${own##*/} --tree=ref=base --tree=dir=$own
done
ostree refs --repo=ostree/repo --create=host v1
ostree admin deploy --sysroot=. --os=debian --karg=rw host
";

/// Makes the content of the disk; where its `/var` is.
pub(crate) fn deploy(images: &HostImages, sysroot: &Path) -> Result<&'static str> {
    let base = &images.base;
    fs::rename(base.join("etc"), base.join("usr/etc")).context("move /etc")?;
    // In a mount namespace of its own, with which all of it goes.
    let script = "
set -e
cd \"$1\"
mount --bind . .
cd \"$1\"
mount -t tmpfs tmpfs run
mkdir run/base run/own
mount --bind . run/base
mount --bind \"$2\" sysroot
mount --rbind /dev dev
mount -t proc proc proc
shift 3
for own; do cp -a \"$own\" run/own/; done
exec chroot . /bin/sh -ec \"$SCRIPT\"
";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(base)
        .arg(sysroot)
        .arg("--")
        .args(&images.own)
        .env("SCRIPT", SCRIPT);
    output(&mut command).context("deploy with ostree")?;
    Ok("ostree/deploy/debian/var")
}
