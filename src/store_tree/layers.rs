//! `overlay-layers/layers.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// One overlay layer, as `layers.json` lists it (containers-storage,
/// `layers.go`, type `Layer`).
///
/// Written by us with the keys in this order; read from other stores too,
/// where unknown keys are skipped, absent ones and `null` are empty, and no
/// value has been checked: sizes may be negative there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LayerRecord {
    /// The layer's ID.
    pub id: String,
    /// The ID of the layer below; the base layer has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Digest of the blob it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed_diff_digest: Option<String>,
    /// Length of that blob in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed_size: Option<i64>,
    /// The DiffID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_digest: Option<String>,
    /// Length of the uncompressed tar in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_size: Option<i64>,
    /// How the blob is compressed: 0 none, 1 bzip2, 2 gzip, 3 xz, 4 zstd.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "is_zero"
    )]
    pub compression: i64,
    /// The owners of its files, ascending: how large a user namespace
    /// `--userns=auto` makes.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub uidset: Vec<u32>,
    /// The groups of its files, ascending.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub gidset: Vec<u32>,
    /// What containers-storage notes of a layer; we write none.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub flags: BTreeMap<String, serde_json::Value>,
}

impl LayerRecord {
    /// Whether its extraction was never finished: such a layer must not be
    /// read.
    pub fn is_incomplete(&self) -> bool {
        self.flags.get("incomplete") == Some(&serde_json::Value::Bool(true))
    }
}

/// Reads a `layers.json`.
///
/// Empty bytes and `null` are an empty list, as for containers-storage.
///
/// # Errors
/// What is no JSON array of layers with an `id`.
pub fn parse_layers_json(bytes: &[u8]) -> Result<Vec<LayerRecord>, serde_json::Error> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice::<Option<_>>(bytes).map(Option::unwrap_or_default)
}

/// Reads `null` as Go does: it leaves the zero value.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_other_stores() {
        for none in ["", "null", "[]"] {
            assert_eq!(parse_layers_json(none.as_bytes()).unwrap(), []);
        }
        let layers = parse_layers_json(
            br#"[{"id":"l","created":"x","compressed-size":-1,"uidset":null,"flags":{"incomplete":true},"compression":null}]"#,
        )
        .unwrap();
        assert_eq!(layers[0].compressed_size, Some(-1));
        assert!(layers[0].is_incomplete());
        for bad in [
            "{}",
            "[1]",
            "[{}]",
            r#"[{"id":"l","diff-size":1.5}]"#,
            r#"[{"id":"l","diff-size":99999999999999999999}]"#,
            r#"[{"id":"l","uidset":[-1]}]"#,
        ] {
            assert!(parse_layers_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
