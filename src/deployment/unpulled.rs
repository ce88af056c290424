//! What a host image binds that nobody has pulled, read from its layers.

use std::{
    fs,
    io::Read,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
};

use super::{SyncError, Syncer, store_images::Chains, sync::Plan};
use crate::{
    bound::LOCK_PATH,
    error::Doing,
    import::{import_alone, layer_entries},
    name::Algorithm,
    repo::{Repo, RepoError, RepoView, StoredLayer},
    source::Wanted,
    squash::{
        EntryKind, EntryName,
        tree::{Directory, FileContent, InodeContent, Node},
    },
};

/// Where a host image says what it binds, and with which credentials.
const FOLDERS: [&str; 6] = [
    "usr/lib/bootc/bound-images.d",
    "usr/lib/boundstore",
    "usr/share/containers/systemd",
    "etc/containers/systemd",
    "usr/lib/ostree",
    "etc/ostree",
];
/// Longer files say nothing that is read.
const FILE_LIMIT_BYTES: u64 = 16 << 20;

/// What was read of a host image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpulled {
    /// How many layers it has.
    pub layers: usize,
    /// How many of them were brought.
    pub layers_read: usize,
}

impl Syncer<'_> {
    /// Writes below `root`, an empty folder, what of a host image says which
    /// images it binds: its lock file, where the topmost layer that says anything
    /// of that has one, else its units and lists, for which all of its layers
    /// are brought. `work` is a folder for what they unpack to.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn read_unpulled(
        &self,
        host: &Wanted,
        work: &Path,
        root: &Path,
    ) -> Result<Unpulled, SyncError> {
        let mut plans = self.plan(None, std::slice::from_ref(host))?;
        let repo = self.new_repo(&work.join("repository"), Algorithm::Sha256)?;
        let layers = plans.iter().map(|plan| plan.image().layers.len()).sum();
        let mut brought = Vec::new();
        let mut lock = Search::Below;
        for index in (0..layers).rev() {
            brought.insert(0, self.bring(&repo, &mut plans, index)?);
            lock = match lock {
                Search::Below => search(repo.view(), &brought[0])?,
                known => known,
            };
            if let Search::Found(bytes) = &lock {
                put(root, Path::new(LOCK_PATH), bytes)?;
                break;
            }
        }
        if !matches!(lock, Search::Found(_)) {
            let trees = Chains::default().trees(repo.view(), &host.name, &brought)?;
            if let Some(tree) = trees.last() {
                let writer = Writer {
                    view: repo.view(),
                    root,
                    tree,
                };
                for folder in FOLDERS {
                    writer.write(Path::new(folder))?;
                }
            }
        }
        self.release(&plans, None);
        Ok(Unpulled {
            layers,
            layers_read: brought.len(),
        })
    }

    fn bring(
        &self,
        repo: &Repo,
        plans: &mut [Plan],
        index: usize,
    ) -> Result<StoredLayer, SyncError> {
        for plan in &mut *plans {
            plan.missing = vec![index];
        }
        let spool = self.fetch(plans)?;
        let plan = &plans[0];
        let name = || plan.image().name.clone();
        let data = plan.found.open_layer(index, spool.as_ref());
        let data = data.map_err(|source| super::sync::source_error(&name(), source))?;
        let descriptor = &plan.image().layers[index];
        import_alone(repo, descriptor, data, self.limits).map_err(|source| SyncError::Import {
            name: name(),
            layer: index,
            source,
        })
    }
}

/// What a layer says of the lock file.
enum Search {
    /// Nothing: those below may.
    Below,
    /// This is it.
    Found(Vec<u8>),
    /// There is none, or it takes all layers to know.
    Hidden,
}

fn search(view: &RepoView, layer: &StoredLayer) -> Result<Search, SyncError> {
    let mut found = Search::Below;
    for entry in layer_entries(view, &layer.diff_id, &layer.stream)? {
        // What is wrong with it, squashing tells in better words.
        let Ok(entry) = entry else {
            return Ok(Search::Hidden);
        };
        match (&entry.kind, touches(&entry.name)) {
            (_, Touches::Nothing) | (EntryKind::Directory, Touches::Folder) => {}
            (EntryKind::Regular(content), Touches::Lock) => {
                found = Search::Found(bytes(view, content)?);
            }
            _ if matches!(found, Search::Below) => found = Search::Hidden,
            _ => {}
        }
    }
    Ok(found)
}

#[derive(Debug, PartialEq, Eq)]
enum Touches {
    Nothing,
    /// It is a folder that the lock file is in, or takes its place.
    Folder,
    Lock,
    /// It hides what layers below have there.
    Hides,
}

