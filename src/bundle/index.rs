//! The index of a bundle, as a value.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::BundleError;
use crate::{
    document::{Descriptor, IndexDocument, IndexEntry, OCI_INDEX, OCI_MANIFEST, parse_index},
    name::{BlobDigest, ImageName, ManifestDigest, Platform},
    source::BUNDLE as VERSION,
};

/// What a bundle's index says it is, for registries. Whoever rewrites an index
/// may lose it: what counts here is the annotation [`VERSION`].
pub const ARTIFACT_TYPE: &str = "application/vnd.boundstore.bundle.v1+json";

const ROLE: &str = "dev.boundstore.bundle.role";
const NAME: &str = "dev.boundstore.bundle.name";
const DIGEST: &str = "dev.boundstore.bundle.digest";
const MANIFEST: &str = "dev.boundstore.bundle.manifest";
const TOP: &str = "dev.boundstore.bundle.top";
const SUBJECT: &str = "dev.boundstore.bundle.subject";
const TAG: &str = "dev.boundstore.bundle.tag";

/// The index of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleIndex {
    /// Host image first, then bound images by name, artifacts, originals.
    pub members: Vec<Member>,
}

/// One manifest that a bundle lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The manifest.
    pub document: Descriptor,
    /// What it is.
    pub content: Content,
}

/// What a manifest in a bundle is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The host image, or a bound one.
    Image(BundledImage),
    /// A signature, an attestation, an SBOM.
    Artifact {
        /// The manifest or index that it is about.
        subject: BlobDigest,
        /// Its tag, in cosign's form, where it had one: `sha256-<hex>.sig`.
        tag: Option<String>,
    },
    /// The bytes of original documents.
    Originals,
}

/// One image in a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundledImage {
    /// Whether it is the host image.
    pub is_host: bool,
    /// The name it is bound under.
    pub name: ImageName,
    /// The platform it is for.
    pub platform: Platform,
    /// Its original manifest: another than the member's document where that
    /// is docker's.
    pub manifest: ManifestDigest,
    /// What its name stands for: the original index, or the manifest.
    pub top: BlobDigest,
}

impl BundleIndex {
    /// The index's bytes: a function of the value.
    pub fn to_json(&self) -> Vec<u8> {
        let members: Vec<Value> = self.members.iter().map(Member::to_json).collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "artifactType": ARTIFACT_TYPE,
            "manifests": members,
            "annotations": { VERSION: "1" },
        });
        // A value of strings and numbers can be written.
        serde_json::to_vec_pretty(&index).unwrap_or_default()
    }

    /// Whether bytes are meant to be the index of a bundle, of any version.
    ///
    /// # Errors
    /// [`BundleError::Document`]: they are no index at all.
    pub fn is_one(bytes: &[u8]) -> Result<bool, BundleError> {
        Ok(read(bytes)?.annotations.contains_key(VERSION))
    }

    /// Reads the index of a bundle: everything in it is a claim.
    ///
    /// # Errors
    /// [`BundleError::Index`] for what is none, of a later version, with a name
    /// or the originals twice; [`BundleError::Rewritten`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let digest = BlobDigest::of(bytes);
        let bad = |reason: String| BundleError::Index { digest, reason };
        let index = read(bytes)?;
        match index.annotations.get(VERSION).map(String::as_str) {
            Some("1") => {}
            Some(other) => {
                let this = env!("CARGO_PKG_VERSION");
                return Err(bad(format!(
                    "it is of version {other:?}, which boundstore {this} does not know"
                )));
            }
            None => return Err(bad(format!("it has no annotation {VERSION}"))),
        }
        let mut seen = BTreeSet::new();
        let mut members = Vec::new();
        for (at, entry) in index.entries.iter().enumerate() {
            let member = Member::parse(entry, &|reason| bad(format!("entry {at}: {reason}")))?;
            let once = match &member.content {
                Content::Image(image) if image.is_host => {
                    vec!["the host image".to_owned(), image.name.to_string()]
                }
                Content::Image(image) => vec![image.name.to_string()],
                Content::Originals => vec!["the originals".to_owned()],
                Content::Artifact { .. } => Vec::new(),
            };
            for once in once {
                if seen.contains(&once) {
                    return Err(bad(format!("it has {once} twice")));
                }
                seen.insert(once);
            }
            members.push(member);
        }
        Ok(Self { members })
    }

    /// Its images, the host's first.
    pub fn images(&self) -> impl Iterator<Item = (&Descriptor, &BundledImage)> {
        self.members
            .iter()
            .filter_map(|member| match &member.content {
                Content::Image(image) => Some((&member.document, image)),
                _ => None,
            })
    }
}

