//! What a deployment asks for: unit files, lists, the command line.
//!
//! A deployment *binds* images by symbolic links to quadlet units in
//! `/usr/lib/bootc/bound-images.d` (bootc's directory, with bootc's rules) and
//! `/usr/lib/boundstore/bound-images.d`. [`scan`] reads both into one list of
//! [`BoundImage`]s, or says everything that is wrong with them at once: a host
//! that boots without one of its images is worse than one that does not
//! upgrade.
//!
//! What bootc accepts in its own is accepted and means the same, but for this: a
//! unit is read by systemd's rules, not those of a simple INI file (continued
//! lines, sections that come again, an empty value takes earlier ones back,
//! quotes as podman takes them off); the image must be a name, with no
//! transport; `AuthFile=` is refused in a `.container` too; and so is a
//! `.container` that refers to another unit, where bootc would pull an image
//! called `app.image`.
//!
//! Our directory has all forms that podman reads images from, and plain lists:
//! `docs/bound-images.md`.

mod folders;
mod forms;
mod image;
mod kube;
pub mod lint;
mod list;
mod lock;
mod problem;
mod quadlet;
mod scan;
mod unit;
mod yaml;

pub use folders::UNIT_FOLDERS;
pub use image::{BoundImage, Origin, Settings, from_command_line, merge};
pub use kube::{KubeImage, KubeImages, KubeUsage, kube_images};
pub use list::{ImageList, ListError, parse_list};
pub use lock::{
    Difference, LOCK_PATH, Lock, LockError, Locked, LockedImage, LockedLayer, LockedSetImage,
};
pub use problem::{ArgumentError, ArgumentFault, EntryFault, Problem, ScanError, Warning, shown};
pub use quadlet::{AskedImage, NameFault, UnitFault, UnitKind, UnitReadError, asked_image};
pub use scan::{BOUND_IMAGE_DIRS, Scan, scan};
pub use unit::{Assignment, SyntaxFault, Unit, UnitError, parse_unit, words};
pub use yaml::{YamlError, YamlFault};
