//! Squashing: from the entries of layers to the merged tree of every prefix.
//!
//! Pure: no I/O, no repository.

mod entry;
pub mod tree;

pub use entry::{EntryKind, EntryName, EntryNameError, LayerEntry};
