//! The media types of OCI and docker v2 schema 2 that make up images.

use super::DocumentError;

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// The manifest of one image.
    Manifest,
    /// An index (manifest list) of several.
    Index,
}

impl DocumentKind {
    /// For messages: `a manifest`, `an index`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "a manifest",
            Self::Index => "an index",
        }
    }
}

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, of one or more members.
    Gzip,
    /// zstd, zstd:chunked too.
    Zstd,
}

/// The media type of docker's manifests, v2 schema 2.
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The media type of OCI's manifests.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of OCI's indexes.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Whether podman (containers/image, `OCI1.Inspect`, `SupportedSchema2MediaType`)
/// takes a config of this type in a manifest that is docker's, or OCI's.
pub(super) fn config_fits(text: &str, docker: bool) -> bool {
    docker || text == OCI_CONFIG
}

/// Whether it takes a layer of this type; 4.3.1 knows no zstd in docker's.
pub(super) fn layer_fits(text: &str, docker: bool) -> bool {
    !docker
        || matches!(
            text,
            "application/vnd.docker.image.rootfs.diff.tar"
                | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        )
}

pub(super) fn document(text: &str) -> Option<DocumentKind> {
    match text {
        OCI_MANIFEST | DOCKER_MANIFEST => Some(DocumentKind::Manifest),
        OCI_INDEX | "application/vnd.docker.distribution.manifest.list.v2+json" => {
            Some(DocumentKind::Index)
        }
        _ => None,
    }
}

pub(super) fn is_image_config(text: &str) -> bool {
    matches!(
        text,
        OCI_CONFIG | "application/vnd.docker.container.image.v1+json"
    )
}

/// The compression of layer `index`, by its media type.
pub(super) fn layer(text: &str, index: usize) -> Result<Compression, DocumentError> {
    let media_type = text.to_owned();
    if text.ends_with("+encrypted") {
        return Err(DocumentError::EncryptedLayer { index, media_type });
    }
    if text.contains(".nondistributable.") || text.contains(".foreign.") {
        return Err(DocumentError::ForeignLayer { index, media_type });
    }
    match text {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Compression::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
        _ => Err(DocumentError::UnknownLayer { index, media_type }),
    }
}
