//! One image of three layers in three forms: plain folders as podman extracts
//! them, our squashed store, and layers escaped inside a composefs image below
//! an overlay: `kernel-matrix`, section c. It is why we squash.
//!
//! The composefs image is what boundstore's own renderer makes of overlay's
//! marks, that is composefs's writer, format V1: `trusted.overlay.X` becomes
//! `trusted.overlay.overlay.X`, a device 0:0 an empty file with the xattr
//! `whiteout` in a folder with `opaque=x`, for `trusted.` and for `user.`.
//!
//! Left out: EROFS images with marks that are not escaped (composefs's writer
//! cannot make them), and two images as the layers of one overlay (one mount
//! shows one set image).

mod nested;
mod store;

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{
    capability::{
        Capabilities,
        Capability::{XattrEscapes, XattrWhiteouts},
    },
    check::{Check, Expected, either, is},
    fixture::{
        layers::{Entry, deleted, file, folder, opaque},
        layout::content,
        mounts::Opt,
        overlay,
    },
    guest::Guest,
};

#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    Check { name: "plain", row: "plain folders, as podman has them, in a container", observe: store::plain, expect: |_| is("lists both/old, stray/never") },
    Check { name: "store", row: "our store: each layer's tree as it is mounted", observe: store::store, expect: |_| is(ALL_RIGHT) },
    Check { name: "store_in_container", row: ".. in a container", observe: |guest| store::in_containers(guest, &[]), expect: |_| is(ALL_RIGHT) },
    Check { name: "store_with_metacopy", row: ".. in a container, metacopy=on", observe: |guest| store::in_containers(guest, &[METACOPY]), expect: |_| is(ALL_RIGHT) },
    Check { name: "store_with_index", row: ".. in a container, metacopy=on, redirect_dir=on, index=on", observe: |guest| store::in_containers(guest, &[METACOPY, Opt::Text("redirect_dir", "on"), Opt::Text("index", "on")]), expect: |_| is(ALL_RIGHT) },
    Check { name: "store_with_userxattr", row: ".. in a container, userxattr", observe: |guest| store::in_containers(guest, &[USERXATTR]), expect: |_| is(ALL_RIGHT) },
    Check { name: "store_changed", row: ".. deleted, made again and written in a container, which is mounted again", observe: store::changed, expect: |_| is("right") },
    Check { name: "escaped_whiteout", row: "escaped: a deleted file in the composefs mount", observe: nested::whiteout_on_mount, expect: |can| either(can.has(XattrEscapes), "empty file, trusted.overlay.whiteout user.overlay.whiteout", "empty file, user.overlay.whiteout") },
    Check { name: "escaped_opaque", row: "escaped: `trusted.overlay.opaque` of an opaque folder", observe: |guest| nested::opaque_on_mount(guest, "opq"), expect: |can| either(can.has(XattrEscapes), "y", "EOPNOTSUPP") },
    Check { name: "escaped_opaque_and_whiteout", row: "escaped: .. of one with a deletion in it", observe: |guest| nested::opaque_on_mount(guest, "both"), expect: |can| either(can.has(XattrEscapes), "x", "EOPNOTSUPP") },
    Check { name: "nested_whiteout", row: "escaped, in a container: a deleted file", observe: |guest| nested::nested(guest, "merged", &[]), expect: |can| escapes(can, "empty file merged/old") },
    Check { name: "nested_whiteout_at_root", row: ".. a file deleted at a layer's root", observe: |guest| nested::nested(guest, "kept", &[]), expect: |can| escapes(can, "empty file kept") },
    Check { name: "nested_folder", row: ".. a deleted folder", observe: |guest| nested::nested(guest, "tree", &[]), expect: |can| escapes(can, "empty file tree") },
    Check { name: "nested_made_again", row: ".. a file deleted by one layer, made again by the next", observe: |guest| nested::nested(guest, "gone", &[]), expect: |_| is("right") },
    Check { name: "nested_opaque", row: ".. an opaque folder", observe: |guest| nested::nested(guest, "opq", &[]), expect: |can| escapes(can, "leaks opq/old") },
    Check { name: "nested_opaque_and_whiteout", row: ".. an opaque folder with a deletion in it", observe: |guest| nested::nested(guest, "both", &[]), expect: |can| either(can.has(XattrWhiteouts), "leaks both/other", "empty file both/old; leaks both/other") },
    Check { name: "nested_unmerged", row: ".. a deletion in a folder that only its layer has", observe: |guest| nested::nested(guest, "stray", &[]), expect: |can| either(can.has(XattrWhiteouts), "lists stray/never", "empty file stray/never") },
    Check { name: "nested_all", row: ".. everything", observe: |guest| nested::nested(guest, "", &[]), expect: |can| either(can.has(XattrWhiteouts), LEAKS_ON_ALL, LEAKS_UNESCAPED) },
    Check { name: "nested_with_metacopy", row: ".. everything, metacopy=on", observe: |guest| nested::nested(guest, "", &[METACOPY]), expect: |can| either(can.has(XattrWhiteouts), LEAKS_ON_ALL, LEAKS_UNESCAPED) },
    Check { name: "nested_with_userxattr", row: ".. everything, userxattr", observe: |guest| nested::nested(guest, "", &[USERXATTR]), expect: |can| either(can.has(XattrWhiteouts), "leaks both/other, opq/old; lists stray/never", LEAKS_UNESCAPED) },
    Check { name: "nested_written", row: ".. a file copied up and written, metacopy=on", observe: nested::written, expect: |_| is("written") },
    Check { name: "direct", row: "escaped, the image's layers and its objects as a container's own lowers", observe: nested::direct, expect: |_| is("empty file merged/old") },
];

