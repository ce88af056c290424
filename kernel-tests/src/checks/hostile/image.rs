//! An image that carries all that overlay takes for its own marks, and the two
//! ways to see it: our store, which drops them, and composefs's own image of
//! the same tree, which keeps them, escaped.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    fixture::{
        composefs::Composefs,
        layers::{self, Entry, device, file, folder},
        layout::{LayerBlob, content},
        raw_tar::RawTar,
        store::Store,
    },
    guest::Guest,
};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Synced and mounted by boundstore.
    Store,
    /// Rendered as it is.
    Raw,
}

/// What `redirect` holds: large enough to be an object.
pub fn own() -> Vec<u8> {
    content(5, 300)
}

/// A file handle as overlay keeps it (`struct ovl_fb`): version 0, magic, of
/// this length, of ext4's type, with a UUID that is nobody's.
const HANDLE: &[u8] = b"\x00\xfb\x1d\x00\x01UUUUUUUUUUUUUUUU\x0c\x00\x00\x00\x01\x00\x00\x00";
const REDIRECT: &[u8] = b"/etc/shadow";

/// All of one file's marks, each for both namespaces.
const MARKS: &[(&str, &str, &[u8])] = &[
    ("trusted.overlay.origin", "user.overlay.origin", HANDLE),
    ("trusted.overlay.upper", "user.overlay.upper", HANDLE),
    ("trusted.overlay.impure", "user.overlay.impure", b"y"),
    ("trusted.overlay.nlink", "user.overlay.nlink", b"L+7"),
    (
        "trusted.overlay.uuid",
        "user.overlay.uuid",
        b"UUUUUUUUUUUUUUUU",
    ),
    ("trusted.overlay.protattr", "user.overlay.protattr", b"ia"),
    (
        "trusted.overlay.verity",
        "user.overlay.verity",
        b"not a digest",
    ),
    ("trusted.overlay.unknown", "user.overlay.unknown", b"any"),
    ("trusted.overlay.", "user.overlay.", b"no name"),
    (
        "trusted.overlay.overlay.opaque",
        "user.overlay.overlay.opaque",
        b"y",
    ),
    (
        "trusted.overlay.overlay.overlay.opaque",
        "user.overlay.overlay.overlay.opaque",
        b"y",
    ),
];

/// What an image may have, and must keep.
pub const KEPT: &[(&str, &[u8])] = &[
    ("user.kept", b"1"),
    ("trusted.kept", b"2"),
    ("trusted.overlayed", b"3"),
    (
        "security.capability",
        b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    ),
];

trait Marked {
    fn marked(self, name: [&'static str; 2], value: &'static [u8]) -> Self;
}

impl Marked for Entry {
    fn marked(self, [trusted, user]: [&'static str; 2], value: &'static [u8]) -> Self {
        self.with(trusted, value).with(user, value)
    }
}

const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];
const METACOPY: [&str; 2] = ["trusted.overlay.metacopy", "user.overlay.metacopy"];
const REDIRECTS: [&str; 2] = ["trusted.overlay.redirect", "user.overlay.redirect"];
const WHITEOUT: [&str; 2] = ["trusted.overlay.whiteout", "user.overlay.whiteout"];
const WHITEOUTS: [&str; 2] = ["trusted.overlay.whiteouts", "user.overlay.whiteouts"];

/// Its files.
pub fn entries() -> Vec<Entry> {
    let all = |entry: Entry| {
        MARKS.iter().fold(entry, |entry, (trusted, user, value)| {
            entry.marked([trusted, user], value)
        })
    };
    let kept = KEPT
        .iter()
        .fold(file("kept", own()), |entry, (name, value)| {
            entry.with(name, value)
        });
    vec![
        all(folder("")).marked(OPAQUE, b"y"),
        folder("etc"),
        file("etc/shadow", "its own"),
        folder("devices"),
        device("devices/zero"),
        file("devices/file", "1"),
        folder("marked").marked(OPAQUE, b"x").marked(WHITEOUTS, b""),
        file("marked/hidden", "").marked(WHITEOUT, b""),
        file("marked/file", "1"),
        folder("opaque").marked(OPAQUE, b"y"),
        file("opaque/file", "1"),
        file("redirect", own())
            .marked(METACOPY, b"")
            .marked(REDIRECTS, REDIRECT),
        folder("moved").marked(REDIRECTS, b"/etc"),
        file("moved/file", "1"),
        all(file("file", own())),
        all(folder("folder")),
        file("folder/file", "1"),
        kept,
    ]
}

/// Its tree, mounted.
#[derive(Debug)]
pub struct Image {
    /// The tree that a container's overlay lies on.
    pub tree: PathBuf,
    /// The set image.
    pub image: PathBuf,
}

impl Image {
    /// Mounts it.
    pub fn mount(guest: &Guest, source: Source) -> Result<Self> {
        let entries = entries();
        match source {
            Source::Raw => {
                let composefs = Composefs::of(guest, |repo| layers::tree(&entries, repo))?;
                composefs.mount()?;
                Ok(Self {
                    tree: composefs.path(""),
                    image: composefs.image(),
                })
            }
            Source::Store => {
                // In a layer below, in one above that changes folders only,
                // and in a hard link.
                let base = layers::tar(&entries).link("linked", b'1', "file");
                let folders = entries.into_iter().filter(Entry::is_folder);
                let top = layers::tar(&folders.collect::<Vec<_>>());
                let store = Self::sync(guest, [base, top])?;
                Ok(Self {
                    tree: store.tree()?,
                    image: store.image()?,
                })
            }
        }
    }

    /// Syncs and mounts an image of these layers.
    pub fn sync<const N: usize>(guest: &Guest, layers: [RawTar; N]) -> Result<Store> {
        let blobs = layers.map(|tar| LayerBlob::gzip(&tar.done()));
        Store::mounted(guest, &blobs)
    }
}
