//! Making a bundle of images that were found.

use std::{collections::BTreeMap, path::Path};

use serde_json::json;

use super::{
    BundleError, BundleIndex, BundledImage, Content, Member, NewLayout, StagedLayout,
    index::ARTIFACT_TYPE,
    oci_manifest::{manifest, oci_manifest},
};
use crate::{
    document::{
        Descriptor, OCI_INDEX, OCI_MANIFEST, document_media_type, parse_index, parse_manifest,
        parse_references,
    },
    name::{BlobDigest, Platform},
    source::{Artifact, Found, Spool},
};

/// One image that goes into a bundle, with what is about it.
#[derive(Debug)]
pub struct Ingredient {
    /// The image.
    pub found: Found,
    /// The platform that it was chosen for.
    pub platform: Platform,
    /// Whether it is the host image.
    pub is_host: bool,
    /// Its signatures and SBOMs.
    pub artifacts: Vec<Artifact>,
}

/// Writes a bundle as a layout in a new folder in `parent`, listed there as
/// `reference`. Layers from the network are in `spool`. Every blob is hashed.
/// The same images give the same bytes.
///
/// # Errors
/// [`BundleError`]; nothing is left then.
pub fn create(
    ingredients: &[Ingredient],
    spool: Option<&Spool>,
    reference: &str,
    parent: &Path,
) -> Result<(StagedLayout, BundleIndex), BundleError> {
    let mut maker = Maker {
        layout: NewLayout::begin(
            parent,
            "take the image from its registry, or from an OCI layout",
        )?,
        originals: BTreeMap::new(),
    };
    let mut members = Vec::new();
    let mut ordered: Vec<&Ingredient> = ingredients.iter().collect();
    ordered.sort_by_key(|one| (!one.is_host, one.found.image.name.clone()));
    for ingredient in &ordered {
        members.push(maker.image(ingredient, spool)?);
    }
    // One is about several images where these share a manifest.
    let mut artifacts = BTreeMap::new();
    for artifact in ordered.iter().flat_map(|one| &one.artifacts) {
        let key = (artifact.subject, artifact.document.digest);
        artifacts.entry(key).or_insert(artifact);
    }
    for artifact in artifacts.values() {
        members.push(maker.artifact(artifact)?);
    }
    members.extend(maker.originals()?);
    let index = BundleIndex { members };
    let bytes = index.to_json();
    let mut layout = maker.layout;
    let document = layout.document(&bytes)?;
    layout.list(&document, OCI_INDEX, Some(reference));
    Ok((layout.finish()?, index))
}

struct Maker {
    layout: NewLayout,
    /// What the index cannot list, by digest.
    originals: BTreeMap<BlobDigest, Vec<u8>>,
}

impl Maker {
    fn image(
        &mut self,
        ingredient: &Ingredient,
        spool: Option<&Spool>,
    ) -> Result<Member, BundleError> {
        let Found { image, origin, .. } = &ingredient.found;
        let unusable = |source| BundleError::Document {
            what: format!("the manifest of {}", image.name),
            source,
        };
        self.layout.document(&image.config)?;
        for (index, layer) in image.layers.iter().enumerate() {
            let what = format!("layer {index} of {}", image.name);
            let blob = Descriptor {
                digest: layer.blob_digest,
                size: layer.blob_size,
            };
            self.layout.blob(&blob, &what, origin, || {
                Ok(ingredient.found.open_layer(index, spool)?.reader)
            })?;
        }
        let mut top = image.manifest_digest.cast();
        if let Some((digest, bytes)) = &image.index {
            let listed = parse_index(bytes).map_err(unusable)?;
            let manifest = Descriptor::of(&image.manifest);
            if !listed.entries.iter().any(|e| e.document == manifest) {
                let name = image.name.to_string();
                return Err(BundleError::Nested { name });
            }
            top = digest.cast();
            self.originals.insert(top, bytes.clone());
        }
        let manifest = match document_media_type(&image.manifest).map_err(unusable)? {
            said if said == OCI_MANIFEST => image.manifest.clone(),
            _ => {
                let original = image.manifest_digest.cast();
                self.originals.insert(original, image.manifest.clone());
                oci_manifest(&parse_manifest(&image.manifest).map_err(unusable)?)
            }
        };
        Ok(Member {
            document: self.layout.document(&manifest)?,
            content: Content::Image(BundledImage {
                is_host: ingredient.is_host,
                name: image.name.clone(),
                platform: ingredient.platform.clone(),
                manifest: image.manifest_digest,
                top,
            }),
        })
    }

    fn artifact(&mut self, artifact: &Artifact) -> Result<Member, BundleError> {
        let what = format!("an artifact of {}", artifact.subject);
        let bytes = artifact.layout.read(&what, &artifact.document)?;
        let unusable = |source| BundleError::Document {
            what: what.clone(),
            source,
        };
        let references = parse_references(&bytes).map_err(unusable)?;
        if document_media_type(&bytes).map_err(unusable)? != OCI_MANIFEST {
            return Err(BundleError::Artifact { what });
        }
        for blob in &references.blobs {
            let holder = &artifact.layout;
            self.layout.blob(blob, &what, &artifact.origin, || {
                Ok(holder.open_blob(&what, blob)?)
            })?;
        }
        let subject = artifact.subject;
        let tag = artifact.tag.clone();
        Ok(Member {
            document: self.layout.document(&bytes)?,
            content: Content::Artifact { subject, tag },
        })
    }

    /// The manifest of what the index cannot list, where there is anything.
    fn originals(&mut self) -> Result<Option<Member>, BundleError> {
        if self.originals.is_empty() {
            return Ok(None);
        }
        let mut layers = Vec::new();
        for bytes in self.originals.values() {
            let Descriptor { digest, size } = self.layout.document(bytes)?;
            let media_type = "application/vnd.boundstore.original.v1+json";
            layers.push(json!({ "mediaType": media_type, "digest": digest, "size": size }));
        }
        let Descriptor { digest, size } = self.layout.document(b"{}")?;
        let config = json!({
            "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest, "size": size,
        });
        let manifest = manifest(&config, &layers, Some(ARTIFACT_TYPE));
        Ok(Some(Member {
            document: self.layout.document(&manifest)?,
            content: Content::Originals,
        }))
    }
}
