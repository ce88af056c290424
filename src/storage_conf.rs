//! `storage.conf`: where podman keeps and finds images.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    error::{Doing, PathError},
    sys::RootDir,
};

/// Where podman sees a deployment's set.
pub const STORE_PATH: &str = "/usr/lib/containers/storage";
/// What containers-storage reads, the first that is there.
pub const STORAGE_CONF: [&str; 2] = [
    "/etc/containers/storage.conf",
    "/usr/share/containers/storage.conf",
];
/// The longest storage.conf that is read, in bytes.
const LIMIT_BYTES: u64 = 1 << 20;

/// A storage.conf, as far as it says where images are.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct StorageConf {
    /// `[storage]`
    pub storage: Storage,
}

/// `[storage]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// podman's own store.
    pub graphroot: Option<PathBuf>,
    /// Another place for that store's images.
    pub imagestore: Option<PathBuf>,
    /// `[storage.options]`
    pub options: Options,
}

/// `[storage.options]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Stores that are only read.
    pub additionalimagestores: Vec<PathBuf>,
}

/// No storage.conf that podman could use either.
#[derive(Debug, thiserror::Error)]
pub enum StorageConfError {
    /// It is none.
    #[error("{} cannot be understood", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// It could not be read.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl StorageConf {
    /// Reads the file at `path` in `root`; nothing where there is none.
    ///
    /// # Errors
    /// [`StorageConfError`]; a hostile file is one, of any size.
    pub fn read(root: &RootDir, path: &Path) -> Result<Option<Self>, StorageConfError> {
        let Some((file, _)) = root.open_file(path)? else {
            return Ok(None);
        };
        let mut text = String::new();
        file.take(LIMIT_BYTES)
            .read_to_string(&mut text)
            .doing("read", path)?;
        toml::from_str(&text)
            .map(Some)
            .map_err(|source| StorageConfError::Invalid {
                path: path.to_owned(),
                source: Box::new(source),
            })
    }
}
