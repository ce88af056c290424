//! What an image does in a container.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

use super::image::{Image, Source, own};
use crate::{
    errno,
    fixture::{
        layers::{self, device, folder},
        mounts::Opt,
        overlay, reading,
    },
    guest::Guest,
};

/// A container's overlay on the image.
pub fn container(guest: &Guest, image: &Image, name: &str, options: &[Opt<'_>]) -> Result<PathBuf> {
    Ok(overlay::container(guest, name, &[&image.tree], options)??)
}

/// The same over another folder, as if layers lay below the image.
fn over_another(guest: &Guest, image: &Image, name: &str, options: &[Opt<'_>]) -> Result<PathBuf> {
    let other = guest.folder("other")?;
    for folder in ["etc", "opaque", "moved"] {
        guest.folder(&format!("other/{folder}"))?;
    }
    fs::write(other.join("etc/shadow"), SECRET)?;
    fs::write(other.join("opaque/below"), "")?;
    let lowers: [&Path; 2] = [&image.tree, &other];
    Ok(overlay::container(guest, name, &lowers, options)??)
}

const SECRET: &[u8] = b"SECRET";

/// On the mount and in a container.
fn both(guest: &Guest, source: Source, look: impl Fn(&Path) -> String) -> Result<String> {
    let image = Image::mount(guest, source)?;
    let container = container(guest, &image, "container", &[])?;
    Ok(format!("{}; {}", look(&image.tree), look(&container)))
}

pub fn device_seen(guest: &Guest, source: Source) -> Result<String> {
    both(guest, source, |root| seen(&root.join("devices"), "zero"))
}

/// In an image of its own: composefs's writer refuses two names of a device 0:0.
pub fn linked_device(guest: &Guest) -> Result<String> {
    let layer = layers::tar(&[folder("devices"), device("devices/zero")]);
    let layer = layer.link("devices/again", b'1', "devices/zero");
    let tree = Image::sync(guest, [layer])?.tree()?;
    Ok(match reading::list(&tree.join("devices")).as_str() {
        "" => "neither".into(),
        names => names.to_owned(),
    })
}

pub fn marked_file(guest: &Guest, source: Source) -> Result<String> {
    both(guest, source, |root| seen(&root.join("marked"), "hidden"))
}

fn seen(folder: &Path, name: &str) -> String {
    let listed = reading::list(folder)
        .split(' ')
        .any(|listed| listed == name);
    match fs::symlink_metadata(folder.join(name)) {
        Ok(metadata) if metadata.is_file() && metadata.len() == 0 => "empty file".into(),
        Ok(metadata) => format!("{:?}", metadata.file_type()),
        Err(error) if listed => format!("{}, but listed", errno::name(error)),
        Err(error) => errno::name(error),
    }
}

/// What comes of looking at and reading all that is listed.
pub fn copied(guest: &Guest, source: Source, folder: &str) -> Result<String> {
    let image = Image::mount(guest, source)?;
    let container = container(guest, &image, "container", &[])?;
    Ok(match reading::walk(&container.join(folder)) {
        Ok(_) => "read".into(),
        Err(error) => errno::name(error),
    })
}

/// `rm -rf`
pub fn removed(guest: &Guest, source: Source, folder: &str) -> Result<String> {
    let image = Image::mount(guest, source)?;
    let container = container(guest, &image, "container", &[])?;
    if !folder.is_empty() {
        return Ok(match fs::remove_dir_all(container.join(folder)) {
            Ok(()) => "removed".into(),
            Err(error) => errno::name(error),
        });
    }
    for entry in fs::read_dir(&container)? {
        let path = entry?.path();
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        if let Err(error) = removed {
            return Ok(format!("{} at {}", errno::name(error), path.display()));
        }
    }
    Ok(match reading::list(&container).as_str() {
        "" => "removed".into(),
        left => format!("left: {left}"),
    })
}

const METACOPY: Opt<'static> = Opt::Text("metacopy", "on");
const REDIRECT: Opt<'static> = Opt::Text("redirect_dir", "on");
pub const USERXATTR: Opt<'static> = Opt::Flag("userxattr");

pub fn redirect(guest: &Guest, source: Source) -> Result<String> {
    let image = Image::mount(guest, source)?;
    let off = container(guest, &image, "off", &[Opt::Text("metacopy", "off")])?;
    let on = container(guest, &image, "on", &[METACOPY])?;
    let over = over_another(guest, &image, "over", &[METACOPY, REDIRECT])?;
    Ok([off, on, over].map(|root| redirected(&root)).join("; "))
}

fn redirected(root: &Path) -> String {
    let file = root.join("redirect");
    match fs::read(&file) {
        Ok(content) if content == SECRET => "OTHER LAYER'S FILE READ".into(),
        _ => reading::read(&file, &own()),
    }
}

pub fn moved(guest: &Guest, source: Source) -> Result<String> {
    let image = Image::mount(guest, source)?;
    let nofollow = Opt::Text("redirect_dir", "nofollow");
    let nofollow = over_another(guest, &image, "nofollow", &[nofollow])?;
    let on = over_another(guest, &image, "on", &[REDIRECT])?;
    Ok([nofollow, on].map(|root| folder_moved(&root)).join("; "))
}

fn folder_moved(root: &Path) -> String {
    let folder = root.join("moved");
    if let Err(error) = fs::symlink_metadata(&folder) {
        return errno::name(error);
    }
    match reading::list(&folder).as_str() {
        "file" => "own".into(),
        "file shadow" => "OTHER LAYER'S FOLDER".into(),
        other => other.to_owned(),
    }
}

/// The same in rootless podman's overlay, which redirects nothing.
pub fn user_redirect(guest: &Guest, source: Source) -> Result<String> {
    let image = Image::mount(guest, source)?;
    let root = over_another(guest, &image, "container", &[USERXATTR])?;
    Ok(format!("{}; {}", redirected(&root), folder_moved(&root)))
}

pub fn opaque(guest: &Guest, source: Source, options: &[Opt<'_>]) -> Result<String> {
    let image = Image::mount(guest, source)?;
    let folder = over_another(guest, &image, "container", options)?.join("opaque");
    Ok(match reading::list(&folder).as_str() {
        "below file" => "merged".into(),
        "file" => "opaque".into(),
        other => other.to_owned(),
    })
}

/// All that the other looks have not: marks that overlay reads of its upper
/// folder, which a copied file might carry there.
pub fn written(guest: &Guest, source: Source) -> Result<String> {
    let image = Image::mount(guest, source)?;
    let mount = || {
        let options = [Opt::Text("index", "on"), METACOPY];
        container(guest, &image, "container", &options)
    };
    let root = mount()?;
    let changes = [("file", own()), ("folder/file", b"1".to_vec())];
    for (name, _) in &changes {
        let appended = OpenOptions::new().append(true).open(root.join(name));
        if let Err(error) = appended.and_then(|mut file| file.write_all(b"more")) {
            return Ok(format!("{} at {name}", errno::name(error)));
        }
    }
    if let Err(error) = fs::write(root.join("folder/new"), "new") {
        return Ok(format!("{} at folder/new", errno::name(error)));
    }
    boundstore::sys::unmount(&root, boundstore::sys::Unmount::IfIdle)?;
    let root = mount()?;
    for (name, mut content) in changes {
        content.extend(b"more");
        let read = reading::read(&root.join(name), &content);
        if read != "read" {
            return Ok(format!("{name}: {read}"));
        }
    }
    ensure!(fs::read(root.join("folder/new"))? == b"new", "folder/new");
    Ok("written".into())
}
