//! The life of a deployment's set: sync, expose, status, remove.

mod boot;
mod expose;
pub mod host;
mod image_mount;
mod label;
mod retry;
mod status;
mod sync;

pub use boot::boot_units;
pub use expose::{ExposeError, Exposed, Mounted, Mounter, exposed_at, mount_empty, umount};
pub use label::store_label;
pub use retry::{LONGEST_PAUSE, Retry};
pub use status::{Condition, DeploymentStatus, Kind, Role, Status, status};
pub use sync::{SyncError, SyncEvent, Synced, Syncer};
