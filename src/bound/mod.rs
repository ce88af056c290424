//! What a deployment asks for: unit files, lists, the command line.
//!
//! A deployment *binds* images by symbolic links to quadlet units in
//! `/usr/lib/bootc/bound-images.d` (bootc's directory, with bootc's rules) and
//! `/usr/lib/boundstore/bound-images.d`. [`scan`] reads both into one list of
//! [`BoundImage`]s, or says everything that is wrong with them at once: a host
//! that boots without one of its images is worse than one that does not
//! upgrade.

mod image;
mod problem;
mod quadlet;
mod scan;
mod unit;

pub use image::{BoundImage, Origin, from_command_line, merge};
pub use problem::{ArgumentError, ArgumentFault, EntryFault, Problem, ScanError, Warning};
pub use quadlet::{AskedImage, NameFault, UnitFault, UnitKind, UnitReadError, asked_image};
pub use scan::{BOUND_IMAGE_DIRS, Scan, scan};
pub use unit::{Assignment, SyntaxFault, Unit, UnitError, parse_unit};
