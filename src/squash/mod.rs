//! Squashing: from the entries of layers to the merged tree of every prefix.
//!
//! Two steps, as podman takes them. A layer's entries are *extracted* on their
//! own into a [`LayerDiff`], what containers-storage would leave in the layer's
//! `diff` directory; the diff is then *merged* over the tree below it by
//! overlayfs's rules. [`RootfsChain`] does both, layer by layer.
//! `docs/fidelity.md` has every rule and every difference from podman's view.
//!
//! Pure: no I/O, no repository.

mod acl;
mod chain;
mod diff;
mod dropped;
mod entry;
mod error;
mod merge;
mod resolve;
mod sanitize;
#[cfg(test)]
mod tests;
pub mod tree;

pub use chain::RootfsChain;
pub use diff::LayerDiff;
pub use entry::{EntryKind, EntryName, EntryNameError, LayerEntry};
pub use error::{EntryFault, SquashError};
pub use sanitize::Dropped;

/// How many directories may lie inside each other below the root.
///
/// Linux itself stops at 2047, the most one path can name; no image comes near
/// either number. With this limit the trees can be walked and dropped by
/// recursion on a 2 MiB stack.
pub const MAX_DEPTH: usize = 1024;
