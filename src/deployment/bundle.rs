//! The images of a set as a bundle, without a host.

use std::{collections::HashMap, path::Path};

use super::{SyncError, Syncer};
use crate::{
    bundle::{BundleIndex, Ingredient, StagedLayout, create},
    name::{ImageName, Platform},
    source::Wanted,
};

impl Syncer<'_> {
    /// Resolves and fetches the images, with what is about them, and makes a
    /// bundle of them in a new folder in `parent`: see [`create`]. `host` is
    /// the name of the host image among them. [`Syncer::repo`] is not touched.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn bundle(
        &self,
        wanted: &[Wanted],
        host: Option<&ImageName>,
        reference: &str,
        work: &Path,
        parent: &Path,
    ) -> Result<(StagedLayout, BundleIndex), SyncError> {
        let plans = self.plan(None, wanted)?;
        let spool = self.fetch(&plans)?;
        let platforms: HashMap<&ImageName, &Platform> = wanted
            .iter()
            .map(|wanted| (&wanted.name, &wanted.platform))
            .collect();
        let mut ingredients = Vec::new();
        for plan in &plans {
            let name = &plan.image().name;
            let artifacts = plan.found.artifacts(work);
            ingredients.push(Ingredient {
                found: plan.found.clone(),
                platform: platforms[name].clone(),
                is_host: host == Some(name),
                artifacts: artifacts.map_err(|source| super::sync::source_error(name, source))?,
            });
        }
        let made = create(&ingredients, spool.as_ref(), reference, parent)?;
        self.release(&plans, spool);
        Ok(made)
    }
}
