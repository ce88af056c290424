//! A set as files, without a host: for images that hold their apps themselves.

use std::path::Path;

use super::{SyncError, Syncer, sync::LaidOut};
use crate::{
    name::Algorithm,
    repo::{RepoView, SetImageRecord},
    sink::{self, SinkError},
    source::Wanted,
    squash::Dropped,
    store_tree::ValidStoreTree,
};

/// A set that was laid out and handed on.
#[derive(Debug)]
pub struct Embedded<T> {
    /// What came of handing it on.
    pub result: T,
    /// Its images, by name.
    pub images: Vec<SetImageRecord>,
    /// What squashing left out of the trees on purpose.
    pub dropped: Dropped,
}

impl Syncer<'_> {
    /// Resolves and fetches the images, lays their set out, and hands it to
    /// `write`, with the repository that has its objects: a new one below
    /// `work`. [`Syncer::repo`] is not touched.
    ///
    /// # Errors
    /// See [`SyncError`]; whatever `write` says.
    pub fn embed<T>(
        &self,
        work: &Path,
        wanted: &[Wanted],
        write: impl FnOnce(&RepoView, &ValidStoreTree) -> Result<T, SinkError>,
    ) -> Result<Embedded<T>, SyncError> {
        let plans = self.plan(None, wanted)?;
        let spool = self.fetch(&plans)?;
        let repo = self.new_repo(&work.join("repository"), Algorithm::Sha512)?;
        let (layers, _) = self.import(&repo, &plans, spool.as_ref(), Vec::new())?;
        let LaidOut {
            tree,
            records,
            dropped,
            ..
        } = self.lay_out(&repo, &plans, layers)?;
        if self.lock.is_some() {
            let staged = sink::stage(&repo, &tree, self.format())?;
            self.check_lock(repo.view(), staged.set_image())?;
            staged.discard();
        }
        // What did not reach the disk could be read back as something else.
        repo.sync()?;
        let result = write(repo.view(), &tree)?;
        self.release(&plans, spool);
        Ok(Embedded {
            result,
            images: records,
            dropped,
        })
    }
}
