//! A bundle: the images of one deployment as one OCI artifact, to be mirrored,
//! carried and given to a host that has no network.
//!
//! ```text
//! index  artifactType application/vnd.boundstore.bundle.v1+json
//!   manifest of the host image             role host
//!   manifest of a bound image, ..          role bound
//!   manifest of a signature or SBOM, ..    role artifact
//!   manifest of the original documents     role originals
//! ```
//! The index is flat and all it lists are OCI manifests, since skopeo copies
//! neither an index in an index nor docker's manifests into an OCI layout. What
//! does not fit, indexes and docker's manifests, is carried as bytes and put back
//! by [`apply`]. `docs/bundle.md` documents the format.

mod apply;
mod create;
mod error;
mod index;
mod new_layout;
mod oci_manifest;

pub use apply::{Applied, Bundle, apply};
pub use create::{Ingredient, create};
pub use error::BundleError;
pub use index::{ARTIFACT_TYPE, BundleIndex, BundledImage, Content, Member};
pub use new_layout::{NewLayout, StagedLayout};