fn touches(name: &EntryName) -> Touches {
    let names: Vec<&[u8]> = name.components().collect();
    let lock: Vec<&[u8]> = LOCK_PATH.split('/').map(str::as_bytes).collect();
    let Some((last, folder)) = names.split_last() else {
        return Touches::Nothing;
    };
    let in_the_way = folder.len() < lock.len() && lock[..folder.len()] == *folder;
    match last.strip_prefix(b".wh.") {
        Some(b".wh..opq") if in_the_way => Touches::Hides,
        Some(hidden) if in_the_way && lock[folder.len()] == hidden => Touches::Hides,
        _ if names == lock => Touches::Lock,
        _ if lock.starts_with(&names) => Touches::Folder,
        _ => Touches::Nothing,
    }
}

fn bytes(view: &RepoView, content: &FileContent) -> Result<Vec<u8>, RepoError> {
    match content {
        FileContent::Inline(bytes) => Ok(bytes.to_vec()),
        FileContent::Object { id, .. } => {
            let mut bytes = Vec::new();
            let object = view.open_object(id)?;
            object
                .take(FILE_LIMIT_BYTES)
                .read_to_end(&mut bytes)
                .doing("read", view.object_path(id))?;
            Ok(bytes)
        }
    }
}

/// `path` is of a tree: no name in it leads anywhere else.
fn put(root: &Path, path: &Path, bytes: &[u8]) -> Result<(), RepoError> {
    let path = root.join(path);
    let parent = path.parent().unwrap_or(root);
    fs::create_dir_all(parent).doing("create folder", parent)?;
    Ok(fs::write(&path, bytes).doing("write", path)?)
}

/// Writes parts of a tree below a folder, as far as a scan reads them.
struct Writer<'a> {
    view: &'a RepoView,
    root: &'a Path,
    tree: &'a Directory,
}

impl Writer<'_> {
    fn write(&self, path: &Path) -> Result<(), RepoError> {
        let names = path.iter().map(OsStrExt::as_bytes);
        match self.tree.lookup(names) {
            Some(node) => self.node(path, node),
            None => Ok(()),
        }
    }

    fn node(&self, path: &Path, node: &Node) -> Result<(), RepoError> {
        let to = self.root.join(path);
        match node {
            Node::Directory(directory) => {
                fs::create_dir_all(&to).doing("create folder", &to)?;
                for (name, node) in &directory.entries {
                    let name = std::ffi::OsStr::from_bytes(name);
                    self.node(&path.join(name), node)?;
                }
            }
            Node::Inode(inode) => match &inode.content {
                InodeContent::Regular(content) if content.size() <= FILE_LIMIT_BYTES => {
                    put(self.root, path, &bytes(self.view, content)?)?;
                }
                InodeContent::Symlink(target) if fs::symlink_metadata(&to).is_err() => {
                    let target = Path::new(std::ffi::OsStr::from_bytes(target));
                    let parent = to.parent().unwrap_or(self.root);
                    fs::create_dir_all(parent).doing("create folder", parent)?;
                    symlink(target, &to).doing("create symlink", &to)?;
                    self.write(&target_of(path, target))?;
                }
                _ => {}
            },
        }
        Ok(())
    }
}

/// Where a symlink leads in its root, by its text alone.
fn target_of(link: &Path, target: &Path) -> PathBuf {
    let mut path = match target.is_absolute() {
        true => PathBuf::new(),
        false => link.parent().map(Path::to_owned).unwrap_or_default(),
    };
    for name in target.iter().filter(|name| *name != "/" && *name != ".") {
        if name == ".." {
            path.pop();
        } else {
            path.push(name);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_layer_says_of_the_lock_file() {
        for (name, says) in [
            (LOCK_PATH, Touches::Lock),
            ("usr/lib", Touches::Folder),
            ("usr/lib/boundstore", Touches::Folder),
            ("usr/lib/boundstore/config.toml", Touches::Nothing),
            ("usr/lib64", Touches::Nothing),
            ("etc/passwd", Touches::Nothing),
            (
                "usr/lib/boundstore/.wh.bound-images.lock.json",
                Touches::Hides,
            ),
            ("usr/lib/.wh.boundstore", Touches::Hides),
            ("usr/lib/.wh.bootc", Touches::Nothing),
            ("usr/lib/boundstore/.wh..wh..opq", Touches::Hides),
            ("usr/.wh..wh..opq", Touches::Hides),
            ("etc/.wh..wh..opq", Touches::Nothing),
            (
                "usr/lib/boundstore/bound-images.lock.json/x",
                Touches::Nothing,
            ),
        ] {
            let parsed = EntryName::parse(name.as_bytes()).unwrap();
            assert_eq!(touches(&parsed), says, "{name}");
        }
    }

    #[test]
    fn where_a_link_leads() {
        for (link, target, leads) in [
            ("usr/lib/a", "b", "usr/lib/b"),
            ("usr/lib/a", "../b/./c", "usr/b/c"),
            ("usr/lib/a", "/etc/x", "etc/x"),
            ("a", "../../../x", "x"),
            ("usr/a", "/", ""),
        ] {
            let found = target_of(Path::new(link), Path::new(target));
            assert_eq!(found, Path::new(leads), "{link} -> {target}");
        }
    }
}
