//! The life of a set on a host with deployments, under systemd, on real kernels.
//!
//! One static program in three roles. `vm` asks it for the files of the host
//! images ([`host_image`]) and puts them on a disk as deployments. In the
//! virtual machine it is `/init` of the initramfs, which brings up the
//! deployment that the boot entry names ([`stage`]), and the one service there
//! that is not the host image's own, which runs the steps of [`steps`].
//!
//! ```text
//! boot of v1: sync, mount; v2 is staged, the guard brings its set
//!   -> v2 -> rolled back to v1, v2's set collected; v3 is staged without a registry
//!   -> v1 again, and why; v3 is staged again -> v3
//! ```
//! Between the arrows the machine really starts again, from its disk. Which
//! part comes next is a file in `/var`, which all deployments share.

#[path = "../../../tests/common/mod.rs"]
#[allow(unused_imports, unreachable_pub, reason = "the integration tests' own")]
mod common;
mod composefs;
mod host;
mod host_image;
mod stage;
mod steps;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    slice, thread,
    time::Duration,
};

use guest::report::{self, Port};

use crate::host::{Backend, Host};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--list"] => {
            let steps: Vec<_> = Backend::ALL.into_iter().flat_map(steps::all).collect();
            let steps: Vec<_> = steps.into_iter().flat_map(|part| part.steps).collect();
            report::list(&steps, |id| match id.split_once("::") {
                Some((backend, _)) => format!("{}{backend}", stage::OPTION),
                None => String::new(),
            })
        }
        ["--run"] => report::service(run),
        ["--host-image", version, to] => {
            host_image::write(version.parse().unwrap(), Path::new(to));
            ExitCode::SUCCESS
        }
        ["--install", sysroot, base, ref own @ ..] => {
            composefs::install(Path::new(sysroot), Path::new(base), own).unwrap();
            ExitCode::SUCCESS
        }
        ["--bootc", ref verb @ ..] => {
            composefs::bootc(verb).unwrap();
            ExitCode::SUCCESS
        }
        [] if std::process::id() == 1 => guest::stage::start(stage::stage),
        _ => {
            eprintln!("usage: lifecycle-tests --list; all else happens in the guest");
            ExitCode::from(2)
        }
    }
}

/// Runs the part that is to come, and starts the machine again for the next.
fn run() {
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(&home).unwrap();
    let done = home.join("parts-done");
    let at = fs::read_to_string(&done).map_or(0, |text| text.parse().unwrap());
    let port = Port::open(&Path::new(stage::INPUT).join("checks"));
    let mut parts = steps::all(stage::backend());
    let later = parts.split_off(at + 1);
    let Some(part) = parts.pop() else {
        panic!("there is no part {at}");
    };
    let host = Host::new(stage::backend());
    let mut steps = part.steps.iter();
    if let Some(failed) = steps.find(|step| !port.run(&host, slice::from_ref(*step))) {
        let why = format!("{failed:?} failed before it");
        port.not_run(steps.as_slice(), &why);
        for part in later {
            port.not_run(&part.steps, &why);
        }
        return port.end();
    }
    if later.is_empty() {
        return port.end();
    }
    fs::write(&done, (at + 1).to_string()).unwrap();
    drop(host);
    let how = part.then;
    if how == "reboot" {
        port.reboots();
    }
    println!("systemctl {how}");
    common::text(Command::new("systemctl").arg(how));
    // systemd ends this process on the way.
    thread::sleep(Duration::from_secs(600));
}
