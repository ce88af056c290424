//! The life of a deployment's set: sync, expose, status, remove.

mod boot;
mod dangling;
mod expose;
mod guard;
pub mod host;
mod image_mount;
mod label;
mod retry;
mod status;
mod sync;

pub use boot::boot_units;
pub use dangling::{
    ContainerRecord, Dangling, PrimaryError, PrimaryStore, StoreContent, UserKind, dangling,
    dangling_condition, keep_referenced,
};
pub use expose::{ExposeError, Exposed, Mounted, Mounter, exposed_at, mount_empty, umount};
pub use guard::{
    Guard, GuardError, Lack, LastVeto, Ready, Verdict, clear_last_veto, lack, last_veto, note_boot,
};
pub use label::store_label;
pub use retry::{LONGEST_PAUSE, Retry};
pub use status::{Condition, DeploymentStatus, Kind, Role, Status, status};
pub use sync::{SyncError, SyncEvent, Synced, Syncer};
