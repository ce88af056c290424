//! Verbs whose capability this version does not have.

use super::failure::{Exit, Failure};

/// Takes anything.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _rest: Vec<std::ffi::OsString>,
}

pub(super) fn run(verb: &str) -> Result<Exit, Failure> {
    let message = format!("{verb} is not in this version of boundstore");
    Err(Failure::new(Exit::Failed, message))
}
