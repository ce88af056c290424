//! The layers as plain folders, and as our squashed store.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{append, layers, mount_container, uppermost_first};
use crate::{
    fixture::{
        layers as form,
        layout::{LayerBlob, content},
        merged::{differences, merged},
        mounts::Opt,
        overlay,
        store::Store,
    },
    guest::Guest,
};

pub fn plain(guest: &Guest) -> Result<String> {
    let folder = guest.folder("plain")?;
    let folders = uppermost_first(&folder);
    for (layer, folder) in layers().iter().rev().zip(&folders) {
        fs::create_dir(folder)?;
        form::extract(layer, folder)?;
    }
    let container = mount_container(guest, &folders, &[])?;
    Ok(differences(&container, &merged(&layers()), ""))
}

fn mounted_store(guest: &Guest) -> Result<Store> {
    let layers = layers();
    let tars = layers.iter().map(|layer| form::tar(layer).done());
    let blobs: Vec<LayerBlob> = tars.map(|tar| LayerBlob::gzip(&tar)).collect();
    Store::mounted(guest, &blobs)
}

/// How each layer's tree differs from what podman would show of the layers up
/// to it.
fn each_tree(
    store: &Store,
    mut see: impl FnMut(usize, &Path) -> Result<PathBuf>,
) -> Result<String> {
    let layers = layers();
    let mut said = Vec::new();
    for (at, tree) in store.trees()?.iter().enumerate() {
        said.push(differences(&see(at, tree)?, &merged(&layers[..=at]), ""));
    }
    Ok(said.join(" | "))
}

pub fn store(guest: &Guest) -> Result<String> {
    each_tree(&mounted_store(guest)?, |_, tree| Ok(tree.to_owned()))
}

pub fn in_containers(guest: &Guest, options: &[Opt<'_>]) -> Result<String> {
    each_tree(&mounted_store(guest)?, |at, tree| {
        let name = format!("container{at}");
        Ok(overlay::container(guest, &name, &[tree], options)??)
    })
}

pub fn changed(guest: &Guest) -> Result<String> {
    let store = mounted_store(guest)?;
    let lowers = [store.tree()?];
    let mut expected = merged(&layers());
    let container = mount_container(guest, &lowers, &[])?;
    fs::remove_file(container.join("gone"))?;
    expected.remove("gone");
    for removed in ["merged", "stray"] {
        fs::remove_dir_all(container.join(removed))?;
        expected.retain(|path, _| !path.starts_with(removed));
    }
    fs::create_dir(container.join("merged"))?;
    expected.insert("merged".into(), None);
    append(&container.join("etc/name"))?;
    fs::write(container.join("opq/later"), "4")?;
    expected.insert("opq/later".into(), Some(b"4".to_vec()));
    let name = [content(7, 3000), b"more".to_vec()].concat();
    expected.insert("etc/name".into(), Some(name));
    boundstore::sys::unmount(&container, boundstore::sys::Unmount::IfIdle)?;
    let container = mount_container(guest, &lowers, &[])?;
    Ok(differences(&container, &expected, ""))
}
