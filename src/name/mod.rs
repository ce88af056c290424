//! Names and digests: pure values, each with one way to be built.
//!
//! Nothing here does I/O and nothing here imports another part of boundstore.

mod digest;
mod image_name;
mod layer_id;
mod mtime;
mod object_id;
mod platform;
mod redact;
mod set_format;

pub use digest::{
    BlobDigest, ConfigDigest, DiffId, Digest, DigestError, Hasher, IndexDigest, ManifestDigest,
};
pub use image_name::{ImageName, ImageNameError, NormalisedName};
pub use layer_id::{LayerId, LinkId};
pub use mtime::Mtime;
pub use object_id::{Algorithm, ObjectId, ObjectIdError};
pub use platform::{Platform, PlatformError};
pub use redact::{HIDDEN, without_userinfo};
pub use set_format::{SetFormat, UnknownSetFormat};
