//! One image, through every transport that skopeo writes, read back the same.

#![allow(missing_docs, clippy::print_stderr, clippy::unwrap_used)]

#[path = "../../src/source/testing.rs"]
#[allow(dead_code)]
mod testing;

mod host;
mod registry;
mod storage;
mod transports;
