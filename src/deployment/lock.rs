//! Making a lock: what a sync would publish, without a host.

use std::{collections::HashMap, path::Path};

use super::{SyncError, Syncer, sync::Plan};
use crate::{
    bound::{Difference, Lock, Locked, LockedImage, LockedLayer, LockedSetImage},
    name::{Algorithm, ImageName, ObjectId, Platform, SetFormat},
    sink,
    source::Wanted,
};

impl Syncer<'_> {
    /// Resolves and fetches the images and renders their set, in new
    /// repositories of both algorithms below `work`; [`Syncer::repo`] is not
    /// touched.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn make_lock(&self, work: &Path, wanted: &[Wanted]) -> Result<Lock, SyncError> {
        let plans = self.plan(None, wanted)?;
        let spool = self.fetch(&plans)?;
        let set_image = |algorithm: Algorithm| -> Result<ObjectId, SyncError> {
            let repo = self.new_repo(&work.join(algorithm.as_str()), algorithm)?;
            let (layers, _) = self.import(&repo, &plans, spool.as_ref(), Vec::new())?;
            let tree = self.lay_out(&repo, &plans, layers)?.tree;
            let staged = sink::stage(&repo, &tree, SetFormat::NEWEST)?;
            let set_image = staged.set_image();
            staged.discard();
            Ok(set_image)
        };
        let set_image = LockedSetImage {
            sha256: set_image(Algorithm::Sha256)?,
            sha512: set_image(Algorithm::Sha512)?,
        };
        let images = locked_images(&plans, wanted);
        self.release(&plans, spool);
        Ok(Lock::new(set_image, images))
    }

    /// How a lock differs from what its names stand for now. Only names are
    /// resolved: no layer is fetched.
    ///
    /// # Errors
    /// See [`SyncError`].
    pub fn check_drift(
        &self,
        lock: &Lock,
        wanted: &[Wanted],
    ) -> Result<Vec<Difference>, SyncError> {
        let now = locked_images(&self.plan(None, wanted)?, wanted);
        let changed = now.iter().filter_map(|image| {
            let locked = lock.image(&image.name)?;
            let (locked, found) = (locked.manifest.digest, image.manifest.digest);
            (locked != found).then(|| Difference::Changed {
                name: image.name.clone(),
                locked,
                found,
            })
        });
        Ok(changed.collect())
    }
}

fn locked_images(plans: &[Plan], wanted: &[Wanted]) -> Vec<LockedImage> {
    let platforms: HashMap<&ImageName, &Platform> = wanted
        .iter()
        .map(|wanted| (&wanted.name, &wanted.platform))
        .collect();
    let locked = |plan: &Plan| {
        let image = plan.image();
        LockedImage {
            name: image.name.clone(),
            platform: platforms[&image.name].clone(),
            index: image.index.as_ref().map(|(digest, _)| *digest),
            manifest: Locked {
                digest: image.manifest_digest,
                size: image.manifest.len() as u64,
            },
            config: Locked {
                digest: image.config_digest,
                size: image.config.len() as u64,
            },
            layers: image
                .layers
                .iter()
                .map(|layer| LockedLayer {
                    digest: layer.blob_digest,
                    size: layer.blob_size,
                    diff_id: layer.diff_id,
                })
                .collect(),
        }
    };
    plans.iter().map(locked).collect()
}
