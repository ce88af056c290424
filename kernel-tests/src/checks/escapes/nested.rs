//! The layers escaped inside a composefs image, as the composefs overlay shows
//! them and as an overlay over that does.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use boundstore::squash::tree::{Directory, Node};

use super::{METACOPY, append, layers, mount_container, uppermost_first};
use crate::{
    capability::Capability::DataOnly,
    errno,
    fixture::{
        composefs::Composefs,
        layers as form,
        layout::content,
        merged::{differences, merged},
        mounts::{self, Opt},
        xattrs,
    },
    guest::Guest,
};

/// A composefs image with a folder `l1`, `l2`, .. for each layer.
fn escaped(guest: &Guest) -> Result<Composefs> {
    Composefs::of(guest, |repo| {
        let mut root = Directory::default();
        root.metadata.mode = 0o755;
        for (at, layer) in layers().iter().enumerate() {
            let name = format!("l{}", at + 1).into_bytes();
            let tree = Arc::new(form::tree(layer, repo)?);
            root.entries.insert(name.into(), Node::Directory(tree));
        }
        Ok(root)
    })
}

pub fn whiteout_on_mount(guest: &Guest) -> Result<String> {
    let composefs = escaped(guest)?;
    composefs.mount()?;
    let file = composefs.path("l2/merged/old");
    let metadata = fs::symlink_metadata(&file)?;
    let what = if metadata.is_file() && metadata.len() == 0 {
        "empty file"
    } else {
        "ANOTHER FILE"
    };
    let mut names = xattrs::names(&file)?;
    names.sort();
    Ok(format!("{what}, {}", names.join(" ")))
}

pub fn opaque_on_mount(guest: &Guest, folder: &str) -> Result<String> {
    let composefs = escaped(guest)?;
    composefs.mount()?;
    let folder = composefs.path("l2").join(folder);
    Ok(match xattrs::value(&folder, "trusted.overlay.opaque") {
        Ok(value) => String::from_utf8_lossy(&value).into_owned(),
        Err(error) => errno::name(error),
    })
}

/// The escaped layers below a container.
pub fn nested(guest: &Guest, below: &str, options: &[Opt<'_>]) -> Result<String> {
    let composefs = escaped(guest)?;
    composefs.mount()?;
    let container = mount_container(guest, &uppermost_first(&composefs.path("")), options)?;
    Ok(differences(&container, &merged(&layers()), below))
}

pub fn written(guest: &Guest) -> Result<String> {
    let composefs = escaped(guest)?;
    composefs.mount()?;
    let lowers = uppermost_first(&composefs.path(""));
    let container = mount_container(guest, &lowers, &[METACOPY])?;
    append(&container.join("etc/name"))?;
    let written = fs::read(container.join("etc/name"))?;
    let right = [content(7, 3000), b"more".to_vec()].concat();
    Ok(if written == right {
        "written"
    } else {
        "NOT WRITTEN"
    }
    .into())
}

/// No composefs overlay between: what is escaped stays so.
pub fn direct(guest: &Guest) -> Result<String> {
    let composefs = escaped(guest)?;
    let metadata = guest.path("meta");
    mounts::attach(&composefs.mount_metadata(false)?, &metadata)?;
    let mut lowers = uppermost_first(&metadata);
    if guest.capabilities.has(DataOnly) {
        // An empty name makes the rest data-only: `l3:l2:l1::objects`.
        lowers.push(PathBuf::new());
    }
    lowers.push(composefs.objects());
    let redirect = Opt::Text("redirect_dir", "on");
    let container = mount_container(guest, &lowers, &[METACOPY, redirect])
        .context("mount the image's layers and objects")?;
    Ok(differences(&container, &merged(&layers()), "merged"))
}
