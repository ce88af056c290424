//! A layer of an OCI image that holds the store tree: an uncompressed tar.

use std::{
    collections::HashSet,
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    SinkError, WORK,
    links::{HardLinks, Links},
    place::{expect_file, expect_vacant},
};
use crate::{
    error::{Doing, PathError},
    name::{DiffId, Hasher, Mtime, ObjectId},
    repo::{RepoError, RepoView},
    squash::tree::{Device, Directory, FileContent, Inode, InodeContent, Metadata, Node},
    store_tree::{StorePart, ValidStoreTree},
    sys::{self, WorkDir},
};
use tar::{EntryType, Header};

/// A layer tar that is whole, beside the file it is meant to be.
///
/// Dropping it removes it.
#[must_use = "a staged tar vanishes unless it is published"]
#[derive(Debug)]
pub struct StagedLayerTar {
    work: WorkDir,
    place: PathBuf,
    layer: LayerTar,
}

/// A layer as a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerTar {
    /// The tar's digest: its DiffId in an image that has it as a layer.
    pub diff_id: DiffId,
    /// The tar's size in bytes.
    pub bytes: u64,
    /// How many of them it has already, for another file: what
    /// [`HardLinks::AcrossRootfs`] saves is most of it.
    pub repeated_bytes: u64,
}

/// The staged tar, in its folder.
const NAME: &str = "layer.tar";

/// Writes `tree` as a layer tar beside `place`, all its paths below `prefix`,
/// whose folders it has too, 0755 root:root of 1970. Needs no privilege.
///
/// The bytes are a function of tree, prefix and links alone: a ustar header for
/// each entry, names in byte order, extended headers (POSIX pax) for what ustar
/// cannot say, no names of users.
///
/// # Errors
/// [`SinkError`]; nothing is left then.
pub fn stage_layer_tar(
    view: &RepoView,
    tree: &ValidStoreTree,
    prefix: &Path,
    place: &Path,
    links: HardLinks,
) -> Result<StagedLayerTar, SinkError> {
    stage(view, tree.tree(), prefix, place, links)
}

fn stage(
    view: &RepoView,
    tree: &Directory,
    prefix: &Path,
    place: &Path,
    links: HardLinks,
) -> Result<StagedLayerTar, SinkError> {
    let place = std::path::absolute(place).doing("find", place)?;
    expect_file(&place)?;
    let work = WorkDir::new_in(sys::parent_of(&place), WORK)?;
    let mut file = File::create_new(work.path().join(NAME)).doing("create", &place)?;
    let layer = write(view, tree, prefix, links, &mut file).map_err(|error| match error {
        // The tar writer knows no path.
        SinkError::Path(error) if error.path == Path::new("") => SinkError::Path(PathError {
            path: place.clone(),
            ..error
        }),
        error => error,
    })?;
    let mode = Permissions::from_mode(0o644);
    file.set_permissions(mode)
        .doing("change the mode of", &place)?;
    file.sync_all().doing("sync", &place)?;
    Ok(StagedLayerTar { work, place, layer })
}

impl StagedLayerTar {
    /// Gives the file its name, in the place of one that has it.
    ///
    /// # Errors
    /// Whatever `rename(2)` says.
    pub fn publish(self) -> Result<LayerTar, SinkError> {
        let Self { work, place, layer } = self;
        expect_file(&place)?;
        fs::rename(work.path().join(NAME), &place).doing("rename to", &place)?;
        let parent = sys::parent_of(&place);
        sys::fsync_dir(sys::current_dir(), parent)?;
        Ok(layer)
    }
}

fn write(
    view: &RepoView,
    tree: &Directory,
    prefix: &Path,
    links: HardLinks,
    to: &mut dyn Write,
) -> Result<LayerTar, SinkError> {
    let mut writer = Writer {
        view,
        tar: tar::Builder::new(Hashing {
            to,
            hasher: Hasher::default(),
        }),
        prefix: Vec::new(),
        path: Vec::new(),
        links: Links::new(links),
        objects: HashSet::new(),
        repeated_bytes: 0,
    };
    let of_folder = Metadata {
        mode: 0o755,
        ..Metadata::default()
    };
    for name in prefix.iter().filter(|name| *name != "/") {
        if !writer.prefix.is_empty() {
            writer.entry(EntryType::Directory, &of_folder, None, b"")?;
            writer.prefix.push(b'/');
        }
        writer.prefix.extend_from_slice(name.as_encoded_bytes());
    }
    writer.fill(tree)?;
    let written = writer.tar.into_inner().doing("write", "")?;
    Ok(LayerTar {
        repeated_bytes: writer.repeated_bytes,
        bytes: written.hasher.length(),
        diff_id: written.hasher.finish(),
    })
}

