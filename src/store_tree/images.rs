//! `overlay-images/images.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::layers::null_is_default;

/// One image, as `images.json` lists it (containers-storage, `images.go`,
/// type `Image`).
///
/// Written by us with the keys in this order; read from other stores too,
/// where unknown keys are skipped, absent ones and `null` are empty, and no
/// value has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageRecord {
    /// The image ID: the config digest's hex, in stores made by
    /// containers/image from OCI or docker v2s2 images.
    pub id: String,
    /// The manifest's digest, or the index's where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Full names: `host/repository:tag`, `host/repository@sha256:..`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub names: Vec<String>,
    /// The ID of the top layer; an image of no layers has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// JSON in a string, containers/image's own.
    #[serde(default, deserialize_with = "null_is_default")]
    pub metadata: String,
    /// The keys of the image's big data: config, manifests.
    #[serde(default, deserialize_with = "null_is_default")]
    pub big_data_names: Vec<String>,
    /// Key to size in bytes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub big_data_sizes: BTreeMap<String, i64>,
    /// Key to digest.
    #[serde(default, deserialize_with = "null_is_default")]
    pub big_data_digests: BTreeMap<String, String>,
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

/// Reads an `images.json`.
///
/// Empty bytes and `null` are an empty list, as for containers-storage.
///
/// # Errors
/// What is no JSON array of images with an `id`.
pub fn parse_images_json(bytes: &[u8]) -> Result<Vec<ImageRecord>, serde_json::Error> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice::<Option<_>>(bytes).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_other_stores() {
        for none in ["", "null", "[]", " [ ] "] {
            assert_eq!(parse_images_json(none.as_bytes()).unwrap(), []);
        }
        let images = parse_images_json(
            br#"[{"id":"i","unknown":{"a":[1]},"names":null,"big-data-sizes":null,"flags":{}}]"#,
        )
        .unwrap();
        let only_id = ImageRecord {
            id: "i".into(),
            ..ImageRecord::default()
        };
        assert_eq!(images, [only_id]);
        for bad in [
            "{}",
            "[null]",
            "[{}]",
            "[",
            r#"[{"id":1}]"#,
            r#"[{"id":"a","names":"b"}]"#,
            r#"[{"id":"a"}]x"#,
            "[\"\\ud800\"]",
        ] {
            assert!(parse_images_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
