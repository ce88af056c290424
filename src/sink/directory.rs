//! A plain directory: the whole store tree as files.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    SinkError, WORK,
    links::{HardLinks, Links},
    place::{expect_empty_store, remove_empty_store},
};
use crate::{
    error::{Doing, PathError},
    name::ObjectId,
    repo::{RepoError, RepoView},
    squash::tree::{Directory, FileContent, Inode, InodeContent, Metadata, Node},
    store_tree::ValidStoreTree,
    sys::{self, Attributes, Special, WorkDir},
};

/// A whole store tree on disk, beside the place that it is meant for.
///
/// Dropping it removes it.
#[must_use = "a staged directory vanishes unless it is published"]
#[derive(Debug)]
pub struct StagedDirectory {
    work: WorkDir,
    place: PathBuf,
    written: Written,
}

/// What it took to write a store tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Bytes of all files, each hard link counted once.
    pub bytes: u64,
    /// How many of them were written before, for another file: what
    /// [`HardLinks::AcrossRootfs`] saves is most of it.
    pub repeated_bytes: u64,
}

/// Writes a store tree beside `place`, which must not be there, or be a store
/// without images. Owners, modes, times and extended attributes are those of the
/// tree, whatever the umask. The content of a file that is written more than
/// once takes its room once where the filesystem can share it (btrfs, xfs).
///
/// # Errors
/// [`SinkError`]; nothing is left then.
pub fn stage_directory(
    view: &RepoView,
    tree: &ValidStoreTree,
    place: &Path,
    links: HardLinks,
) -> Result<StagedDirectory, SinkError> {
    let place = std::path::absolute(place).doing("find", place)?;
    expect_empty_store(&place)?;
    sys::create_dir_all_at(sys::current_dir(), sys::parent_of(&place))?;
    let work = WorkDir::new_in(sys::parent_of(&place), WORK)?;
    let folder = sys::open_dir(work.path())?;
    sys::remove_default_acl(&folder, work.path())?;
    let top = sys::create_dir_in(&folder, Path::new("store"))?;
    let mut writer = Writer {
        view,
        top: sys::open_dir(&work.path().join("store"))?,
        place: &place,
        path: Vec::new(),
        links: Links::new(links),
        copies: HashMap::new(),
        written: Written::default(),
    };
    writer.fill(top, tree.tree())?;
    let written = writer.written;
    sys::sync_filesystem(&folder, work.path())?;
    Ok(StagedDirectory {
        work,
        place,
        written,
    })
}

impl StagedDirectory {
    /// Puts the store tree in its place.
    ///
    /// # Errors
    /// [`SinkError`]: something has come into its place meanwhile; it is as it
    /// was.
    pub fn publish(self) -> Result<Written, SinkError> {
        let (place, staged) = (&self.place, self.work.path().join("store"));
        let here = sys::current_dir();
        match sys::rename_new_at(here, &staged, place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.replace(&staged)?,
            renamed => renamed?,
        }
        sys::fsync_dir(here, sys::parent_of(place))?;
        Ok(self.written)
    }

    /// In the place of a store without images, which goes with the work.
    fn replace(&self, staged: &Path) -> Result<(), SinkError> {
        const EXDEV: i32 = 18;
        let (place, here) = (&self.place, sys::current_dir());
        expect_empty_store(place)?;
        match sys::exchange_at(here, staged, place) {
            // In a container build the old store lies in a layer below.
            Err(error) if error.source.raw_os_error() == Some(EXDEV) => {
                remove_empty_store(place)?;
                return Ok(sys::rename_new_at(here, staged, place)?);
            }
            exchanged => exchanged?,
        }
        // Somebody may have put something there in the last moment.
        if let Err(occupied) = expect_empty_store(staged) {
            sys::exchange_at(here, staged, place)?;
            return Err(match occupied {
                SinkError::Occupied { found, .. } => SinkError::Occupied {
                    path: place.clone(),
                    found,
                },
                other => other,
            });
        }
        Ok(())
    }
}