const ALL_RIGHT: &str = "right | right | right";
const LEAKS_ON_ALL: &str = "leaks both/other; lists stray/never";
const LEAKS_UNESCAPED: &str =
    "empty file both/old, kept, merged/old, stray/never, tree; leaks both/other, opq/old";

const METACOPY: Opt<'static> = Opt::Text("metacopy", "on");
const USERXATTR: Opt<'static> = Opt::Flag("userxattr");

/// Overlay needs escapes of the inner one, and whiteouts in xattrs.
fn escapes(can: &Capabilities, leaks: &'static str) -> Expected {
    either(
        can.has(XattrEscapes) && can.has(XattrWhiteouts),
        "right",
        leaks,
    )
}

/// The image's layers, the lowest first.
fn layers() -> Vec<Vec<Entry>> {
    let base = vec![
        folder("etc"),
        file("etc/name", content(7, 3000)),
        file("gone", "1"),
        file("kept", "1"),
        folder("merged"),
        file("merged/old", "1"),
        file("merged/stays", "1"),
        folder("opq"),
        file("opq/old", "1"),
        folder("both"),
        file("both/old", "1"),
        file("both/other", "1"),
        folder("tree"),
        file("tree/file", "1"),
    ];
    let middle = vec![
        deleted("gone"),
        folder("merged"),
        deleted("merged/old"),
        file("merged/new", "2"),
        opaque("opq"),
        file("opq/new", "2"),
        opaque("both"),
        deleted("both/old"),
        file("both/new", "2"),
        deleted("tree"),
        folder("stray"),
        deleted("stray/never"),
        file("stray/file", "2"),
        file("data", content(2, 20_000)),
    ];
    let top = vec![
        file("gone", "3"),
        deleted("kept"),
        folder("merged"),
        file("merged/third", "3"),
    ];
    vec![base, middle, top]
}

fn mount_container(guest: &Guest, lowers: &[PathBuf], options: &[Opt<'_>]) -> Result<PathBuf> {
    let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
    Ok(overlay::container(guest, "container", &lowers, options)??)
}

/// The folders of the layers in a folder, the uppermost first.
fn uppermost_first(folder: &Path) -> Vec<PathBuf> {
    let numbers = (1..=layers().len()).rev();
    numbers
        .map(|number| folder.join(format!("l{number}")))
        .collect()
}

fn append(path: &Path) -> Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    Ok(file.write_all(b"more")?)
}
