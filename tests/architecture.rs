//! The direction of imports and the size of files, as the design sets them.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What one file says that its place forbids, each with its line.
fn violations(path: &str, text: &str) -> Vec<String> {
    let folder = path.split('/').next().unwrap_or_default();
    let mut found = Vec::new();
    let production = production_lines(text);
    for (number, code) in &statements(path, &production) {
        let mut forbid = |what: &str, allowed: bool| {
            if !allowed && has_word(code, what) {
                found.push(format!(
                    "{path}:{number}: {what} has no place here: {}",
                    code.trim()
                ));
            }
        };
        for seam in ["composefs::", "composefs_"] {
            forbid(seam, folder == "repo");
        }
        forbid("rustix", folder == "sys");
        forbid("unsafe", folder == "sys");
        forbid("tokio", folder == "source" || folder == "repo");
        for print in ["println", "eprintln", "print", "eprint"] {
            // src/cli/output.rs writes, and escapes.
            forbid(&format!("{print}!"), false);
        }
        forbid(
            "std::env",
            folder == "cli" || folder == "main.rs" || code.contains("env::consts"),
        );
        let pure = matches!(folder, "name" | "document" | "squash" | "store_tree")
            || path == "bound/unit.rs"
            || path.starts_with("import/tar");
        for impure in [
            "crate::repo",
            "crate::sys",
            "crate::source",
            "crate::deployment",
            "std::fs",
        ] {
            forbid(impure, !pure);
        }
        for upward in ["bound", "source", "import", "sink", "deployment", "cli"] {
            forbid(
                &format!("crate::{upward}"),
                !matches!(
                    folder,
                    "name" | "document" | "repo" | "sys" | "squash" | "store_tree"
                ),
            );
        }
        for ours in ["crate::squash", "crate::store_tree", "crate::error"] {
            forbid(ours, !matches!(folder, "name" | "document"));
        }
        forbid(
            "crate::document",
            !matches!(folder, "name" | "repo" | "sys" | "squash"),
        );
        forbid("crate::cli", folder == "cli" || folder == "main.rs");
    }
    let lines = production.len();
    let most = if folder == "main.rs" { 40 } else { 700 };
    if lines > most {
        found.push(format!(
            "{path}: {lines} lines, more than {most} without its tests"
        ));
    }
    found
}

fn has_word(code: &str, what: &str) -> bool {
    let word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    code.match_indices(what).any(|(at, _)| {
        let bytes = code.as_bytes();
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        let open = what.ends_with([':', '_']);
        !word(before) && (open || !word(bytes.get(at + what.len())))
    })
}

/// The numbered lines without the tests: what `#[cfg(test)]` stands before,
/// and all that follows if that is a module with its body.
fn production_lines(text: &str) -> Vec<(usize, &str)> {
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let mut kept = Vec::new();
    while let Some((number, line)) = lines.next() {
        if !line.starts_with("#[cfg(test)]") {
            kept.push((number, line));
            continue;
        }
        for (_, line) in lines.by_ref() {
            if line.ends_with('{') {
                return kept;
            }
            if line.ends_with(';') {
                break;
            }
        }
    }
    kept
}

/// The code without comments, with its line; `use` with a group is taken
/// apart, and `super` and `self` are resolved.
fn statements(path: &str, lines: &[(usize, &str)]) -> Vec<(usize, String)> {
    let mut module: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if matches!(module.last(), Some(&"mod" | &"lib" | &"main")) {
        module.pop();
    }
    let mut found = Vec::new();
    let mut import: Option<(usize, String)> = None;
    for (number, line) in lines {
        let code = line.split("//").next().unwrap_or_default();
        let is_import = code.trim_start().starts_with("use ")
            || (code.trim_start().starts_with("pub") && code.contains(" use "));
        let (start, text) = match import.take() {
            Some((start, text)) => (start, text + " " + code.trim()),
            None if is_import => {
                let tree = code.split_once("use ").map_or("", |(_, tree)| tree);
                (*number, tree.trim().to_owned())
            }
            None => {
                found.push((*number, code.to_owned()));
                continue;
            }
        };
        match text.strip_suffix(';') {
            Some(tree) => {
                let paths = flat("", tree).into_iter();
                found.extend(paths.map(|path| (start, absolute(&module, &path))));
            }
            None => import = Some((start, text)),
        }
    }
    found
}

