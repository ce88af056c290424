//! The `boundstore` command: see [`boundstore::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    boundstore::cli::run(std::env::args_os())
}
