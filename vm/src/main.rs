//! What is beside the tests: fetching kernels, and the matrix of the last run.

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use vm::{KERNEL_TESTS, KERNELS, Kernel, PODMAN_TESTS, matrix};

/// The kernels of the VM suite. The suite itself is `make kernels`.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Fetch all kernels, if that has not been done today
    Fetch,
    /// Print the last run's behaviours as Markdown
    Matrix {
        /// Of podman-tests, not of kernel-tests
        #[arg(long)]
        podman: bool,
    },
}

fn main() -> Result<()> {
    match Args::parse().what {
        What::Fetch => {
            for source in KERNELS {
                let kernel = Kernel::fetch(*source)?;
                println!(
                    "{}\t{}\t{}",
                    source.name,
                    kernel.version,
                    kernel.image().display()
                );
            }
        }
        What::Matrix { podman } => {
            let guest = if podman { PODMAN_TESTS } else { KERNEL_TESTS };
            let reports = matrix::last_reports(&guest)?;
            ensure!(
                !reports.is_empty(),
                "nothing has run yet: run `make kernels`"
            );
            print!("{}", matrix::markdown(&reports));
        }
    }
    Ok(())
}
