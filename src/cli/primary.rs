//! podman's own store on this host.

use std::time::Duration;

use super::Global;
use crate::deployment::{PrimaryError, PrimaryStore};

/// Reads podman's own store: that of the storage.conf that the environment
/// names, as podman takes it, else the host's.
pub(super) fn read_primary(
    global: &Global,
    lock_limit: Duration,
) -> Result<PrimaryStore, PrimaryError> {
    let conf = std::env::var_os("CONTAINERS_STORAGE_CONF").filter(|path| !path.is_empty());
    let conf = conf.and_then(|path| std::path::absolute(path).ok());
    PrimaryStore::read(&global.host_root, conf.as_deref(), lock_limit)
}
