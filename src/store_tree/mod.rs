//! The store tree: containers-storage's layout of a set, as values.
//!
//! [`lay_out`] makes a [`StoreTree`] of bound images and their squashed
//! trees; [`StoreTree::validate`] reads it back as podman would and gives the
//! [`ValidStoreTree`] that sinks take. Every byte is written down in
//! `docs/format.md`, "Store tree, format 1".
//!
//! Pure: no I/O, no repository.

#[cfg(test)]
mod agreement_tests;
mod big_data;
#[cfg(test)]
#[path = "../../tests/common/store_images.rs"]
mod fixture;
mod images;
mod input;
mod layers;
mod layout;
mod node;
mod parts;
pub mod tar_split;
mod validate;
mod walk;

pub use big_data::big_data_file_name;
pub use images::{ImageRecord, parse_images_json};
pub use input::{StoreBlob, StoreImage, StoreLayer};
pub(crate) use layers::null_is_default;
pub use layers::{LayerRecord, parse_layers_json};
pub use layout::{LayOutError, StoreTree, is_rootfs, lay_out, lay_out_keeping, lock_content};
pub use parts::StorePart;
pub use validate::{ValidStoreTree, ValidationError, Violation, validate_tree};
