//! Writing objects.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{
    Repo, RepoError,
    verity::{Verity, VerityHasher, enable, fs_verity_digest, fs_verity_digests, measure},
};
use crate::{
    error::{Below, Doing, PathError},
    name::ObjectId,
    sys::{
        self,
        failpoint::{failpoint, write_all},
    },
};

/// Whether something had to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured<T> {
    /// It was not there, or not to be believed, and is now.
    Created(T),
    /// It was there and is what its name says.
    AlreadyPresent(T),
}

impl<T> Ensured<T> {
    /// The thing itself.
    pub fn into_inner(self) -> T {
        match self {
            Self::Created(value) | Self::AlreadyPresent(value) => value,
        }
    }
}

/// Writes one object, piece by piece. Up to a mebibyte, or what the caller lets
/// it hold, it is hashed before it touches the disk, so that one which exists
/// costs no write; a longer one goes to an unnamed file, which vanishes where
/// the object exists.
///
/// Dropping it leaves nothing behind.
pub struct ObjectWriter<'r> {
    repo: &'r Repo,
    hasher: VerityHasher,
    size: u64,
    buffer: Vec<u8>,
    held: usize,
    file: Option<File>,
}

impl std::fmt::Debug for ObjectWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectWriter")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

const BUFFERED: usize = 1 << 20;

impl Repo {
    /// Begins an object.
    pub fn object_writer(&self) -> ObjectWriter<'_> {
        ObjectWriter {
            repo: self,
            hasher: VerityHasher::new(self.view.algorithm()),
            size: 0,
            buffer: Vec::new(),
            held: BUFFERED,
            file: None,
        }
    }

    /// Begins an object of most likely `size` bytes, which are held in memory
    /// until their digest is known where they are no more than `held`.
    pub fn object_writer_holding(&self, size: u64, held: usize) -> ObjectWriter<'_> {
        let fits = usize::try_from(size).ok().filter(|size| *size <= held);
        ObjectWriter {
            buffer: Vec::with_capacity(fits.unwrap_or(0)),
            held: fits.unwrap_or(0),
            ..self.object_writer()
        }
    }

    /// Makes sure that an object with these bytes exists. Not yet durable:
    /// see [`Repo::sync`].
    ///
    /// # Errors
    /// Whatever writing says.
    pub fn ensure_object(&self, bytes: &[u8]) -> Result<Ensured<ObjectId>, RepoError> {
        let id = fs_verity_digest(self.view.algorithm(), bytes);
        self.settle(id, bytes.len() as u64, None, bytes)
    }

    /// The same of several objects, which are hashed side by side.
    ///
    /// # Errors
    /// Whatever writing says.
    pub fn ensure_objects(&self, all: &[&[u8]]) -> Result<Vec<ObjectId>, RepoError> {
        let ids = fs_verity_digests(self.view.algorithm(), all);
        for (id, bytes) in ids.iter().zip(all) {
            self.settle(*id, bytes.len() as u64, None, bytes)?;
        }
        Ok(ids)
    }
}

impl Write for ObjectWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        if let Some(file) = &mut self.file {
            write_all!("write object", file, bytes)?;
        } else if self.buffer.len() + bytes.len() <= self.held {
            self.buffer.extend_from_slice(bytes);
        } else {
            let mut file = self
                .repo
                .tmpfile("objects".as_ref())
                .map_err(io::Error::other)?;
            write_all!("write object", &mut file, &self.buffer)?;
            write_all!("write object", &mut file, bytes)?;
            self.buffer = Vec::new();
            self.file = Some(file);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ObjectWriter<'_> {
    /// How many bytes were written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Names the object. Not yet durable: see [`Repo::sync`].
    ///
    /// # Errors
    /// Whatever writing, sealing and linking say.
    pub fn finish(self) -> Result<Ensured<ObjectId>, RepoError> {
        let id = self.hasher.finish();
        self.repo.settle(id, self.size, self.file, &self.buffer)
    }
}

/// A name beside an object's for the moment before it is renamed: that of an
/// object which nothing refers to. Any gc takes what a kill leaves of it; at
/// a name that could be no object's, the crate's gc would fail.
fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Two threads may bring the same object.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let own = format!("{:08x}{number:08x}", std::process::id());
    let kept = name.len().saturating_sub(own.len());
    path.with_file_name(format!("{}{own}", &name[..kept]))
}

