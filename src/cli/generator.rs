//! `boundstore generator`: what systemd calls before it knows any unit, by
//! `system-generators/boundstore-generator`.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{
    Global,
    failure::{Exit, Failure},
};
use crate::{deployment::boot_units, error::Doing, sys};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where units go that the administrator's can replace
    normal: PathBuf,
    /// Where those go that nothing replaces, and those that anything does
    #[arg(num_args = 0..=2)]
    _others: Vec<PathBuf>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let command_line = global.host_root.join("proc/cmdline");
    let command_line = fs::read_to_string(&command_line).doing("read", &command_line)?;
    let mounts = sys::mount_table_of(&global.host_root.join("proc/self/mountinfo"))?;
    let root_source = sys::top_mount(&mounts, Path::new("/")).map(|mount| mount.source.as_str());
    // A broken file must not leave a host without its units.
    let (config, broken) = global.config();
    for unit in boot_units(&command_line, root_source, config.boot.on_failure) {
        enable(&args.normal, &unit)?;
    }
    broken.map_or(Ok(Exit::Done), Err)
}

/// systemd takes the name of the link, whatever it leads to.
fn enable(folder: &Path, unit: &str) -> Result<(), Failure> {
    let link = folder.join(unit);
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).doing("create directory", parent)?;
    }
    let name = Path::new(unit).file_name().unwrap_or_default();
    match symlink(Path::new("/usr/lib/systemd/system").join(name), &link) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => Ok(made.doing("create link", &link)?),
    }
}
