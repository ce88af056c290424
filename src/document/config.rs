//! Image configs.

use super::{
    DocumentError, LAYER_LIMIT,
    json::Json,
    manifest::{digest, platform},
    shape::CONFIG,
};
use crate::name::{DiffId, Platform};

/// A config, as far as resolving and the store tree need it: claims, all of
/// them. An image may claim another's DiffIDs; whoever reads a layer hashes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigDocument {
    /// What it was built for, where it says so.
    pub platform: Option<Platform>,
    /// When the image was made, RFC 3339; many tools leave it out.
    pub created: Option<String>,
    /// `rootfs.diff_ids`, base first; none where there is no rootfs.
    pub diff_ids: Vec<DiffId>,
}

/// Parses an image config (OCI image-spec `config.md`, docker's v1.2), and
/// refuses what would make podman fail for every image of the store: it reads
/// the configs of all of them.
///
/// # Errors
/// [`DocumentError`].
pub fn parse_config(bytes: &[u8]) -> Result<ConfigDocument, DocumentError> {
    let config = Json::read(bytes, &CONFIG)?;
    let rootfs = config.get("rootfs");
    let kind = rootfs.get("type").text();
    if !matches!(kind, "layers" | "") {
        return Err(DocumentError::Rootfs { found: kind.into() });
    }
    let diff_ids = rootfs.get("diff_ids").items();
    if diff_ids.len() > LAYER_LIMIT {
        return Err(DocumentError::TooManyLayers {
            found: diff_ids.len(),
        });
    }
    let created = config.get("created");
    Ok(ConfigDocument {
        platform: platform(&config),
        created: (!created.is_null()).then(|| created.text().to_owned()),
        diff_ids: diff_ids
            .iter()
            .enumerate()
            .map(|(index, id)| digest(id, &format!("rootfs.diff_ids[{index}]")))
            .collect::<Result<_, _>>()?,
    })
}
