//! The outside world of a sync, as the command line describes it.

use std::{cell::RefCell, collections::HashMap};

use crate::{
    deployment::Supply,
    name::ManifestDigest,
    source::{LayerData, Layout, ResolvedImage, SourceError, SourceRef, Wanted},
};

#[derive(Default)]
pub(super) struct Layouts {
    opened: RefCell<HashMap<ManifestDigest, Layout>>,
}

impl Supply for Layouts {
    fn resolve(&self, wanted: &Wanted) -> Result<ResolvedImage, SourceError> {
        let Some(SourceRef::Oci { path, reference }) = &wanted.source else {
            return Err(SourceError::NoSkopeo {
                program: "skopeo".into(),
            });
        };
        let layout = Layout::open_dir(path, reference.as_deref())?;
        let image = layout.resolve(wanted)?;
        self.opened
            .borrow_mut()
            .insert(image.manifest_digest, layout);
        Ok(image)
    }
    fn fetch(&self, _: &ResolvedImage, _: &[usize]) -> Result<(), SourceError> {
        Ok(())
    }
    fn open_layer(&self, image: &ResolvedImage, layer: usize) -> Result<LayerData, SourceError> {
        self.opened.borrow()[&image.manifest_digest].open_layer(image, layer)
    }
    fn release(&self, _: &[ResolvedImage]) {}
}