/// Layer tars of a store tree's parts in one folder, beside the place that it is
/// meant for.
///
/// Dropping it removes them.
#[must_use = "staged tars vanish unless they are published"]
#[derive(Debug)]
pub struct StagedLayers {
    work: WorkDir,
    place: PathBuf,
    layers: Vec<(StorePart, PathBuf, LayerTar)>,
}

/// Writes each of the store tree's [parts](ValidStoreTree::parts) as a layer tar,
/// in the folder `place`, which must not be there or be empty: `IMAGE-ID.tar`, and
/// `store.tar` for the rest. As [`stage_layer_tar`]; hard links are made within
/// a layer only.
///
/// # Errors
/// [`SinkError`]; nothing is left then.
pub fn stage_layers(
    view: &RepoView,
    tree: &ValidStoreTree,
    prefix: &Path,
    place: &Path,
    links: HardLinks,
) -> Result<StagedLayers, SinkError> {
    let place = std::path::absolute(place).doing("find", place)?;
    expect_vacant(&place)?;
    let work = WorkDir::new_in(sys::parent_of(&place), WORK)?;
    let mut layers = Vec::new();
    for part in tree.parts() {
        let name = part.image_id.as_deref().unwrap_or("store");
        let name = format!("{name}.tar");
        let staged = stage(view, &part.tree, prefix, &work.path().join(&name), links)?;
        let layer = staged.publish()?;
        layers.push((part, place.join(name), layer));
    }
    Ok(StagedLayers {
        work,
        place,
        layers,
    })
}

impl StagedLayers {
    /// Puts the folder in its place; gives each part, its file and its layer,
    /// in the order of the layers.
    ///
    /// # Errors
    /// [`SinkError`]: something has come into its place.
    pub fn publish(self) -> Result<Vec<(StorePart, PathBuf, LayerTar)>, SinkError> {
        let work = self.work.path();
        expect_vacant(&self.place)?;
        let mode = Permissions::from_mode(0o755);
        fs::set_permissions(work, mode).doing("change the mode of", work)?;
        fs::rename(work, &self.place).doing("rename to", &self.place)?;
        let parent = sys::parent_of(&self.place);
        sys::fsync_dir(sys::current_dir(), parent)?;
        Ok(self.layers)
    }
}

struct Hashing<'a> {
    to: &'a mut dyn Write,
    hasher: Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

struct Writer<'a> {
    view: &'a RepoView,
    tar: tar::Builder<Hashing<'a>>,
    prefix: Vec<u8>,
    /// Below the prefix.
    path: Vec<u8>,
    links: Links,
    objects: HashSet<ObjectId>,
    repeated_bytes: u64,
}

