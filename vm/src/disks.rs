//! The disks a guest gets, fresh for each boot.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::CheckName;

/// A disk of a machine.
#[derive(Debug)]
pub(crate) struct Attached {
    /// Its serial number, by which the guest finds it.
    pub(crate) serial: &'static str,
    /// Its content.
    pub(crate) image: PathBuf,
    /// Whether what the guest writes is forgotten.
    pub(crate) snapshot: bool,
    /// Whether its `/boot` says how to boot.
    pub(crate) boot_loader: bool,
    /// Where all that is written to it is logged, flushes too.
    pub(crate) log: Option<PathBuf>,
}

impl Attached {
    /// One whose image stays as it is.
    pub(crate) fn snapshot(serial: &'static str, image: PathBuf) -> Self {
        Self {
            serial,
            image,
            snapshot: true,
            boot_loader: false,
            log: None,
        }
    }
}

/// What a disk holds when the guest starts.
#[derive(Debug, Clone, Copy)]
struct Disk {
    serial: &'static str,
    mebibytes: u64,
    /// Program and arguments that make its filesystem; none leaves it blank.
    mkfs: &'static [&'static str],
}

/// Adding a disk is one line; `kernel-tests/src/disk.rs` mounts by serial.
///
/// Small ext4 filesystems get 1 KiB blocks unless told otherwise, on which
/// fs-verity with 4 KiB blocks does not work.
#[rustfmt::skip]
const DISKS: &[Disk] = &[
    Disk { serial: "store", mebibytes: 512, mkfs: &["mkfs.ext4", "-b", "4096", "-O", "verity"] },
    Disk { serial: "ext4-1k", mebibytes: 64, mkfs: &["mkfs.ext4", "-b", "1024", "-O", "verity"] },
    Disk { serial: "xfs", mebibytes: 512, mkfs: &["mkfs.xfs"] },
    Disk { serial: "btrfs", mebibytes: 256, mkfs: &["mkfs.btrfs"] },
    Disk { serial: "ext4-plain", mebibytes: 64, mkfs: &["mkfs.ext4", "-b", "4096", "-O", "^verity"] },
];

/// All of [`DISKS`], with their images in a folder.
pub(crate) fn make_all(folder: &Path, _: &[CheckName]) -> Result<Vec<Attached>> {
    let attached = |disk: &Disk| {
        let image = disk.make(folder)?;
        Ok(Attached {
            serial: disk.serial,
            image,
            snapshot: false,
            boot_loader: false,
            log: None,
        })
    };
    DISKS.iter().map(attached).collect()
}

impl Disk {
    /// Makes its image in a folder.
    fn make(&self, folder: &Path) -> Result<PathBuf> {
        let image = folder.join(format!("{}.img", self.serial));
        let file = File::create(&image).with_context(|| format!("create {}", image.display()))?;
        file.set_len(self.mebibytes << 20)
            .context("make a disk image")?;
        let Some((program, args)) = self.mkfs.split_first() else {
            return Ok(image);
        };
        let output = Command::new(program)
            .args(args)
            .arg("-q")
            .arg(&image)
            .output()
            .with_context(|| format!("run {program}: `make kernels` sets a machine up"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{program}: {}\n{said}",
            output.status
        );
        Ok(image)
    }
}
