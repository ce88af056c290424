//! Real podman and skopeo.

#![allow(dead_code)] // each test uses its part

use std::process::{Command, Output};

/// Whether this test can run: root, and these programs. Without them it is
/// skipped loudly, but on CI it fails.
pub fn can_run(programs: &[&str]) -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    let mut missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| Command::new(program).arg("--version").output().is_err())
        .collect();
    if id.stdout != b"0\n" {
        missing.push("root");
    }
    if missing.is_empty() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "this test needs {}",
        missing.join(", ")
    );
    eprintln!("SKIPPED, it needs {}", missing.join(", "));
    false
}

/// Runs a command that must succeed; its stdout.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Both outputs of a command.
pub fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
