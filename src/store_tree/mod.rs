//! The store tree: containers-storage's layout of a set, as values.
//!
//! Pure: no I/O, no repository.

mod input;

pub use input::{StoreBlob, StoreImage, StoreLayer};
