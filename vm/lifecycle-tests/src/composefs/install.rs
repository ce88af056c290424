//! The disk as an installation leaves it.

use std::{fs, fs::File, os::unix::fs::PermissionsExt, path::Path, process::Command, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use composefs::{
    fs::read_filesystem,
    fsverity::{Algorithm, FsVerityHashValue as _, Sha512HashValue},
    repository::{Repository, RepositoryConfig},
};

use super::{ENTRIES, entry, write_state};

/// Plays bootc.
const BOOTC: &str = "#!/bin/sh
set -- /var/lib/lifecycle-tests/input/lifecycle-tests --bootc \"$@\"
case $3 in
  --version) echo bootc 1.16.9 ;;
  soft-reboot) exec \"$@\" ;; # mounts, for systemd to see
  *) exec unshare --mount sh -c 'mount -o remount,bind,rw /sysroot && exec \"$@\"' sh \"$@\" ;;
esac
";
/// Ordered as bootc's own.
const FINALIZE: &str = "[Unit]
DefaultDependencies=no
RequiresMountsFor=/sysroot /var
After=local-fs.target systemd-journal-flush.service
Before=basic.target final.target
Conflicts=final.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStop=/usr/bin/bootc composefs-finalize-staged
TimeoutStopSec=5m
";

/// Version 1 is installed; the others are images in the repository, as if they
/// had been pulled. `own` are the files that each has over `base`.
///
/// The kernel that this runs on may have no fs-verity: the first boot turns it
/// on for all that is in the repository.
pub fn install(sysroot: &Path, base: &Path, own: &[&str]) -> Result<()> {
    let config = RepositoryConfig::new(Algorithm::SHA512).set_insecure();
    let (repo, _new) =
        Repository::<Sha512HashValue>::init_path(File::open(sysroot)?, "composefs", config)?;
    let repo = Arc::new(repo);
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    add_bootc(base)?;
    let mut ids = Vec::new();
    for (own, version) in own.iter().zip(1..) {
        // A version has the names of all before it, and more.
        let mut copy = Command::new("cp");
        copy.args(["-a", "--remove-destination"]);
        let status = copy.arg(format!("{own}/.")).arg(base).status()?;
        ensure!(status.success(), "copy {own}: {status}");
        let folder = File::open(base).with_context(|| format!("open {}", base.display()))?;
        let tree = read_filesystem(folder.into(), ".".into(), Some(Arc::clone(&repo)));
        let tree = runtime.block_on(tree)?;
        let id = tree.commit_image(&repo, Some(&format!("host/v{version}")))?;
        ids.push(id.to_hex());
    }
    repo.sync()?;
    let id = ids.first().context("there is no host image")?;
    fs::create_dir_all(sysroot.join("state/os/default/var"))?;
    write_state(sysroot, id, base)?;
    for folder in [ENTRIES, &format!("boot/bootc_composefs-{id}")] {
        fs::create_dir_all(sysroot.join(folder))?;
    }
    let (name, text) = entry(id, false);
    fs::write(sysroot.join(ENTRIES).join(name), text)?;
    Ok(())
}

fn add_bootc(base: &Path) -> Result<()> {
    let bootc = base.join("usr/bin/bootc");
    fs::write(&bootc, BOOTC)?;
    fs::set_permissions(&bootc, fs::Permissions::from_mode(0o755))?;
    let unit = "usr/lib/systemd/system/bootc-finalize-staged.service";
    Ok(fs::write(base.join(unit), FINALIZE)?)
}
