//! What bootc does on its composefs backend, played as its source has it
//! (bootc 1.16.9, `crates/lib/src/bootc_composefs` and `crates/initramfs`):
//! the disk after an installation, the root at boot, and the verbs of the
//! program that the host image has as `/usr/bin/bootc`.

mod bootc;
mod install;
mod root;

pub use bootc::{NEWEST, bootc, owned, staged};
pub use install::install;
pub use root::{mount_root, seal};

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Of the boot entries and the state directories, both below the sysroot.
const ENTRIES: &str = "boot/loader/entries";
const STATE: &str = "state/deploy";
/// Keeps the image of a host image, `v1` say, in the repository.
const REFS: &str = "composefs/images/refs/host";

/// The deployment that a version of the host image makes.
fn id_of(sysroot: &Path, version: u32) -> Result<String> {
    let link = sysroot.join(REFS).join(format!("v{version}"));
    let target = fs::read_link(&link).with_context(|| format!("read {}", link.display()))?;
    let id = target.file_name().context("a link to nothing")?;
    Ok(id.to_string_lossy().into_owned())
}

/// All host images are of one version of Debian; GRUB sorts entries by the names
/// of their files, where it comes before what bootc tells them apart by.
const OS_VERSION: &str = "14";

const CHECKED: &str = "composefs=";
/// For kernels that cannot check what is read.
const UNCHECKED: &str = "composefs=?";

/// Lets every entry boot such a kernel, where the first was told to.
pub fn allow_unchecked(sysroot: &Path) -> Result<()> {
    for file in fs::read_dir(sysroot.join(ENTRIES))? {
        let path = file?.path();
        let entry = fs::read_to_string(&path)?;
        let entry = entry
            .replace(UNCHECKED, CHECKED)
            .replace(CHECKED, UNCHECKED);
        fs::write(path, entry)?;
    }
    Ok(())
}

/// A boot entry, as bootc writes it for GRUB and systemd-boot. The booted
/// deployment is second where another is to boot.
fn entry(id: &str, second: bool) -> (String, String) {
    let kernel = format!("/boot/bootc_composefs-{id}");
    // As what runs was told.
    let unchecked = fs::read_to_string("/proc/cmdline").is_ok_and(|it| it.contains(UNCHECKED));
    let argument = if unchecked { UNCHECKED } else { CHECKED };
    let (sort_key, priority) = if second { (1, 0) } else { (0, 1) };
    let text = format!(
        "title Debian GNU/Linux\nversion {OS_VERSION}\nsort-key bootc-debian-{sort_key}\n\
         linux {kernel}/vmlinuz\ninitrd {kernel}/initrd\noptions rw {argument}{id}\n"
    );
    (format!("bootc_debian-{OS_VERSION}-{priority}.conf"), text)
}

/// A deployment's state directory, with a copy of the `etc` of its tree.
fn write_state(sysroot: &Path, id: &str, tree: &Path) -> Result<()> {
    let state = sysroot.join(STATE).join(id);
    fs::create_dir_all(&state)?;
    let mut copy = std::process::Command::new("cp");
    let status = copy
        .arg("-a")
        .arg(tree.join("etc"))
        .arg(state.join("etc"))
        .status()?;
    anyhow::ensure!(status.success(), "copy /etc: {status}");
    std::os::unix::fs::symlink("../../os/default/var", state.join("var"))?;
    let digest = "0".repeat(64);
    let origin = format!(
        "[origin]\ncontainer-image-reference=ostree-unverified-image:docker://host\n\
         [boot]\nboot_type=bls\ndigest={digest}\n[image]\nmanifest_digest=sha256:{digest}\n"
    );
    fs::write(state.join(format!("{id}.origin")), origin)?;
    Ok(())
}
