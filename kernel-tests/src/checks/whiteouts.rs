//! What hides what in a stack of plain folders, and what an overlay lets be
//! written of overlay's own marks: `kernel-matrix`, section b. Layers as podman
//! extracts them are such folders; squashing follows the same rules.
//!
//! No row is left out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{
    capability::{
        Capabilities,
        Capability::{XattrEscapes, XattrWhiteouts},
    },
    check::{Check, Expected, either, is},
    errno,
    fixture::{
        overlay::{self, whiteout},
        reading, xattrs,
    },
    guest::Guest,
};

#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    Check { name: "device", row: "a device 0:0", observe: |guest| over(guest, "dir", |l2| Ok(whiteout(&l2.join("dir/gone"))?)), expect: |_| is(HIDDEN) },
    Check { name: "device_at_root", row: ".. at a layer's root", observe: |guest| over(guest, "", |l2| Ok(whiteout(&l2.join("gone"))?)), expect: |_| is(HIDDEN) },
    Check { name: "opaque", row: "a folder with `opaque=y`", observe: |guest| over(guest, "dir", |l2| marked(&l2.join("dir"), "opaque", "y")), expect: |_| is(HIDDEN) },
    Check { name: "opaque_root", row: "`opaque=y` on a layer's root", observe: |guest| over(guest, "", |l2| marked(l2, "opaque", "y")), expect: |_| is(SEEN) },
    Check { name: "device_in_opaque", row: "a device 0:0 in a folder with `opaque=y`", observe: device_in_opaque, expect: |_| is(LISTED) },
    Check { name: "device_unmerged", row: "a device 0:0 in a folder that one layer has", observe: |guest| alone(guest, |dir| Ok(whiteout(&dir.join("gone"))?)), expect: |_| is(LISTED) },
    Check { name: "xattr", row: "an empty file with `whiteout` in a folder with `opaque=x`", observe: |guest| over(guest, "dir", |l2| xattr_whiteout(l2, "dir", "", Some(MARK))), expect: |can| xattr_hides(can, HIDDEN) },
    Check { name: "xattr_unmarked", row: ".. in a folder without `opaque=x`", observe: |guest| over(guest, "dir", |l2| xattr_whiteout(l2, "dir", "", None)), expect: |can| xattr_hides(can, LISTED) },
    Check { name: "xattr_old_mark", row: ".. in a folder with the old mark `whiteouts` alone", observe: |guest| over(guest, "dir", |l2| xattr_whiteout(l2, "dir", "", Some(OLD_MARK))), expect: |can| xattr_hides(can, LISTED) },
    Check { name: "xattr_at_root", row: ".. at a layer's root without `opaque=x`", observe: |guest| over(guest, "", |l2| xattr_whiteout(l2, "", "", None)), expect: |can| xattr_hides(can, LISTED) },
    Check { name: "xattr_at_marked_root", row: ".. at a layer's root with `opaque=x`", observe: |guest| over(guest, "", |l2| xattr_whiteout(l2, "", "", Some(MARK))), expect: |can| xattr_hides(can, HIDDEN) },
    Check { name: "xattr_not_empty", row: ".. but the file is not empty", observe: |guest| over(guest, "dir", |l2| xattr_whiteout(l2, "dir", "above", Some(MARK))), expect: |_| is(OTHER) },
    Check { name: "xattr_unmerged", row: ".. in a folder that one layer has", observe: |guest| alone(guest, |dir| xattr_whiteout(dir, "", "", Some(MARK))), expect: |can| xattr_hides(can, LISTED) },
    Check { name: "stacked", row: "a device 0:0 and `opaque=y` in layers that are seen through another overlay", observe: stacked, expect: |_| is("device: content below; opaque: content below") },
    Check { name: "device_made", row: "a device 0:0 made on an overlay", observe: device_made, expect: |_| is("EPERM") },
    Check { name: "xattrs_set", row: "`trusted.overlay.*` set on an overlay; in the upper folder", observe: xattrs_set, expect: |can| either(can.has(XattrEscapes), "read back, listed; stored as trusted.overlay.overlay.any", "EOPNOTSUPP") },
    Check { name: "xattrs_hidden", row: "`trusted.overlay.*` of a layer, on the overlay", observe: xattrs_hidden, expect: |can| either(can.has(XattrEscapes), "not listed, ENODATA", "not listed, EOPNOTSUPP") },
];

/// What came of the name `gone`, which both layers have.
const HIDDEN: &str = "hidden";
const SEEN: &str = "content below";
const LISTED: &str = "ENOENT, but listed";
const OTHER: &str = "content above";
const EMPTY: &str = "empty file";

const MARK: (&str, &str) = ("opaque", "x");
const OLD_MARK: (&str, &str) = ("whiteouts", "");

/// Without whiteouts in xattrs the file is a file.
fn xattr_hides(can: &Capabilities, hidden: &'static str) -> Expected {
    either(can.has(XattrWhiteouts), hidden, EMPTY)
}

fn marked(path: &Path, name: &str, value: &str) -> Result<()> {
    let name = format!("trusted.overlay.{name}");
    Ok(xattrs::set(path, &name, value.as_bytes())?)
}

