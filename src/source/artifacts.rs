//! What is about an image and lies beside it: signatures, attestations, SBOMs.

use std::{path::Path, sync::Arc};

use super::{Layout, SourceError, files::verified, layout::annotated};
use crate::{
    document::{Descriptor, DocumentKind, document_kind, parse_index, parse_references},
    name::BlobDigest,
};

/// What cosign appends to the tag that it makes of a digest; and the tag of the
/// OCI distribution spec, for registries without a referrers API: an index.
pub(super) const SUFFIXES: [&str; 4] = [".sig", ".att", ".sbom", ""];

/// More than anybody has of one image.
const LIMIT: usize = 256;
/// No manifest of a signature or an SBOM is longer: its blobs may be.
const MANIFEST_LIMIT_BYTES: u64 = 1 << 20;

/// A manifest that is about an image. Nobody has judged what it says.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The manifest or index that it is about.
    pub subject: BlobDigest,
    /// Its tag, in cosign's form, where it had one: `sha256-<hex>.sig`.
    pub tag: Option<String>,
    /// Its manifest.
    pub document: Descriptor,
    /// Where it was found, as text.
    pub origin: String,
    /// The layout that its manifest and blobs are in.
    pub layout: Arc<Layout>,
}

/// The tag of what is about `subject`.
pub(super) fn tag_of(subject: &BlobDigest, suffix: &str) -> String {
    format!("sha256-{}{suffix}", subject.hex())
}

/// What a layout lists that is about `subject`: by the tag, bare or after a
/// repository, or by what its manifest says.
pub(super) fn in_layout(
    layout: &Arc<Layout>,
    subject: &BlobDigest,
) -> Result<Vec<Artifact>, SourceError> {
    let mut found = Vec::new();
    for entry in layout.all_entries() {
        let has = |tag: &String| {
            let named = |name: &str| name == tag || name.ends_with(&format!(":{tag}"));
            annotated(entry).any(named)
        };
        let tags = SUFFIXES.iter().filter(|suffix| !suffix.is_empty());
        let tag = tags.map(|suffix| tag_of(subject, suffix)).find(has);
        // What is no manifest of a readable size is about nothing: a layout holds
        // much else.
        let is_manifest = entry.kind == Some(DocumentKind::Manifest);
        let is_about = || {
            let bytes = layout.read("a manifest", &entry.document).ok()?;
            let of = parse_references(&bytes).ok()?.subject?;
            Some(of.digest == *subject)
        };
        let short = entry.document.size <= MANIFEST_LIMIT_BYTES;
        if is_manifest && short && (tag.is_some() || is_about() == Some(true)) {
            found.push(Artifact {
                subject: *subject,
                tag,
                document: entry.document,
                origin: layout.origin().to_owned(),
                layout: Arc::clone(layout),
            });
        }
    }
    expect_few(found.len(), subject, layout.origin())?;
    Ok(found)
}

fn expect_few(count: usize, subject: &BlobDigest, origin: &str) -> Result<(), SourceError> {
    match count > LIMIT {
        true => Err(SourceError::Unsupported {
            origin: origin.to_owned(),
            reason: format!(
                "{count} manifests are about {subject}, more than {LIMIT}: leave them out with --no-artifacts"
            ),
        }),
        false => Ok(()),
    }
}

/// Gets the document that a reference of a registry names, or nothing.
pub(super) type Ask<'a> = dyn FnMut(&str) -> Result<Option<Vec<u8>>, SourceError> + 'a;
/// Copies what a reference names into a layout in a folder.
pub(super) type Copy<'a> = dyn FnMut(&str, &Path) -> Result<(), SourceError> + 'a;

/// What a repository has that is about `subject`: by the tags alone, for skopeo
/// asks no referrers API. Copied into layouts in `work`.
pub(super) fn in_repository(
    repository: &str,
    subject: &BlobDigest,
    work: &Path,
    ask: &mut Ask<'_>,
    copy: &mut Copy<'_>,
) -> Result<Vec<Artifact>, SourceError> {
    let mut found = Vec::new();
    for suffix in SUFFIXES {
        let tag = tag_of(subject, suffix);
        let reference = format!("docker://{repository}:{tag}");
        let Some(bytes) = ask(&reference)? else {
            continue;
        };
        let unusable = |source| SourceError::Document {
            what: "a manifest".into(),
            origin: reference.clone(),
            source,
        };
        let documents = match document_kind(&bytes).map_err(unusable)? {
            DocumentKind::Manifest => vec![(Descriptor::of(&bytes), Some(bytes), Some(tag))],
            DocumentKind::Index => {
                let entries = parse_index(&bytes).map_err(unusable)?.entries;
                expect_few(entries.len(), subject, &reference)?;
                let entries = entries.iter().map(|entry| (entry.document, None, None));
                entries.collect()
            }
        };
        for (document, bytes, tag) in documents {
            let origin = format!("docker://{repository}@{}", document.digest);
            if bytes.is_none() {
                let bytes = ask(&origin)?.ok_or_else(|| SourceError::MissingBlob {
                    what: "a manifest".into(),
                    digest: document.digest,
                    origin: reference.clone(),
                })?;
                verified(bytes, &document, "a manifest", &origin)?;
            }
            let folder = work.join(document.digest.hex());
            // skopeo writes it last: a copy that failed has none.
            if !folder.join("index.json").exists() {
                copy(&origin, &folder)?;
            }
            found.push(Artifact {
                subject: *subject,
                tag: tag.filter(|_| !suffix.is_empty()),
                document,
                layout: Arc::new(Layout::open_dir(&folder, None)?),
                origin,
            });
        }
    }
    Ok(found)
}
