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
    /// the name of the host image among them; what is about them is copied into
    /// `work`, if there is one, else left out. [`Syncer::repo`] is not touched.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn bundle(
        &self,
        wanted: &[Wanted],
        host: Option<&ImageName>,
        reference: &str,
        work: Option<&Path>,
        parent: &Path,
    ) -> Result<(StagedLayout, BundleIndex), SyncError> {
        let plans = self.plan(None, wanted)?;
        let platforms: HashMap<&ImageName, &Platform> = wanted
            .iter()
            .map(|wanted| (&wanted.name, &wanted.platform))
            .collect();
        let mut ingredients = Vec::new();
        // Little, and refused sooner than the layers would be here.
        for plan in &plans {
            let name = &plan.image().name;
            let artifacts = match work {
                Some(work) => self.trying(name, || plan.found.artifacts(work))?,
                None => Vec::new(),
            };
            ingredients.push(Ingredient {
                found: plan.found.clone(),
                platform: platforms[name].clone(),
                is_host: host == Some(name),
                artifacts,
            });
        }
        let spool = self.fetch(&plans)?;
        let made = create(&ingredients, spool.as_ref(), reference, parent)?;
        self.release(&plans, spool);
        Ok(made)
    }
}
