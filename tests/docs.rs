//! The tests that the documents name exist.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::{collections::BTreeSet, fs, path::Path};

/// All functions and named checks below the folders that have tests.
fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut folders: Vec<_> = ["src", "tests", "kernel-tests", "vm", "benches"]
        .map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                for before in ["fn ", "name: \""] {
                    known.extend(text.split(before).skip(1).map(name));
                }
                // The cases of a table of tests.
                let cases = text
                    .lines()
                    .filter_map(|line| line.trim().strip_suffix(':'));
                known.extend(cases.map(str::to_owned));
            }
        }
    }
    known
}

fn name(text: &str) -> String {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    text[..end.unwrap_or(text.len())].to_owned()
}

/// What a document writes as code and looks like the name of a test: three
/// words at least, or the last part of `section::check`.
fn named(document: &str) -> BTreeSet<String> {
    let code = document.split('`').skip(1).step_by(2);
    let names = code.filter_map(|code| {
        let (check, last) = match code.rsplit_once("::") {
            Some((_, last)) => (true, last),
            None => (false, code),
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let words = last.split('_').count();
        (last.chars().all(plain) && (check || words > 2)).then(|| last.to_owned())
    });
    names.collect()
}

#[test]
fn tests_that_documents_name_exist() {
    let known = known();
    for document in ["threat-model.md", "limits.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs")
            .join(document);
        let named = named(&fs::read_to_string(path).unwrap());
        assert!(named.len() > 10, "{document}: {named:?}");
        let missing: Vec<_> = named.difference(&known).collect();
        assert!(missing.is_empty(), "{document} names {missing:?}");
    }
}

#[test]
fn a_name_of_nothing_is_seen() {
    let text = "`no_such_test_anywhere` and `data_only::no_such`, not `sync`";
    let named = named(text);
    assert_eq!(named.len(), 2, "{named:?}");
    assert_eq!(named.difference(&known()).count(), 2);
}
