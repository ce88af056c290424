//! Where a store tree goes: a set image in a composefs repository, a plain
//! directory, or a layer of an OCI image.

mod directory;
mod error;
mod layer_tar;
mod links;
mod place;
mod set_image;

/// What the names of folders begin with that stand beside a place meanwhile.
const WORK: &str = ".boundstore-embed.";

pub use directory::{StagedDirectory, Written, stage_directory};
pub use error::SinkError;
pub use layer_tar::{LayerTar, StagedLayerTar, StagedLayers, stage_layer_tar, stage_layers};
pub use links::HardLinks;
pub use place::{expect_empty_store, expect_file, expect_vacant};
pub use set_image::{PublishedSet, StagedSet, stage};
