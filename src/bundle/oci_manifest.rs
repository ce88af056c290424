//! OCI manifests, written.

use serde_json::{Value, json};

use crate::document::{Compression, ManifestDocument, OCI_MANIFEST};

/// A manifest's bytes: a function of what is given.
pub(super) fn manifest(config: &Value, layers: &[Value], artifact_type: Option<&str>) -> Vec<u8> {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
    });
    if let Some(artifact_type) = artifact_type {
        manifest["artifactType"] = artifact_type.into();
    }
    manifest["config"] = config.clone();
    manifest["layers"] = layers.into();
    // A value of strings and numbers can be written.
    serde_json::to_vec(&manifest).unwrap_or_default()
}

/// The OCI manifest of an image whose own is docker's: of the same blobs.
pub(super) fn oci_manifest(docker: &ManifestDocument) -> Vec<u8> {
    let layer = |compression| match compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    let layers: Vec<Value> = { docker.layers.iter() }
        .map(|blob| {
            json!({
                "mediaType": layer(blob.compression), "digest": blob.digest, "size": blob.size,
            })
        })
        .collect();
    let config = json!({
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": docker.config.digest, "size": docker.config.size,
    });
    manifest(&config, &layers, None)
}
