//! The system: the only part of boundstore that makes system calls.

mod open;

pub use open::{ReadInRootError, read_dir_names_in_root, read_in_root, read_link_in_root};
