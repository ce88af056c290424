//! The set image: the whole store tree as one EROFS image of objects.

use std::{collections::HashSet, sync::Arc};

use crate::{
    name::{ObjectId, SetFormat},
    repo::{DeploymentId, Repo, RepoError, SetImageRecord, SetRecord, render},
    squash::tree::{Directory, FileContent, InodeContent, Node},
    store_tree::{ValidStoreTree, is_rootfs},
};

/// A set image that is in the repository and that nobody sees yet.
#[must_use = "a staged set is garbage until publish(); discard() drops it on purpose"]
#[derive(Debug)]
pub struct StagedSet<'r> {
    repo: &'r Repo,
    format: SetFormat,
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

/// Renders a store tree in a format and writes it as an object.
///
/// # Errors
/// Whatever rendering and writing say.
pub fn stage<'r>(
    repo: &'r Repo,
    tree: &ValidStoreTree,
    format: SetFormat,
) -> Result<StagedSet<'r>, RepoError> {
    let image = render(repo.view().algorithm(), tree.tree(), format, is_rootfs)?;
    let set_image = repo.ensure_object(&image)?.into_inner();
    let mut objects = vec![set_image];
    collect_objects(tree.tree(), &mut HashSet::new(), &mut objects);
    objects.sort_unstable();
    objects.dedup();
    Ok(StagedSet {
        repo,
        format,
        set_image,
        set_image_bytes: image.len() as u64,
        objects,
    })
}

/// Each object of a tree at least once. Trees of one chain share directories,
/// which are `seen` by their addresses.
fn collect_objects(
    directory: &Directory,
    seen: &mut HashSet<*const Directory>,
    objects: &mut Vec<ObjectId>,
) {
    for node in directory.entries.values() {
        match node {
            Node::Directory(child) => {
                if seen.insert(Arc::as_ptr(child)) {
                    collect_objects(child, seen, objects);
                }
            }
            Node::Inode(inode) => {
                if let InodeContent::Regular(FileContent::Object { id, .. }) = &inode.content {
                    objects.push(*id);
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
            format: self.format.number(),
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
