//! An OCI image layout that is being written (OCI image spec, image-layout.md).

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::BundleError;
use crate::{
    document::{Descriptor, OCI_INDEX},
    error::Doing,
    name::{BlobDigest, Hasher},
    source::REF_NAME_KEY,
    sys::{self, WorkDir},
};

const BLOBS: &str = "blobs/sha256";

/// A layout that is being filled, in a folder of its own.
///
/// Dropping it removes it.
#[must_use = "a layout vanishes unless it is finished"]
#[derive(Debug)]
pub struct NewLayout {
    work: WorkDir,
    way_out: &'static str,
    /// What is in it, and how long that is.
    has: BTreeMap<BlobDigest, u64>,
    entries: Vec<Value>,
}

/// A whole layout that nobody sees yet.
///
/// Dropping it removes it.
#[must_use = "a staged layout vanishes unless it is published"]
#[derive(Debug)]
pub struct StagedLayout {
    work: WorkDir,
}

impl NewLayout {
    /// Begins one, in a new folder in `parent`; `way_out` says what to do where
    /// blobs that are put in are not the right ones.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(parent: &Path, way_out: &'static str) -> Result<Self, BundleError> {
        let work = WorkDir::new_in(parent, ".boundstore-bundle.")?;
        let blobs = work.path().join(BLOBS);
        fs::create_dir_all(&blobs).doing("create folder", &blobs)?;
        Ok(Self {
            work,
            way_out,
            has: BTreeMap::new(),
            entries: Vec::new(),
        })
    }

    /// Adds a blob, unless it is there, and hashes it on the way; `what` and
    /// `origin` are for the message where its bytes are not the right ones.
    ///
    /// # Errors
    /// [`BundleError::Blob`]; the system's.
    pub fn blob(
        &mut self,
        expected: &Descriptor,
        what: &str,
        origin: &str,
        open: impl FnOnce() -> Result<Box<dyn Read + Send>, BundleError>,
    ) -> Result<(), BundleError> {
        let told = |blob: &Descriptor| format!("{} of {} bytes", blob.digest, blob.size);
        if let Some(size) = self.has.get(&expected.digest) {
            if *size == expected.size {
                return Ok(());
            }
            let found = format!("the same of {size} bytes");
            return Err(self.wrong(what, origin, told(expected), found));
        }
        let path = self.path_of(&expected.digest);
        let mut file = File::create_new(&path).doing("create", &path)?;
        // One byte too many is enough to know.
        let mut from = open()?.take(expected.size.saturating_add(1));
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 1 << 17];
        loop {
            let length = from.read(&mut buffer).doing("read", origin)?;
            if length == 0 {
                break;
            }
            hasher.update(&buffer[..length]);
            file.write_all(&buffer[..length]).doing("write", &path)?;
        }
        let size = hasher.length();
        let found = Descriptor {
            digest: hasher.finish(),
            size,
        };
        if found == *expected {
            self.has.insert(found.digest, size);
            return Ok(());
        }
        let found = match size > expected.size {
            true => format!("more than {} bytes", expected.size),
            false => told(&found),
        };
        Err(self.wrong(what, origin, told(expected), found))
    }

    fn wrong(&self, what: &str, origin: &str, expected: String, found: String) -> BundleError {
        BundleError::Blob {
            what: what.to_owned(),
            origin: origin.to_owned(),
            way_out: self.way_out,
            expected,
            found,
        }
    }

    /// Adds a document.
    ///
    /// # Errors
    /// The system's.
    pub fn document(&mut self, bytes: &[u8]) -> Result<Descriptor, BundleError> {
        let of = Descriptor::of(bytes);
        if self.has.insert(of.digest, of.size).is_none() {
            let path = self.path_of(&of.digest);
            fs::write(&path, bytes).doing("write", &path)?;
        }
        Ok(of)
    }

    /// Lists a document that is in it, under a reference.
    pub fn list(&mut self, document: &Descriptor, media_type: &str, reference: Option<&str>) {
        let mut entry = json!({
            "mediaType": media_type,
            "digest": document.digest,
            "size": document.size,
        });
        if let Some(reference) = reference {
            entry["annotations"] = json!({ REF_NAME_KEY: reference });
        }
        self.entries.push(entry);
    }

    /// Writes what makes it a layout, and makes all of it durable.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(self) -> Result<StagedLayout, BundleError> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": self.entries,
        });
        let index = serde_json::to_vec_pretty(&index).unwrap_or_default();
        let marker = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
        let folder = self.work.path();
        for (name, bytes) in [("index.json", index), ("oci-layout", marker)] {
            let path = folder.join(name);
            fs::write(&path, bytes).doing("write", &path)?;
        }
        // Whatever the umask.
        let set = |path: &Path, mode| {
            let mode = Permissions::from_mode(mode);
            fs::set_permissions(path, mode).doing("change the mode of", path)
        };
        for name in ["blobs", BLOBS] {
            set(&folder.join(name), 0o755)?;
        }
        let blobs = self.has.keys().map(|digest| self.path_of(digest));
        let documents = ["index.json", "oci-layout"].map(|name| folder.join(name));
        for path in blobs.chain(documents) {
            set(&path, 0o644)?;
        }
        sys::sync_filesystem(sys::open_dir(folder)?, folder)?;
        Ok(StagedLayout { work: self.work })
    }

    fn path_of(&self, digest: &BlobDigest) -> PathBuf {
        self.work.path().join(BLOBS).join(digest.hex())
    }
}

