//! Looking for overlay's marks on an image's files.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{
    container::container,
    image::{Image, KEPT, Source, entries},
};
use crate::{
    fixture::{mounts, xattrs},
    guest::Guest,
};

const PREFIXES: [&str; 2] = ["trusted.overlay.", "user.overlay."];

/// Every path below a folder that can be looked up, and the folder itself.
fn paths(root: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = vec![root.to_owned()];
    let mut at = 0;
    while let Some(path) = paths.get(at).cloned() {
        at += 1;
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            for entry in fs::read_dir(&path)? {
                paths.push(entry?.path());
            }
        }
    }
    paths.retain(|path| fs::symlink_metadata(path).is_ok());
    Ok(paths)
}

/// On EROFS itself, below the composefs overlay: marks by which that finds
/// objects, and on the root those by which it hides the objects' folders.
pub fn set_image(guest: &Guest) -> Result<String> {
    let image = Image::mount(guest, Source::Store)?;
    let root = guest.path("erofs");
    let mount = boundstore::sys::mount_erofs(&File::open(&image.image)?, false)?;
    mounts::attach(&mount, &root)?;
    let mut wrong = BTreeSet::new();
    for path in paths(&root)? {
        let is_file = fs::symlink_metadata(&path)?.is_file();
        for name in xattrs::names(&path)? {
            let ours = match name.as_str() {
                "trusted.overlay.opaque" => path == root,
                "trusted.overlay.metacopy" | "trusted.overlay.redirect" => is_file,
                _ => !PREFIXES.iter().any(|prefix| name.starts_with(prefix)),
            };
            if !ours {
                wrong.insert(name);
            }
        }
    }
    Ok(if wrong.is_empty() {
        "composefs's own".into()
    } else {
        wrong.into_iter().collect::<Vec<_>>().join(" ")
    })
}

/// How many different names of overlay's are listed on the mount.
pub fn names(guest: &Guest, source: Source) -> Result<String> {
    names_at(&Image::mount(guest, source)?.tree)
}

/// .. and in a container.
pub fn names_in_container(guest: &Guest, source: Source) -> Result<String> {
    let image = Image::mount(guest, source)?;
    names_at(&container(guest, &image, "container", &[])?)
}

fn names_at(root: &Path) -> Result<String> {
    let mut found = BTreeSet::new();
    for path in paths(root)? {
        found.extend(xattrs::names(&path)?);
    }
    // For the report of a check that fails.
    eprintln!("{found:?}");
    let count = |prefix: &str| found.iter().filter(|name| name.starts_with(prefix)).count();
    let [trusted, user] = PREFIXES.map(count);
    Ok(format!("{trusted} trusted, {user} user"))
}

/// Where each xattr of the image has a value.
pub fn values(guest: &Guest, source: Source) -> Result<String> {
    let image = Image::mount(guest, source)?;
    let container = container(guest, &image, "container", &[])?;
    Ok(format!(
        "{}; {}",
        values_at(&image.tree),
        values_at(&container)
    ))
}

fn values_at(root: &Path) -> String {
    let mut found = Vec::new();
    for entry in entries() {
        for (name, _) in entry.xattrs() {
            let overlays = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if overlays && xattrs::value(&root.join(entry.path()), name).is_ok() {
                found.push(*name);
            }
        }
    }
    if found.is_empty() {
        return "no value".into();
    }
    found.sort_unstable();
    found.dedup();
    format!("{} of them", found.len())
}

/// Whether the rest is there.
pub fn kept(guest: &Guest, source: Source) -> Result<String> {
    let image = Image::mount(guest, source)?;
    let container = container(guest, &image, "container", &[])?;
    let kept_at = |root: &Path| {
        let lost = KEPT.iter().filter(|(name, value)| {
            let found = xattrs::value(&root.join("kept"), name);
            !found.is_ok_and(|found| found == *value)
        });
        let lost: Vec<&str> = lost.map(|(name, _)| *name).collect();
        if lost.is_empty() {
            "all".into()
        } else {
            format!("lost {}", lost.join(" "))
        }
    };
    Ok(format!("{}; {}", kept_at(&image.tree), kept_at(&container)))
}
