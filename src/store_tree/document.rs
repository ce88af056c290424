//! Configs and manifests, read as podman reads them.
//!
//! One image whose config or manifest Go cannot decode makes `podman images`
//! fail for all: so every field that podman decodes is checked for the type
//! that Go wants, with Go's rules: keys match without regard to case, each
//! occurrence of a key counts, `null` fits everywhere, unknown keys do not
//! matter.

use super::rfc3339::is_rfc3339;
use crate::name::{BlobDigest, ConfigDigest, DiffId, DigestError};

mod json;

use json::Json;

/// What the store tree needs of an image config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFacts {
    /// When the image was made, RFC 3339; many tools leave it out.
    pub created: Option<String>,
    /// `rootfs.diff_ids`, base first.
    pub diff_ids: Vec<DiffId>,
}

/// What the store tree needs of an image manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFacts {
    /// The config's digest.
    pub config: ConfigDigest,
    /// The layers' blobs, base first.
    pub layers: Vec<BlobDigest>,
}

/// Why podman could not use a config or manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// No JSON.
    #[error("it is not JSON")]
    Json(#[from] serde_json::Error),
    /// A value of another type than podman's.
    #[error("{field} is not {expected}")]
    Type {
        /// Which value.
        field: String,
        /// What podman wants there.
        expected: &'static str,
    },
    /// Absent, though an image has one.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A manifest of a kind that podman cannot use as an image.
    #[error("the media type {0:?} is not that of an OCI or docker v2s2 image manifest")]
    MediaType(String),
    /// A key of another kind of manifest: containers/image refuses documents
    /// that could be read as two things.
    #[error("it has the key {0:?} of another kind of manifest")]
    Ambiguous(&'static str),
    /// A digest that is none.
    #[error("{field} is no digest")]
    Digest {
        /// Where it stands.
        field: &'static str,
        /// Which text.
        source: DigestError,
    },
}

/// The type that Go decodes a value into.
enum Shape {
    Text,
    Flag,
    Integer,
    Time,
    List(&'static Shape),
    Map(&'static Shape),
    Record(&'static [(&'static str, Shape)]),
}

use Shape::{Flag, Integer, List, Map, Record, Text, Time};

/// The config, as OCI's `Image` and docker's `Schema2V1Image` together: podman
/// decodes it into both.
const CONFIG: Shape = Record(&[
    ("created", Time),
    ("author", Text),
    ("architecture", Text),
    ("variant", Text),
    ("os", Text),
    ("os.version", Text),
    ("os.features", List(&Text)),
    ("config", CONTAINER),
    ("container_config", CONTAINER),
    (
        "rootfs",
        Record(&[("type", Text), ("diff_ids", List(&Text))]),
    ),
    (
        "history",
        List(&Record(&[
            ("created", Time),
            ("author", Text),
            ("created_by", Text),
            ("comment", Text),
            ("empty_layer", Flag),
        ])),
    ),
    ("id", Text),
    ("parent", Text),
    ("comment", Text),
    ("container", Text),
    ("docker_version", Text),
    ("size", Integer),
]);

const CONTAINER: Shape = Record(&[
    ("Hostname", Text),
    ("Domainname", Text),
    ("User", Text),
    ("AttachStdin", Flag),
    ("AttachStdout", Flag),
    ("AttachStderr", Flag),
    ("ExposedPorts", Map(&Record(&[]))),
    ("Tty", Flag),
    ("OpenStdin", Flag),
    ("StdinOnce", Flag),
    ("Env", List(&Text)),
    ("Cmd", List(&Text)),
    (
        "Healthcheck",
        Record(&[
            ("Test", List(&Text)),
            ("StartPeriod", Integer),
            ("StartInterval", Integer),
            ("Interval", Integer),
            ("Timeout", Integer),
            ("Retries", Integer),
        ]),
    ),
    ("ArgsEscaped", Flag),
    ("Image", Text),
    ("Volumes", Map(&Record(&[]))),
    ("WorkingDir", Text),
    ("Entrypoint", List(&Text)),
    ("NetworkDisabled", Flag),
    ("MacAddress", Text),
    ("OnBuild", List(&Text)),
    ("Labels", Map(&Text)),
    ("StopSignal", Text),
    ("StopTimeout", Integer),
    ("Shell", List(&Text)),
]);

const DESCRIPTOR: Shape = Record(&[
    ("mediaType", Text),
    ("digest", Text),
    ("size", Integer),
    ("urls", List(&Text)),
    ("annotations", Map(&Text)),
    ("data", Text),
    ("artifactType", Text),
    ("platform", Record(&[("architecture", Text), ("os", Text)])),
]);

const MANIFEST: Shape = Record(&[
    ("schemaVersion", Integer),
    ("mediaType", Text),
    ("artifactType", Text),
    ("config", DESCRIPTOR),
    ("layers", List(&DESCRIPTOR)),
    ("subject", DESCRIPTOR),
    ("annotations", Map(&Text)),
]);

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Reads an image config.
///
/// # Errors
/// What keeps podman from decoding it, or us from knowing its layers.
pub fn parse_config(bytes: &[u8]) -> Result<ConfigFacts, DocumentError> {
    let config = object(bytes, &CONFIG, "the config")?;
    let rootfs = config.get("rootfs");
    let diff_ids = rootfs.and_then(|rootfs| rootfs.get("diff_ids"));
    let diff_ids = diff_ids.map(Json::items).unwrap_or_default();
    let diff_ids = diff_ids.iter().map(|id| digest("rootfs.diff_ids", id));
    Ok(ConfigFacts {
        created: config.get("created").and_then(Json::text).map(Into::into),
        diff_ids: diff_ids.collect::<Result<_, _>>()?,
    })
}

/// Reads an image manifest, OCI or docker v2s2.
///
/// # Errors
/// What keeps podman from decoding it, or us from knowing its layers.
pub fn parse_manifest(bytes: &[u8]) -> Result<ManifestFacts, DocumentError> {
    let manifest = object(bytes, &MANIFEST, "the manifest")?;
    for key in ["fsLayers", "history", "manifests"] {
        if manifest.get(key).is_some() {
            return Err(DocumentError::Ambiguous(key));
        }
    }
    match manifest.get("mediaType").and_then(Json::text) {
        // OCI 1.0 had none.
        None | Some("" | OCI_MANIFEST | DOCKER_MANIFEST) => {}
        Some(other) => return Err(DocumentError::MediaType(other.to_owned())),
    }
    let config = manifest.get("config").and_then(|at| at.get("digest"));
    let config = config.ok_or(DocumentError::Missing("config.digest"))?;
    let layers = manifest.get("layers").map(Json::items).unwrap_or_default();
    let layers = layers.iter().map(|layer| {
        let missing = DocumentError::Missing("layers.digest");
        digest("layers.digest", layer.get("digest").ok_or(missing)?)
    });
    Ok(ManifestFacts {
        config: digest("config.digest", config)?,
        layers: layers.collect::<Result<_, _>>()?,
    })
}

fn object(bytes: &[u8], shape: &Shape, what: &str) -> Result<Json, DocumentError> {
    let json: Json = serde_json::from_slice(bytes)?;
    if !matches!(json, Json::Object(_)) {
        return Err(DocumentError::Type {
            field: what.to_owned(),
            expected: "an object",
        });
    }
    check(&json, shape, "")?;
    Ok(json)
}

fn digest<K>(field: &'static str, json: &Json) -> Result<crate::name::Digest<K>, DocumentError> {
    json.text()
        .unwrap_or_default()
        .parse()
        .map_err(|source| DocumentError::Digest { field, source })
}

/// Recursion ends with the shape, four levels down.
fn check(json: &Json, shape: &Shape, field: &str) -> Result<(), DocumentError> {
    let below = |key: &str| match field {
        "" => key.to_owned(),
        _ => format!("{field}.{key}"),
    };
    let expected = match (shape, json) {
        (_, Json::Null) | (Text, Json::Text(_)) | (Flag, Json::Flag) | (Integer, Json::Integer) => {
            return Ok(());
        }
        (Time, Json::Text(text)) if is_rfc3339(text) => return Ok(()),
        (List(shape), Json::Array(items)) => {
            return items.iter().try_for_each(|item| check(item, shape, field));
        }
        (Map(shape), Json::Object(members)) => {
            return members
                .iter()
                .try_for_each(|(key, value)| check(value, shape, &below(key)));
        }
        (Record(fields), Json::Object(members)) => {
            return members.iter().try_for_each(|(key, value)| {
                let field = fields.iter().find(|(name, _)| json::same_key(name, key));
                field.map_or(Ok(()), |(name, shape)| check(value, shape, &below(name)))
            });
        }
        (Text, _) => "a string",
        (Flag, _) => "true or false",
        (Integer, _) => "a whole number",
        (Time, _) => "a time (RFC 3339)",
        (List(_), _) => "an array",
        (Map(_) | Record(_), _) => "an object",
    };
    Err(DocumentError::Type {
        field: field.to_owned(),
        expected,
    })
}

#[cfg(test)]
mod tests;