impl Writer<'_> {
    fn fill(&mut self, directory: &Directory) -> Result<(), SinkError> {
        self.entry(EntryType::Directory, &directory.metadata, None, b"")?;
        let length = self.path.len();
        for (name, node) in &directory.entries {
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            match node {
                Node::Directory(child) => {
                    self.links.enter(&self.path);
                    self.fill(child)?;
                }
                Node::Inode(inode) => self.put(inode)?,
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    fn put(&mut self, inode: &Arc<Inode>) -> Result<(), SinkError> {
        let metadata = &inode.metadata;
        if let Some(first) = self.links.first(inode, &self.path) {
            let target = full(&self.prefix, first);
            return self.entry(EntryType::Link, metadata, None, &target);
        }
        match &inode.content {
            InodeContent::Regular(content) => self.regular(metadata, content),
            InodeContent::Symlink(to) => self.entry(EntryType::Symlink, metadata, None, to),
            InodeContent::CharDevice(device) => {
                self.entry(EntryType::Char, metadata, Some(*device), b"")
            }
            InodeContent::BlockDevice(device) => {
                self.entry(EntryType::Block, metadata, Some(*device), b"")
            }
            InodeContent::Fifo => self.entry(EntryType::Fifo, metadata, None, b""),
        }
    }

    fn regular(&mut self, metadata: &Metadata, content: &FileContent) -> Result<(), SinkError> {
        let mut header = header(EntryType::Regular, metadata);
        header.set_size(content.size());
        self.extend(&mut header, metadata, content.size(), b"")?;
        match content {
            FileContent::Inline(bytes) => Ok(self.append(&header, &mut &**bytes)?),
            FileContent::Object { id, size } => {
                let mut object = self.view.open_object(id)?;
                let found = object.metadata();
                let found = found.doing("stat", self.view.object_path(id))?.len();
                if found != *size {
                    let found = format!("it has {found} bytes, where {size} are expected");
                    return Err(RepoError::BadObject { id: *id, found }.into());
                }
                if !self.objects.insert(*id) {
                    self.repeated_bytes += size;
                }
                Ok(self.append(&header, &mut object)?)
            }
        }
    }

    /// An entry without content.
    fn entry(
        &mut self,
        kind: EntryType,
        metadata: &Metadata,
        device: Option<Device>,
        target: &[u8],
    ) -> Result<(), SinkError> {
        let mut header = header(kind, metadata);
        if let (Some(device), Some(ustar)) = (device, header.as_ustar_mut()) {
            ustar.set_device_major(device.major);
            ustar.set_device_minor(device.minor);
        }
        self.extend(&mut header, metadata, 0, target)?;
        Ok(self.append(&header, &mut io::empty())?)
    }

    /// Writes path and target into the header, and before it what it cannot say.
    fn extend(
        &mut self,
        header: &mut Header,
        metadata: &Metadata,
        size: u64,
        target: &[u8],
    ) -> Result<(), SinkError> {
        let mut path = full(&self.prefix, &self.path);
        if header.entry_type().is_dir() {
            path.push(b'/');
        }
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        let mut record = |key: &str, value: Vec<u8>| records.push((key.to_owned(), value));
        let old = header.as_old_mut();
        for (key, bytes, field) in [
            ("path", path.as_slice(), &mut old.name),
            ("linkpath", target, &mut old.linkname),
        ] {
            let fits = bytes.len().min(field.len());
            field[..fits].copy_from_slice(&bytes[..fits]);
            if fits < bytes.len() {
                record(key, bytes.to_vec());
            }
        }
        for (key, value, most) in [
            ("uid", u64::from(metadata.uid), MOST_OCTAL_7),
            ("gid", u64::from(metadata.gid), MOST_OCTAL_7),
            ("size", size, MOST_OCTAL_11),
        ] {
            if value > most {
                record(key, value.to_string().into_bytes());
            }
        }
        if let Some(mtime) = pax_mtime(metadata.mtime) {
            record("mtime", mtime.into_bytes());
        }
        for (name, value) in &metadata.xattrs {
            match std::str::from_utf8(name) {
                Ok(name) if !name.contains('=') => {
                    record(&format!("SCHILY.xattr.{name}"), value.to_vec());
                }
                _ => {
                    return Err(SinkError::Xattr {
                        path: String::from_utf8_lossy(&path).into_owned().into(),
                        name: String::from_utf8_lossy(name).into_owned(),
                    });
                }
            }
        }
        header.set_cksum();
        let records = records.iter().map(|(key, value)| (&**key, &**value));
        let written = self.tar.append_pax_extensions(records);
        Ok(written.doing("write", "")?)
    }

    fn append(&mut self, header: &Header, content: &mut dyn Read) -> Result<(), PathError> {
        self.tar.append(header, content).doing("write", "")
    }
}

/// The most that a field of seven octal digits holds.
const MOST_OCTAL_7: u64 = 0o777_7777;
/// The most that a field of eleven octal digits holds.
const MOST_OCTAL_11: u64 = 0o777_7777_7777;

fn header(kind: EntryType, metadata: &Metadata) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(metadata.mode);
    // What does not fit is in an extended header.
    header.set_uid(u64::from(metadata.uid).min(MOST_OCTAL_7));
    header.set_gid(u64::from(metadata.gid).min(MOST_OCTAL_7));
    let seconds = u64::try_from(metadata.mtime.sec).unwrap_or_default();
    header.set_mtime(seconds.min(MOST_OCTAL_11));
    header.set_size(0);
    header
}

/// A time that the header cannot say, as a decimal of seconds.
fn pax_mtime(Mtime { sec, nsec }: Mtime) -> Option<String> {
    let fits = u64::try_from(sec).is_ok_and(|sec| sec <= MOST_OCTAL_11);
    if fits && nsec == 0 {
        return None;
    }
    // -1.5 is two seconds before 1970 and half of one forward.
    let (sign, sec, nsec) = match (sec < 0, nsec) {
        (true, 0) => ("-", sec.unsigned_abs(), 0),
        (true, nsec) => ("-", (sec + 1).unsigned_abs(), 1_000_000_000 - nsec),
        (false, nsec) => ("", sec.unsigned_abs(), nsec),
    };
    let text = format!("{sign}{sec}.{nsec:09}");
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

fn full(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    let mut full = prefix.to_vec();
    if !full.is_empty() && !path.is_empty() {
        full.push(b'/');
    }
    full.extend_from_slice(path);
    full
}