/// Makes `gone` a whiteout by its xattr, in a folder with a mark.
fn xattr_whiteout(
    layer: &Path,
    folder: &str,
    content: &str,
    folder_mark: Option<(&str, &str)>,
) -> Result<()> {
    let file = layer.join(folder).join("gone");
    fs::write(&file, content)?;
    marked(&file, "whiteout", "")?;
    match folder_mark {
        Some((name, value)) => marked(&layer.join(folder), name, value),
        None => Ok(()),
    }
}

fn outcome(folder: &Path) -> String {
    let gone = folder.join("gone");
    let listed = reading::list(folder).split(' ').any(|name| name == "gone");
    match fs::read_to_string(&gone) {
        Err(error) => match (errno::name(error).as_str(), listed) {
            ("ENOENT", false) => HIDDEN.into(),
            (error, true) => format!("{error}, but listed"),
            (error, false) => error.to_owned(),
        },
        Ok(_) if !listed => "READ, BUT NOT LISTED".into(),
        Ok(content) if content.is_empty() => EMPTY.into(),
        Ok(content) => format!("content {content}"),
    }
}

/// The lower layer, with `gone` in it and in its `dir`.
fn l1(guest: &Guest) -> Result<PathBuf> {
    let l1 = guest.folder("l1")?;
    guest.folder("l1/dir")?;
    for gone in ["gone", "dir/gone"] {
        fs::write(l1.join(gone), "below")?;
    }
    Ok(l1)
}

/// What is seen in a folder that both layers have.
fn over(guest: &Guest, folder: &str, make: impl Fn(&Path) -> Result<()>) -> Result<String> {
    let (l1, l2) = (l1(guest)?, guest.folder("l2")?);
    guest.folder("l2/dir")?;
    make(&l2)?;
    let merged = overlay::container(guest, "merged", &[&l2, &l1], &[])??;
    Ok(outcome(&merged.join(folder)))
}

/// What is seen in a folder that only the layer above has.
fn alone(guest: &Guest, make: impl Fn(&Path) -> Result<()>) -> Result<String> {
    let (l1, l2) = (l1(guest)?, guest.folder("l2")?);
    make(&guest.folder("l2/alone")?)?;
    let merged = overlay::container(guest, "merged", &[&l2, &l1], &[])??;
    Ok(outcome(&merged.join("alone")))
}

fn device_in_opaque(guest: &Guest) -> Result<String> {
    over(guest, "dir", |l2| {
        marked(&l2.join("dir"), "opaque", "y")?;
        Ok(whiteout(&l2.join("dir/gone"))?)
    })
}

/// Two layers as they are seen through an overlay below the container's.
fn stacked(guest: &Guest) -> Result<String> {
    l1(guest)?;
    guest.folder("l1/opaque")?;
    fs::write(guest.path("l1/opaque/gone"), "below")?;
    let l2 = guest.folder("l2")?;
    guest.folder("l2/dir")?;
    guest.folder("l2/opaque")?;
    whiteout(&l2.join("dir/gone"))?;
    marked(&l2.join("opaque"), "opaque", "y")?;
    let layers = guest.folder("layers")?;
    for name in ["l1", "l2"] {
        fs::rename(guest.path(name), layers.join(name))?;
    }
    let inner = overlay::container(guest, "inner", &[&layers], &[])??;
    let lowers = [inner.join("l2"), inner.join("l1")];
    let outer = overlay::container(guest, "outer", &[&lowers[0], &lowers[1]], &[])??;
    let (device, opaque) = (outcome(&outer.join("dir")), outcome(&outer.join("opaque")));
    Ok(format!("device: {device}; opaque: {opaque}"))
}

fn device_made(guest: &Guest) -> Result<String> {
    let merged = overlay::container(guest, "merged", &[&l1(guest)?], &[])??;
    Ok(match whiteout(&merged.join("device")) {
        Ok(()) => "MADE".into(),
        Err(error) => errno::name(error),
    })
}

fn xattrs_set(guest: &Guest) -> Result<String> {
    let merged = overlay::container(guest, "merged", &[&l1(guest)?], &[])??;
    let (file, name) = (merged.join("gone"), "trusted.overlay.any");
    if let Err(error) = xattrs::set(&file, name, b"value") {
        return Ok(errno::name(error));
    }
    let read = match xattrs::value(&file, name) {
        Ok(value) if value == b"value" => "read back".into(),
        Ok(_) => "OTHER VALUE".into(),
        Err(error) => errno::name(error),
    };
    let seen = if xattrs::names(&file)?.iter().any(|n| n == name) {
        "listed"
    } else {
        "not listed"
    };
    let mut stored = xattrs::names(&guest.path("merged.upper/gone"))?;
    stored.retain(|stored| stored.ends_with("any"));
    Ok(format!("{read}, {seen}; stored as {}", stored.join(" ")))
}

fn xattrs_hidden(guest: &Guest) -> Result<String> {
    let l1 = l1(guest)?;
    marked(&l1.join("gone"), "any", "value")?;
    let merged = overlay::container(guest, "merged", &[&l1], &[])??;
    let file = merged.join("gone");
    let listed = if xattrs::names(&file)?.is_empty() {
        "not listed"
    } else {
        "LISTED"
    };
    let read = match xattrs::value(&file, "trusted.overlay.any") {
        Ok(_) => "READ".into(),
        Err(error) => errno::name(error),
    };
    Ok(format!("{listed}, {read}"))
}
