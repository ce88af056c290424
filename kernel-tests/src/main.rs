//! What boundstore says of kernels, checked by running on one.
//!
//! One static program in all roles: `/init` of a virtual machine that `vm`
//! boots, a process for each check, and the `boundstore` command itself, for
//! checks of its exit statuses.
//!
//! # Adding a check
//!
//! One function and one entry of its section's table in `checks/`: the function
//! does something and tells in a few words what came of it; `expect` says what
//! should have, by what this kernel was found to be able to, never by its
//! version. It gets a folder of its own on ext4 with fs-verity
//! ([`guest::Guest::path`]) and a mount namespace of its own, so that nothing
//! has to be cleaned up. `fixture/` makes repositories and damages them.
//!
//! What a section's kernel must be told at boot says `checks::kernel_options`: it
//! is booted once more for that.
//!
//! A new capability is one variant and one line in `probes.rs`.

mod capability;
mod check;
mod checks;
mod early;
mod errno;
mod fixture;
mod guest;
mod init;
mod kmsg;
mod probes;
mod sys;

use std::{env, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let mut args = env::args();
    let name = args.next().unwrap_or_default();
    if Path::new(&name)
        .file_name()
        .is_some_and(|name| name == "boundstore")
    {
        return boundstore::cli::run(env::args_os());
    }
    if name.ends_with(fixture::selinux::MATCHPATHCON) {
        return fixture::selinux::matchpathcon();
    }
    match (args.next().as_deref(), args.next()) {
        (Some("--list"), None) => {
            for (id, check) in checks::all() {
                println!("{id}\t{}\t{}", check.row, checks::kernel_options(&id));
            }
            ExitCode::SUCCESS
        }
        (Some("--check"), Some(id)) => guest::run_check(&id),
        (Some("--user-namespace"), None) => fixture::user_namespace::hold(),
        (None, None) if std::process::id() == 1 => init::run(),
        _ => {
            eprintln!("usage: kernel-tests --list; all else happens in the guest");
            ExitCode::from(2)
        }
    }
}
