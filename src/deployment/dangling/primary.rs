//! podman's own store: who is in it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use crate::{
    deployment::expose::SOURCE,
    error::PathError,
    source::{DEFAULT_GRAPH_ROOT, SourceError, StoreLists},
    storage_conf::{STORAGE_CONF, STORE_PATH, StorageConf, StorageConfError},
    store_tree::{ImageRecord, LayerRecord, null_is_default, parse_images_json, parse_layers_json},
    sys::{self, RootDir},
};

/// One container, as `containers.json` lists it (containers-storage,
/// `containers.go`, type `Container`). No value has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct ContainerRecord {
    /// Its ID.
    pub id: String,
    /// Its names.
    #[serde(default, deserialize_with = "null_is_default")]
    pub names: Vec<String>,
    /// The ID of its image; empty where it has none.
    #[serde(default)]
    pub image: String,
    /// The ID of its own layer.
    #[serde(default)]
    pub layer: String,
    /// What containers-storage notes of it.
    #[serde(default)]
    pub flags: Option<BTreeMap<String, serde_json::Value>>,
}

impl ContainerRecord {
    /// Whether it goes with its end, as those of `podman run --rm` and of
    /// quadlets do: it will start no more, whatever is shown.
    pub fn is_volatile(&self) -> bool {
        let flag = self.flags.as_ref().and_then(|flags| flags.get("Volatile"));
        flag == Some(&serde_json::Value::Bool(true))
    }
}

/// podman's own ("primary") store as its lists were at one instant, and what
/// other stores that it reads have, ours left out.
#[derive(Debug, Clone, Default)]
pub struct PrimaryStore {
    /// Its graph root.
    pub path: PathBuf,
    pub(super) containers: Vec<ContainerRecord>,
    pub(super) images: Vec<ImageRecord>,
    /// Each layer with its parent.
    parents: HashMap<String, Option<String>>,
    /// The images and layers of other stores.
    elsewhere: HashSet<String>,
}

/// Why it is not known who is in podman's own store.
#[derive(Debug, thiserror::Error)]
pub enum PrimaryError {
    /// A store cannot be read.
    #[error(transparent)]
    Store(#[from] SourceError),
    /// No storage.conf that podman could use either.
    #[error(transparent)]
    Conf(#[from] StorageConfError),
    /// A file could not be read.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl PrimaryError {
    /// Whether another process held the store: it may be known a little later.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Store(SourceError::Locked { .. }))
    }
}

impl PrimaryStore {
    /// Reads the primary store of the host whose file tree is at `root`: the
    /// one that `conf`, else the host's storage.conf names. Each lock is waited
    /// for no longer than `lock_limit`.
    ///
    /// A store that is not there is one without users.
    ///
    /// # Errors
    /// [`PrimaryError`]; a hostile list or file is one, of any size.
    pub fn read(
        root: &Path,
        conf: Option<&Path>,
        lock_limit: Duration,
    ) -> Result<Self, PrimaryError> {
        let host = RootDir::open(root)?;
        let conf = storage_conf(&host, conf)?;
        let graph_root = conf.storage.graphroot;
        let graph_root = graph_root.unwrap_or_else(|| DEFAULT_GRAPH_ROOT.into());
        let mut primary = Self {
            path: graph_root,
            ..Self::default()
        };
        let Some(dir) = open_store(&host, &primary.path)? else {
            return Ok(primary);
        };
        let origin = dir.path().display().to_string();
        let mut lists = StoreLists::new(&dir, &origin, lock_limit);
        let layers = lists.read("layers", parse_layers_json)?;
        primary.images = lists.read("images", parse_images_json)?;
        primary.containers = lists.read("containers", parse_containers_json)?;
        drop(lists);
        let with_parent = |layer: LayerRecord| (layer.id, layer.parent);
        primary.parents = layers.into_iter().map(with_parent).collect();
        let options = conf.storage.options;
        let stores = options.additionalimagestores.into_iter();
        let ours = shown_at(root)?;
        for store in stores.chain(conf.storage.imagestore) {
            if !ours.contains(&store) && store != primary.path {
                primary.add_other(&host, &store, lock_limit)?;
            }
        }
        Ok(primary)
    }

    fn add_other(
        &mut self,
        host: &RootDir,
        store: &Path,
        lock_limit: Duration,
    ) -> Result<(), PrimaryError> {
        let Some(dir) = open_store(host, store)? else {
            return Ok(());
        };
        let origin = dir.path().display().to_string();
        let mut lists = StoreLists::new(&dir, &origin, lock_limit);
        let layers = lists.read("layers", parse_layers_json)?;
        let images = lists.read("images", parse_images_json)?;
        let ids = layers.into_iter().map(|layer| layer.id);
        self.elsewhere
            .extend(ids.chain(images.into_iter().map(|image| image.id)));
        Ok(())
    }

    /// The containers, running or not, that stand on one of these layers of ours.
    pub fn standing_on(&self, layers: &HashSet<String>) -> Vec<&ContainerRecord> {
        let stands = |container: &&ContainerRecord| {
            let layer = self.outside_layer(&container.layer);
            layer.is_some_and(|layer| layers.contains(layer))
        };
        self.containers.iter().filter(stands).collect()
    }

    pub(super) fn has_layer(&self, id: &str) -> bool {
        self.parents.contains_key(id)
    }

    /// Whether the documents of an image are in this store or another.
    pub(super) fn has_image(&self, id: &str) -> bool {
        let mut images = self.images.iter();
        self.elsewhere.contains(id)
            || images.any(|image| image.id == id && !image.big_data_names.is_empty())
    }

    /// The topmost layer at or below `top` that no store but ours can have.
    pub(super) fn outside_layer<'a>(&'a self, top: &'a str) -> Option<&'a str> {
        let mut next = Some(top);
        // Parents that name each other would go round for ever.
        for _ in 0..=self.parents.len() {
            let id = next.filter(|id| !id.is_empty())?;
            next = match self.parents.get(id) {
                Some(parent) => parent.as_deref(),
                None if self.elsewhere.contains(id) => return None,
                None => return Some(id),
            };
        }
        None
    }
}

/// The storage.conf that podman reads: the one it is told of, else the host's.
fn storage_conf(host: &RootDir, told: Option<&Path>) -> Result<StorageConf, StorageConfError> {
    let usual = STORAGE_CONF.iter().map(Path::new);
    for path in told.map_or(usual.collect(), |path| vec![path]) {
        if let Some(conf) = StorageConf::read(host, path)? {
            return Ok(conf);
        }
    }
    Ok(StorageConf::default())
}

/// Where this host's podman sees our sets, or will.
fn shown_at(root: &Path) -> Result<HashSet<PathBuf>, PathError> {
    let table = sys::mount_table()?.into_iter();
    let ours = table.filter(|mount| mount.source.starts_with(SOURCE));
    let in_root = ours.filter_map(|mount| {
        let path = mount.target.strip_prefix(root).ok()?;
        Some(Path::new("/").join(path))
    });
    Ok(in_root.chain([STORE_PATH.into()]).collect())
}

/// A graph root with layers of the overlay driver; nothing where there is none.
fn open_store(host: &RootDir, path: &Path) -> Result<Option<RootDir>, PathError> {
    match host.open_dir(path.join("overlay-layers")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(_) => host.open_dir(path).map(Some),
    }
}

fn parse_containers_json(bytes: &[u8]) -> Result<Vec<ContainerRecord>, serde_json::Error> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice::<Option<_>>(bytes).map(Option::unwrap_or_default)
}
