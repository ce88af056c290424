//! boundstore: a composefs-backed, squashed, read-only image store for bootc hosts.

// Fixtures below tests/ are also used by the tests beside the code.
#[cfg(test)]
extern crate self as boundstore;

pub mod bound;
pub mod cli;
pub mod deployment;
pub mod error;
pub mod import;
pub mod name;
pub mod repo;
pub mod sink;
pub mod source;
pub mod squash;
pub mod store_tree;
pub mod sys;
