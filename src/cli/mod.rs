//! The command line: the only place that prints, reads the environment or
//! knows colour. One file per verb.

mod bootc;
mod bundle;
mod du;
mod embed;
mod escape;
mod failure;
mod gc;
mod generator;
mod guard;
mod images;
mod lint;
mod lock;
mod mount;
mod output;
mod primary;
mod progress;
mod remove;
mod repair;
mod selector;
mod set_args;
mod status;
mod sync;
mod transfer;
mod verify;
mod watchdog;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use self::{
    failure::{Exit, Failure},
    output::Output,
};
use crate::{
    config::Config,
    deployment::host::{Host, HostPaths, detect},
    repo, sys,
};

const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  failed
  2  wrong usage
  3  unhealthy, stale or corrupt (status, verify, lint, lock --check)
  4  not now, try again (network, a lock that others hold)
  5  refused (policy, pin, fs-verity, foreign owner)";

/// Keeps the app images that a bootc host is bound to in the host's own
/// composefs repository, and shows each deployment exactly its own set, where
/// podman finds it as an additional image store.
#[derive(Debug, Parser)]
#[command(name = "boundstore", version, after_help = EXIT_STATUS)]
struct Args {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What counts for every verb.
#[derive(Debug, clap::Args)]
struct Global {
    /// The physical root of the host
    #[arg(long, global = true, value_name = "DIR", default_value = "/sysroot")]
    sysroot: PathBuf,
    /// The composefs repository [default: SYSROOT/composefs]
    #[arg(long, global = true, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// The root of the running system: another file tree can stand for it
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "DIR",
        default_value = "/"
    )]
    host_root: PathBuf,
    /// Do without fs-verity: the kernel then checks nothing that containers read
    #[arg(long, global = true)]
    allow_missing_verity: bool,
    /// Write the result as one JSON document
    #[arg(long, global = true)]
    json: bool,
    /// Say more, on stderr
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Say nothing but errors
    #[arg(short, long, global = true)]
    quiet: bool,
}

impl Global {
    fn repo(&self) -> PathBuf {
        self.repo
            .clone()
            .unwrap_or_else(|| repo::default_path(&self.sysroot))
    }

    /// The host's deployments; `None` where it has none of its own.
    fn host(&self) -> Result<Option<Box<dyn Host>>, Failure> {
        Ok(detect(&self.host_paths())?)
    }

    fn host_paths(&self) -> HostPaths {
        HostPaths {
            root: self.host_root.clone(),
            sysroot: self.sysroot.clone(),
            repo: self.repo(),
        }
    }

    /// A place of the running system.
    fn at_host(&self, path: &str) -> PathBuf {
        self.host_root.join(path.trim_start_matches('/'))
    }

    /// The host's configuration. A broken file is no reason to do less than
    /// without any: then the defaults hold, and its error is for the end.
    fn config(&self) -> (Config, Option<Failure>) {
        match Config::load(&self.host_root) {
            Ok(config) => (config, None),
            Err(error) => (Config::default(), Some(error.into())),
        }
    }

    /// Lets this process write to the repository where the host mounts it
    /// read-only, in a mount namespace of its own. Call it before any thread
    /// is started.
    fn make_writable(&self) -> Result<(), Failure> {
        if sys::make_writable(&self.repo())? {
            self.output()
                .detail("remounted the repository writable, for this process alone");
        }
        Ok(())
    }

    fn output(&self) -> Output {
        Output {
            json: self.json,
            verbose: self.verbose,
            quiet: self.quiet,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Fetch and publish the set of a deployment
    Sync(Box<sync::Args>),
    /// Show a deployment's set as a read-only image store
    Mount(mount::MountArgs),
    /// Take a mounted set away
    Umount(mount::UmountArgs),
    /// Tell how the deployments' sets stand
    Status(status::Args),
    /// List the images of published sets
    Images(images::Args),
    /// Take a deployment's set out of the repository
    Remove(remove::Args),
    /// Tell what the sets take on disk, and share
    Du(du::Args),
    /// Collect what no deployment needs
    Gc(gc::Args),
    /// Check what the repository holds of the deployments' sets
    Verify(Box<verify::Args>),
    /// Check what a host image binds, and whether its hosts can have it
    Lint(lint::Args),
    /// Write down which bytes the bound images are, and which set image they make
    Lock(Box<lock::Args>),
    /// Write a set as files, for an image that holds its apps itself
    Embed(Box<embed::Args>),
    /// Carry a whole set as one artifact
    #[command(subcommand)]
    Bundle(bundle::Verb),
    /// Guard the next boot
    #[command(hide = true)]
    Guard(guard::Args),
    /// Tell systemd which units this host has
    #[command(hide = true)]
    Generator(generator::Args),
}

/// Runs the command line and gives its exit status.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    sys::share_one_arena();
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            let text = error.render().to_string();
            if escape::lines(&text) == text {
                // The reader may have gone away, as with `| head`.
                let _closed_pipe = error.print();
            } else {
                output::tell(&text);
            }
            return exit.into();
        }
    };
    #[cfg(debug_assertions)]
    if let Err(error) = arm_failpoints() {
        output::tell(&format!("BOUNDSTORE_FAILPOINT: {error}"));
        return Exit::Usage.into();
    }
    let global = args.global;
    let result = match args.verb {
        Verb::Sync(args) => sync::run(&global, &args),
        Verb::Mount(args) => mount::mount(&global, &args),
        Verb::Umount(args) => mount::umount(&global, &args),
        Verb::Status(args) => status::run(&global, &args),
        Verb::Images(args) => images::run(&global, &args),
        Verb::Remove(args) => remove::run(&global, &args),
        Verb::Du(args) => du::run(&global, &args),
        Verb::Gc(args) => gc::run(&global, &args),
        Verb::Verify(args) => verify::run(&global, &args),
        Verb::Lint(args) => lint::run(&global, &args),
        Verb::Lock(args) => lock::run(&global, &args),
        Verb::Embed(args) => embed::run(&global, &args),
        Verb::Bundle(verb) => bundle::run(&global, &verb),
        Verb::Guard(args) => guard::run(&global, args),
        Verb::Generator(args) => generator::run(&global, &args),
    };
    sys::failpoint::end();
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print();
            failure.exit.into()
        }
    }
}

/// What a test wants to happen: see [`sys::failpoint`].
#[cfg(debug_assertions)]
fn arm_failpoints() -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(plan) = std::env::var("BOUNDSTORE_FAILPOINT") {
        sys::failpoint::arm(plan.parse()?)?;
    }
    Ok(())
}
