//! What is asked of a source.

use super::{
    AuthFile, LayerDescriptor, ResolvedImage, SourceError, SourceRef,
    image::{Documents, ImageError},
};
use crate::name::{ImageName, ManifestDigest, Platform};

/// One image to be resolved.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The name it is bound under.
    pub name: ImageName,
    /// The platform it is for.
    pub platform: Platform,
    /// Where it is to come from, if not from the registry of its name.
    pub source: Option<SourceRef>,
    /// How its registry is reached.
    pub access: Access,
    /// The digest a lock file holds it to: of its manifest, or of its index.
    pub locked: Option<ManifestDigest>,
}

/// How the registry of one image is reached, besides what the options say for
/// all.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Its own credentials; tried before those of the host.
    pub auth_file: Option<AuthFile>,
    /// `false` does without a certificate; nothing else adds to the options.
    pub tls_verify: Option<bool>,
}

impl Wanted {
    /// Wants `name`, for the host, from anywhere.
    pub fn new(name: ImageName) -> Self {
        Self {
            name,
            platform: Platform::host(),
            source: None,
            access: Access::default(),
            locked: None,
        }
    }

    /// The digests it is held to, the one in the name first: the index that the
    /// name pins is part of the image.
    pub(super) fn pins(&self) -> impl Iterator<Item = ManifestDigest> + use<> {
        self.name.pinned().into_iter().chain(self.locked)
    }

    pub(super) fn resolved(
        &self,
        documents: Documents,
        origin: &str,
    ) -> Result<ResolvedImage, SourceError> {
        ResolvedImage::new(documents, &self.platform, self.locked)
            .map_err(|source| self.unfit(source, origin))
    }

    /// It is not there: neither REF, where there is one, nor its name.
    pub(super) fn not_found(
        &self,
        reference: Option<&str>,
        origin: &str,
        held: Vec<String>,
    ) -> SourceError {
        SourceError::NotFound {
            wanted: reference.map_or_else(|| self.name.to_string(), str::to_owned),
            origin: origin.to_owned(),
            held,
        }
    }

    fn unfit(&self, source: ImageError, origin: &str) -> SourceError {
        SourceError::Image {
            wanted: self.name.to_string(),
            origin: origin.to_owned(),
            source: Box::new(source),
        }
    }
}

impl ResolvedImage {
    /// Layer `index`, or an error that says how many there are.
    pub(super) fn layer(
        &self,
        index: usize,
        origin: &str,
    ) -> Result<&LayerDescriptor, SourceError> {
        self.layers.get(index).ok_or_else(|| SourceError::NotFound {
            wanted: format!("layer {index} of {}", self.name),
            origin: origin.to_owned(),
            held: vec![format!("{} layers", self.layers.len())],
        })
    }
}