impl Member {
    fn to_json(&self) -> Value {
        let mut annotations = Map::new();
        let mut put = |key: &str, value: String| annotations.insert(key.to_owned(), value.into());
        put(DIGEST, self.document.digest.to_string());
        let mut platform = None;
        match &self.content {
            Content::Image(image) => {
                let role = if image.is_host { "host" } else { "bound" };
                put(ROLE, role.to_owned());
                put(NAME, image.name.to_string());
                put(MANIFEST, image.manifest.to_string());
                put(TOP, image.top.to_string());
                platform = Some(&image.platform);
            }
            Content::Artifact { subject, tag } => {
                put(ROLE, "artifact".to_owned());
                put(SUBJECT, subject.to_string());
                if let Some(tag) = tag {
                    put(TAG, tag.clone());
                }
            }
            Content::Originals => {
                put(ROLE, "originals".to_owned());
            }
        }
        // No artifactType here: containers/image before 5.30 loses it when it
        // copies the index, and takes the index for changed.
        let mut entry = json!({
            "mediaType": OCI_MANIFEST,
            "digest": self.document.digest,
            "size": self.document.size,
        });
        if let Some(platform) = platform {
            let mut stated = json!({ "architecture": platform.architecture, "os": platform.os });
            if let Some(variant) = &platform.variant {
                stated["variant"] = variant.as_str().into();
            }
            entry["platform"] = stated;
        }
        entry["annotations"] = annotations.into();
        entry
    }

    fn parse(entry: &IndexEntry, bad: &dyn Fn(String) -> BundleError) -> Result<Self, BundleError> {
        let text = |key: &str| entry.annotations.get(key);
        let wanted =
            |key: &str| text(key).ok_or_else(|| bad(format!("it has no annotation {key}")));
        let digest = |key: &str| -> Result<BlobDigest, BundleError> {
            let text = wanted(key)?;
            text.parse()
                .map_err(|error| bad(format!("annotation {key}: {error}")))
        };
        let content = match wanted(ROLE)?.as_str() {
            role @ ("host" | "bound") => Content::Image(BundledImage {
                is_host: role == "host",
                name: { wanted(NAME)?.parse() }
                    .map_err(|error| bad(format!("annotation {NAME}: {error}")))?,
                platform: { entry.platform.as_ref() }
                    .ok_or_else(|| bad("it states no platform".to_owned()))?
                    .to_string()
                    .parse()
                    .map_err(|error| bad(format!("its platform: {error}")))?,
                manifest: digest(MANIFEST)?.cast(),
                top: digest(TOP)?,
            }),
            "artifact" => {
                let subject = digest(SUBJECT)?;
                let tag = text(TAG).cloned();
                if let Some(tag) = &tag
                    && !is_tag_of(tag, &subject)
                {
                    return Err(bad(format!("{tag:?} is no tag of what {subject} is about")));
                }
                Content::Artifact { subject, tag }
            }
            "originals" => Content::Originals,
            other => return Err(bad(format!("its role {other:?} is unknown"))),
        };
        let made = digest(DIGEST)?;
        if made != entry.document.digest {
            return Err(BundleError::Rewritten {
                what: match &content {
                    Content::Image(image) => image.name.to_string(),
                    Content::Artifact { subject, .. } => format!("an artifact of {subject}"),
                    Content::Originals => "the originals".to_owned(),
                },
                made,
                found: entry.document.digest,
            });
        }
        Ok(Self {
            document: entry.document,
            content,
        })
    }
}

fn read(bytes: &[u8]) -> Result<IndexDocument, BundleError> {
    parse_index(bytes).map_err(|source| BundleError::Document {
        what: format!("the index {}", BlobDigest::of(bytes)),
        source,
    })
}

/// Whether a tag is one that cosign gives to what is about `subject`.
fn is_tag_of(tag: &str, subject: &BlobDigest) -> bool {
    let suffix = tag
        .strip_prefix("sha256-")
        .and_then(|tag| tag.strip_prefix(&*subject.hex()));
    matches!(suffix, Some(".sig" | ".att" | ".sbom"))
}
