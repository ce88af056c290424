//! Where a store tree goes: today a set image in a composefs repository.

mod set_image;

pub use set_image::{FORMAT, PublishedSet, StagedSet, stage};