fn is_wrong_type(error: &PathError) -> bool {
    // ELOOP: a symlink, which O_NOFOLLOW refuses. ENXIO: a socket or device.
    matches!(error.source.raw_os_error(), Some(40 | 6))
}

impl Repo {
    /// Names an object of `size` bytes, which are in `file` or else in `buffer`.
    fn settle(
        &self,
        id: ObjectId,
        size: u64,
        file: Option<File>,
        buffer: &[u8],
    ) -> Result<Ensured<ObjectId>, RepoError> {
        let path = PathBuf::from(format!("objects/{}", id.object_path()));
        let distrusted = self.distrusted().contains(&id);
        if !distrusted && self.is_believed(&id, size, &path)? {
            return Ok(Ensured::AlreadyPresent(id));
        }
        let folder = path.parent().unwrap_or(Path::new("objects"));
        let file = match file {
            Some(file) => {
                sys::create_dir_all_at(self.fd(), folder).below(self.path())?;
                file
            }
            None => {
                let mut file = self.tmpfile(folder)?;
                write_all!("write object", &mut file, buffer).doing("write", &path)?;
                file
            }
        };
        self.link_object(file, &id, &path)?;
        self.unwritten.fetch_add(size, Ordering::Relaxed);
        self.distrusted().remove(&id);
        Ok(Ensured::Created(id))
    }

    /// An object that is there already is not believed by its name alone: it
    /// may be a torn write, or share its inode with a container's file.
    fn is_believed(&self, id: &ObjectId, size: u64, path: &Path) -> Result<bool, RepoError> {
        let file = match sys::open_file_at(self.fd(), path).below(self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            // A symlink, a fifo, ..: replaced.
            Err(error) if is_wrong_type(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let view = &self.view;
        if view.is_secure() {
            return Ok(match measure(view.algorithm(), &file) {
                Ok(Verity::Digest(found)) => found == *id,
                // Sealing it in place would trust bytes nobody has hashed yet.
                Ok(Verity::Absent) | Err(_) => false,
            });
        }
        if sys::trusted_owner(&file, size)
            .doing("stat", path)
            .below(self.path())?
        {
            return Ok(true);
        }
        if !file
            .metadata()
            .doing("stat", path)
            .below(self.path())?
            .is_file()
        {
            return Ok(false);
        }
        Ok(view.hash(file).doing("read", path).below(self.path())? == *id)
    }

    /// An unnamed file in a folder, which is made where it is not there yet.
    fn tmpfile(&self, folder: &Path) -> Result<File, PathError> {
        match sys::open_tmpfile(self.fd(), folder).below(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                sys::create_dir_all_at(self.fd(), folder).below(self.path())?;
                sys::open_tmpfile(self.fd(), folder).below(self.path())
            }
            opened => opened,
        }
    }

    fn link_object(&self, file: File, id: &ObjectId, path: &Path) -> Result<(), RepoError> {
        let file = if self.view.is_secure() {
            let file = sys::reopen_read_only(file)?;
            let sealed = |source| RepoError::Write {
                what: format!("object {id}"),
                source,
            };
            failpoint!("seal").map_err(|error| sealed(error.into()))?;
            enable(self.view.algorithm(), &file).map_err(sealed)?;
            match measure(self.view.algorithm(), &file).map_err(sealed)? {
                Verity::Digest(found) if found == *id => {}
                other => {
                    let found = format!("after sealing the kernel says {other:?}");
                    return Err(RepoError::BadObject { id: *id, found });
                }
            }
            file
        } else {
            file
        };
        match sys::link_tmpfile(&file, self.fd(), path).below(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Not believed; or somebody wrote the same one meanwhile.
                let temporary = temporary_name(path);
                sys::remove_at(self.fd(), &temporary).below(self.path())?;
                sys::link_tmpfile(&file, self.fd(), &temporary).below(self.path())?;
                sys::rename_at(self.fd(), &temporary, path).below(self.path())?;
            }
            other => other?,
        }
        Ok(())
    }
}
