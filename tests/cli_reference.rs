//! The command line is a contract: what `--help` says is committed, so that a
//! change of it is seen in review. `docs/cli.md` explains the same options.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Every verb.
const VERBS: [&str; 13] = [
    "sync", "mount", "umount", "status", "images", "remove", "du", "gc", "verify", "lint", "lock",
    "embed", "bundle",
];

/// What follows `bundle`.
const BUNDLE_VERBS: [&str; 3] = ["create", "apply", "inspect"];

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn help(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_boundstore"))
        .args(args)
        .arg("--help")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?} --help");
    assert!(output.stderr.is_empty(), "{args:?} --help writes to stderr");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_is_what_was_committed() {
    let mut found = format!("$ boundstore --help\n{}", help(&[]));
    for verb in VERBS {
        found += &format!("\n$ boundstore {verb} --help\n{}", help(&[verb]));
    }
    for verb in BUNDLE_VERBS {
        let said = help(&["bundle", verb]);
        found += &format!("\n$ boundstore bundle {verb} --help\n{said}");
    }
    let path = project("tests/golden/cli/help.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
        return;
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = committed
        .lines()
        .zip(found.lines())
        .position(|(old, new)| old != new)
        .unwrap_or_else(|| committed.lines().count().min(found.lines().count()));
    assert!(
        committed == found,
        "`--help` differs from {} at line {}:\n  committed: {:?}\n  now:       {:?}\n\
         If that is wanted: UPDATE_GOLDEN=1 cargo test --test cli_reference, and bring docs/cli.md \
         up to date.",
        path.display(),
        differs + 1,
        committed.lines().nth(differs),
        found.lines().nth(differs),
    );
}

#[test]
fn the_program_names_the_verbs_that_are_checked_here() {
    let help = help(&[]);
    let listed: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .collect();
    assert_eq!(listed, VERBS);
}

/// Each option that `--help` has is explained in `docs/cli.md`.
#[test]
fn the_reference_names_every_option_and_verb() {
    let reference = fs::read_to_string(project("docs/cli.md")).unwrap();
    let verbs = VERBS.iter().filter(|verb| **verb != "bundle");
    let verbs = verbs.map(|verb| vec![*verb]);
    for verb in verbs.chain(BUNDLE_VERBS.map(|verb| vec!["bundle", verb])) {
        let help = help(&verb);
        let verb = verb.join(" ");
        assert!(reference.contains(&format!("`{verb}")), "verb {verb}");
        let options = help
            .lines()
            .skip_while(|line| *line != "Options:")
            .take_while(|line| !line.is_empty())
            .flat_map(str::split_whitespace)
            .filter(|word| word.starts_with("--"));
        for option in options {
            assert!(reference.contains(option), "{option} of {verb}");
        }
    }
}