/// The paths that a `use` names.
fn flat(before: &str, tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((prefix, group)) = tree.split_once('{') else {
        return vec![format!("{before}{tree}")];
    };
    let before = format!("{before}{}", prefix.trim());
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let mut depth = 0;
    let parts = group.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts
        .filter(|part| !part.trim().is_empty())
        .flat_map(|part| flat(&before, part))
        .collect()
}

fn absolute(module: &[&str], path: &str) -> String {
    let mut module = module.to_vec();
    let mut rest = path.strip_prefix("self::").unwrap_or(path);
    let mut relative = rest != path;
    while let Some(above) = rest.strip_prefix("super::") {
        module.pop();
        rest = above;
        relative = true;
    }
    if !relative {
        return rest.to_owned();
    }
    let parts = ["crate"].into_iter().chain(module).chain([rest]);
    parts.collect::<Vec<_>>().join("::")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether a path below `src` is that of a test.
fn is_test(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.contains("/tests/") || text.ends_with("tests.rs") || text.ends_with("testing.rs")
}

#[test]
fn the_house_is_in_order() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    files.retain(|path| !is_test(path.strip_prefix(&src).unwrap()));
    let mut found = Vec::new();
    let mut sizes = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        let name = path
            .strip_prefix(&src)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        found.extend(violations(&name, &text));
        sizes.push(production_lines(&text).len());
    }
    sizes.sort_unstable();
    println!(
        "{} files, median {} lines, largest {}",
        sizes.len(),
        sizes[sizes.len() / 2],
        sizes[sizes.len() - 1]
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn disorder_is_seen() {
    for (path, text) in [
        ("sink/x.rs", "use composefs::repository::Repository;"),
        ("repo/x.rs", "use rustix::fs;"),
        ("bound/scan.rs", "unsafe { x() }"),
        ("deployment/x.rs", "tokio::spawn(x)"),
        ("cli/x.rs", "    eprintln!(\"x\");"),
        ("source/x.rs", "let home = std::env::var(\"HOME\");"),
        ("squash/x.rs", "use crate::repo::Repo;"),
        ("store_tree/x.rs", "use std::fs;"),
        ("name/x.rs", "use crate::squash::EntryName;"),
        ("name/x.rs", "use crate::document::Descriptor;"),
        ("document/x.rs", "use crate::store_tree::ImageRecord;"),
        ("document/x.rs", "use super::super::source::Wanted;"),
        ("repo/x.rs", "use crate::deployment::status;"),
        (
            "squash/x.rs",
            "use crate::{\n    name::Mtime,\n    repo::{Repo, View},\n};",
        ),
        ("squash/x.rs", "pub(super) use crate::{error::Doing, repo};"),
        ("squash/x/y.rs", "use super::super::super::sys::open;"),
        ("squash/x.rs", "use super::super::{name::Mtime, sys};"),
        ("squash/mod.rs", "use super::sys;"),
        ("squash/x.rs", "use std::{fs, io};"),
        ("squash/x.rs", "#[cfg(test)]\nmod tests;\nuse std::fs;"),
        ("deployment/x.rs", "use crate::cli::Output;"),
        ("sys/x.rs", &"\n".repeat(701)),
        ("main.rs", &"\n".repeat(41)),
    ] {
        assert!(!violations(path, text).is_empty(), "{path}: {text}");
    }
    for (path, text) in [
        ("repo/x.rs", "use composefs::repository::Repository;"),
        ("sink/x.rs", "// composefs is named in prose only"),
        (
            "cli/x.rs",
            "let staged = \"run/composefs/staged-deployment\";",
        ),
        ("name/x.rs", "#[cfg(test)]\nuse std::fs;"),
        (
            "name/x.rs",
            "#[cfg(test)]\nmod tests {\n    fn x() {}\n}\nuse std::fs;",
        ),
        ("squash/x.rs", "use super::{sys, tree::{Node, repo}};"),
        ("sys/x.rs", "use rustix::{fs::{self, Mode}, io};"),
    ] {
        assert_eq!(violations(path, text), Vec::<String>::new());
    }
}