struct Writer<'a> {
    view: &'a RepoView,
    top: OwnedFd,
    // For messages: where all this will be.
    place: &'a Path,
    path: Vec<u8>,
    links: Links,
    /// Where an object's bytes have been written already.
    copies: HashMap<ObjectId, Box<[u8]>>,
    written: Written,
}

impl Writer<'_> {
    /// Fills a directory and gives it its attributes: last, since what comes
    /// into it changes its time, and a default access list would be inherited.
    fn fill(&mut self, mut dir: OwnedFd, directory: &Directory) -> Result<OwnedFd, SinkError> {
        let length = self.path.len();
        for (name, node) in &directory.entries {
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            let name = Path::new(OsStr::from_bytes(name));
            match node {
                Node::Directory(child) => {
                    self.links.enter(&self.path);
                    let made = sys::create_dir_in(&dir, name);
                    let below = self.fill(self.told(made)?, child)?;
                    let above = sys::open_parent(&below);
                    dir = self.told(above)?;
                }
                Node::Inode(inode) => self.put(&dir, name, inode)?,
            }
            self.path.truncate(length);
        }
        self.told(sys::set_attributes(&dir, attributes(&directory.metadata)))?;
        Ok(dir)
    }

    fn put(&mut self, dir: &OwnedFd, name: &Path, inode: &Arc<Inode>) -> Result<(), SinkError> {
        if let Some(first) = self.links.first(inode, &self.path) {
            const EMLINK: i32 = 31;
            let first = Path::new(OsStr::from_bytes(first));
            match sys::link_in(&self.top, first, dir, name) {
                // More names than the filesystem gives a file: another copy.
                Err(error) if error.source.raw_os_error() == Some(EMLINK) => {
                    self.links.begin_anew(inode, &self.path);
                }
                linked => return Ok(self.told(linked)?),
            }
        }
        let of = attributes(&inode.metadata);
        let special = match &inode.content {
            InodeContent::Regular(content) => {
                let mut file = self.told(sys::create_new_at(dir, name))?;
                self.write(&mut file, content)?;
                return Ok(self.told(sys::set_attributes(&file, of))?);
            }
            InodeContent::Symlink(target) => Special::Symlink(target),
            InodeContent::CharDevice(device) => Special::CharDevice(device.major, device.minor),
            InodeContent::BlockDevice(device) => Special::BlockDevice(device.major, device.minor),
            InodeContent::Fifo => Special::Fifo,
        };
        let created = self.told(sys::create_special(dir, name, special, of));
        let is_device = matches!(special, Special::CharDevice(..) | Special::BlockDevice(..));
        created.map_err(|error| match SinkError::from(error) {
            SinkError::Privilege(error) if is_device => SinkError::Device(error),
            error => error,
        })
    }

    fn write(&mut self, file: &mut File, content: &FileContent) -> Result<(), SinkError> {
        self.written.bytes += content.size();
        let (id, size) = match content {
            FileContent::Inline(bytes) => {
                return Ok(self.told(file.write_all(bytes).doing("write", ""))?);
            }
            FileContent::Object { id, size } => (id, *size),
        };
        // From a file of this very filesystem the kernel may share the blocks.
        let mut from = match self.copies.get(id) {
            Some(path) => {
                self.written.repeated_bytes += size;
                sys::open_deep(&self.top, Path::new(OsStr::from_bytes(path)))?
            }
            None => {
                self.copies.insert(*id, self.path.as_slice().into());
                self.view.open_object(id)?
            }
        };
        let copied = self.told(io::copy(&mut from, file).doing("write", ""))?;
        if copied == size {
            return Ok(());
        }
        let found = format!("it has {copied} bytes, where {size} are expected");
        Err(RepoError::BadObject { id: *id, found }.into())
    }

    /// Names the file that is being written.
    fn told<T>(&self, result: Result<T, PathError>) -> Result<T, PathError> {
        result.map_err(|error| PathError {
            path: self.place.join(OsStr::from_bytes(&self.path)),
            ..error
        })
    }
}

fn attributes(metadata: &Metadata) -> Attributes<'_> {
    Attributes {
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: metadata.mtime,
        xattrs: &metadata.xattrs,
    }
}
