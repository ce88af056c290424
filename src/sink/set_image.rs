//! The set image: the whole store tree as one EROFS image of objects.

use std::collections::BTreeSet;

use crate::{
    name::ObjectId,
    repo::{DeploymentId, Repo, RepoError, SetImageRecord, SetRecord, render},
    squash::tree::{Directory, FileContent, InodeContent, Node},
    store_tree::ValidStoreTree,
};

/// What renders the same inputs to the same bytes; see `docs/format.md`.
/// Formats are append-only.
pub const FORMAT: u32 = 1;

/// A set image that is in the repository and that nobody sees yet.
#[must_use = "a staged set is garbage until publish(); discard() drops it on purpose"]
#[derive(Debug)]
pub struct StagedSet<'r> {
    repo: &'r Repo,
    set_image: ObjectId,
    set_image_bytes: u64,
    objects: Vec<ObjectId>,
}

/// A set that its deployment has: complete and durable.
#[derive(Debug, Clone)]
pub struct PublishedSet {
    /// What was published.
    pub record: SetRecord,
    /// How many objects it consists of.
    pub objects: usize,
}

/// Renders a store tree and writes it as an object.
///
/// # Errors
/// Whatever rendering and writing say.
pub fn stage<'r>(repo: &'r Repo, tree: &ValidStoreTree) -> Result<StagedSet<'r>, RepoError> {
    let image = render(repo.view().algorithm(), tree.tree(), is_rootfs)?;
    let set_image = repo.ensure_object(&image)?.into_inner();
    let mut objects = BTreeSet::from([set_image]);
    collect_objects(tree.tree(), &mut objects);
    Ok(StagedSet {
        repo,
        set_image,
        set_image_bytes: image.len() as u64,
        objects: objects.into_iter().collect(),
    })
}

/// `overlay/<layer>/diff`: hard links are counted within one of these.
fn is_rootfs(path: &[&[u8]]) -> bool {
    matches!(path, [b"overlay", _, b"diff"])
}

fn collect_objects(directory: &Directory, objects: &mut BTreeSet<ObjectId>) {
    for node in directory.entries.values() {
        match node {
            Node::Directory(child) => collect_objects(child, objects),
            Node::Inode(inode) => {
                if let InodeContent::Regular(FileContent::Object { id, .. }) = &inode.content {
                    objects.insert(*id);
                }
            }
        }
    }
}

impl StagedSet<'_> {
    /// The set image's fs-verity digest.
    pub fn set_image(&self) -> ObjectId {
        self.set_image
    }

    /// Lets `deployment` have the set, of bound and of kept images: the commit
    /// point.
    ///
    /// # Errors
    /// Whatever [`Repo::publish`] says; nothing has changed then.
    pub fn publish(
        self,
        deployment: &DeploymentId,
        mut images: Vec<SetImageRecord>,
        mut kept: Vec<SetImageRecord>,
    ) -> Result<PublishedSet, RepoError> {
        images.sort_by(|a, b| a.name.cmp(&b.name));
        kept.sort_by_key(|image| image.config_digest);
        let record = SetRecord {
            format: FORMAT,
            set_image: self.set_image,
            set_image_bytes: self.set_image_bytes,
            images,
            kept,
        };
        self.repo.publish(deployment, &record, &self.objects)?;
        Ok(PublishedSet {
            record,
            objects: self.objects.len(),
        })
    }

    /// Writes the pin of a set that was published before and has this very set
    /// image; no deployment's ref is touched.
    ///
    /// # Errors
    /// As those of [`Repo::pin`].
    pub fn pin_again(self, set: &SetRecord) -> Result<(), RepoError> {
        self.repo.pin(set, &self.objects)
    }

    /// Leaves it to the next garbage collection.
    pub fn discard(self) {}
}
