//! Where images come from.

mod image;

pub use image::{Compression, LayerData, LayerDescriptor, LayerForm, ResolvedImage};
