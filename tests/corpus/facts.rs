//! A tree as lines of text: `/a: file "x", mode 644, owner 0:0`.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use crate::common::image::json_file;

/// Longer content is told by its length.
const SHORT: usize = 60;

/// The tree of `localhost/evil:1` in a store.
pub fn of_store(store: &Path) -> Vec<String> {
    let images = json_file(&store.join("overlay-images/images.json"));
    let image = &images.as_array().unwrap()[0];
    assert_eq!(image["names"][0], "localhost/evil:1");
    // An image without layers has no tree.
    let mut facts = vec![format!("layer {}", image["layer"].is_string())];
    if let Some(layer) = image["layer"].as_str() {
        walk(
            &store.join(format!("overlay/{layer}/diff")),
            "/",
            &mut facts,
        );
    }
    facts
}

fn walk(path: &Path, shown: &str, facts: &mut Vec<String>) {
    let metadata = path.symlink_metadata().unwrap();
    let (mode, device) = (metadata.mode(), metadata.rdev());
    let kind = match mode & 0o170_000 {
        0o040_000 => "directory".to_owned(),
        0o120_000 => format!("symlink {}", fs::read_link(path).unwrap().display()),
        0o010_000 => "fifo".to_owned(),
        0o020_000 => format!("character device {}", numbers(device)),
        0o060_000 => format!("block device {}", numbers(device)),
        0o100_000 => match fs::read(path).unwrap() {
            content if content.len() <= SHORT => format!("file \"{}\"", content.escape_ascii()),
            content => format!("file of {} bytes", content.len()),
        },
        other => panic!("{}: {other:o}", path.display()),
    };
    let (uid, gid, names) = (metadata.uid(), metadata.gid(), metadata.nlink());
    let mut fact = format!(
        "{shown}: {kind}, mode {:o}, owner {uid}:{gid}",
        mode & 0o7777
    );
    if !metadata.is_dir() && names > 1 {
        fact += &format!(", {names} names");
    }
    for (name, value) in xattrs(path) {
        fact += &format!(", {name}=\"{}\"", value.escape_ascii());
    }
    facts.push(fact);
    if metadata.is_dir() {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        for name in names {
            let shown = format!(
                "{}/{}",
                shown.trim_end_matches('/'),
                name.as_bytes().escape_ascii()
            );
            walk(&path.join(&name), &shown, facts);
        }
    }
}

fn numbers(device: u64) -> String {
    format!(
        "{}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    )
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0);
    let mut found = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
        value.truncate(length);
        found.push((String::from_utf8_lossy(name).into_owned(), value));
    }
    found.sort();
    found
}
