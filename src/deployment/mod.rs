//! The life of a deployment's set: sync, expose, status, remove, gc.

mod boot;
mod bundle;
mod dangling;
mod disk_usage;
mod embed;
mod expose;
mod fetch;
mod filesystem_fault;
mod forecast;
mod gc;
mod guard;
pub mod host;
mod image_mount;
mod import_set;
mod label;
mod last_error;
mod lock;
mod render_again;
mod retry;
mod since_boot;
mod status;
mod store_images;
mod sync;
mod unpulled;

pub use boot::boot_units;
pub use dangling::{
    ContainerRecord, Dangling, PrimaryError, PrimaryStore, StoreContent, UserKind, dangling,
    dangling_condition, keep_referenced,
};
pub use disk_usage::{Bytes, DeploymentUsage, DiskUsage, ImageUsage, RepositoryBytes, disk_usage};
pub use embed::Embedded;
pub use expose::{Exchanged, ExposeError, Exposed, Mounted, Mounter, exposed_at};
pub use forecast::{ForecastImage, ForecastLayer, Place};
pub use gc::{
    GcError, GcPlan, Inputs as GcInputs, Owner, Reason, Taken, UNFINISHED, Verdict as GcVerdict,
    plan as plan_gc,
};
pub use guard::{
    Guard, GuardError, Judgement, Lack, LastVeto, Ready, Verdict, clear_last_veto, lack, last_veto,
    note_boot,
};
pub use label::store_label;
pub use last_error::{last_error, note_sync};
pub use render_again::{RenderAgainError, render_again};
pub(crate) use retry::Failed;
pub use retry::{LONGEST_PAUSE, Retry};
pub use since_boot::SinceBoot;
pub use status::{Condition, DeploymentStatus, Kind, Role, Status, status};
pub use sync::{SyncError, SyncEvent, Synced, Syncer};
pub use unpulled::Unpulled;
