//! What every source must do, on hand-written images.

mod archive;
mod choose;
mod image;
mod layout;
mod policy;
mod spool;

use super::{testing::*, *};
use crate::{document::Compression, name::Platform};

fn wanted(name: &str) -> Wanted {
    Wanted {
        platform: amd64(),
        ..Wanted::new(name.parse().unwrap())
    }
}

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// The error and all its sources, as a user sees them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
