//! Programs that must succeed.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Runs a program to its end; what it printed. An error has what it complained of.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .with_context(|| format!("run {:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{said}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