impl StagedLayout {
    /// Where it is meanwhile.
    pub fn path(&self) -> &Path {
        self.work.path()
    }

    /// Puts it at `place`, which must not be there or be empty, on the filesystem
    /// that it was begun on.
    ///
    /// # Errors
    /// [`BundleError::Occupied`]; the system's.
    pub fn publish(self, place: &Path) -> Result<(), BundleError> {
        let mode = Permissions::from_mode(0o755);
        fs::set_permissions(self.path(), mode).doing("change the mode of", self.path())?;
        match fs::rename(self.path(), place) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                return Err(BundleError::Occupied {
                    path: place.to_owned(),
                });
            }
            renamed => renamed.doing("rename to", place)?,
        }
        Ok(sys::fsync_dir(sys::current_dir(), sys::parent_of(place))?)
    }

    /// Writes it as a tar, `oci-archive:`, in the place of one that is there. The
    /// same layout gives the same bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn archive(self, place: &Path) -> Result<(), BundleError> {
        let staged = self.path().join("archive.tar");
        let file = File::create_new(&staged).doing("create", &staged)?;
        let mut tar = tar::Builder::new(file);
        tar.mode(tar::HeaderMode::Deterministic);
        // Holes are the filesystem's.
        tar.sparse(false);
        let blobs = self.path().join(BLOBS);
        let mut names = Vec::new();
        for entry in fs::read_dir(&blobs).doing("read", &blobs)? {
            let name = entry.doing("read", &blobs)?.file_name();
            names.push(Path::new(BLOBS).join(name));
        }
        names.sort_unstable();
        let first = ["oci-layout", "index.json"].map(PathBuf::from);
        for name in first.iter().chain(&names) {
            let path = self.path().join(name);
            tar.append_path_with_name(&path, name)
                .doing("archive", &path)?;
        }
        let file = tar.into_inner().doing("write", place)?;
        let mode = Permissions::from_mode(0o644);
        file.set_permissions(mode)
            .doing("change the mode of", place)?;
        file.sync_all().doing("sync", place)?;
        fs::rename(&staged, place).doing("rename to", place)?;
        let parent = sys::parent_of(place);
        Ok(sys::fsync_dir(sys::current_dir(), parent)?)
    }
}
