//! The system: the only part of boundstore that makes system calls.

mod regular;

pub use regular::{RootDir, open_regular};
