//! Where images come from: from a wanted name to checked documents and layers.
//!
//! A [`SourceRef`] says where, a [`Wanted`] what, and a [`ResolvedImage`] is
//! what comes back: documents that agree with each other. Layers are opened
//! afterwards; their tars are not trusted until whoever reads them has hashed them.

mod archive;
mod artifacts;
mod carry;
mod choose;
mod containers_storage;
mod credentials;
mod docker_archive;
mod error;
mod files;
mod image;
mod layer_tar;
mod layout;
mod policy;
mod reference;
mod registry;
mod signatures;
mod signed_identity;
mod skopeo;
mod skopeo_words;
mod sources;
mod spool;
mod store_lists;
mod tar_index;
mod wanted;

pub use artifacts::Artifact;
pub use carry::{fetch_layout, push_layout};
pub(crate) use choose::BUNDLE;
pub use containers_storage::{ContainersStorage, DEFAULT_ROOT as DEFAULT_GRAPH_ROOT};
pub use credentials::AuthFile;
pub use docker_archive::DockerArchive;
pub use error::{Failing, SourceError};
pub use image::{Documents, ImageError, LayerData, LayerDescriptor, LayerForm, ResolvedImage};
pub use layout::Layout;
pub(crate) use layout::REF_NAME as REF_NAME_KEY;
pub use policy::{HostPolicy, PolicyError, judge_native};
pub use reference::{SourceRef, SourceRefError};
pub use registry::{FetchStep, Registry};
pub use skopeo::SkopeoOptions;
pub use sources::{Found, SourceOptions, Sources};
pub use spool::{Spool, create_spool_dir};
pub use store_lists::StoreLists;
pub use wanted::{Access, Wanted};

#[cfg(test)]
#[allow(missing_docs)]
mod testing;
#[cfg(test)]
mod tests;
