//! What a filesystem's refusal to be written means for a sync.

use std::path::Path;

use super::SyncError;
use crate::sys::{self, Fault};

impl SyncError {
    /// Names the filesystem and the way out, where it is one that refused: that
    /// of the spool for what comes from the network, else the repository's.
    pub(super) fn explained(self, repo: &Path, spool: &Path) -> Self {
        let path = match self {
            Self::Source { .. } => spool,
            _ => repo,
        };
        let (path, source) = (path.to_owned(), Box::new(self));
        match sys::fault_of(&*source) {
            Some(Fault::Full) => {
                let (free_bytes, free_files) = sys::room(&path).unwrap_or_default();
                Self::Full {
                    path,
                    free_bytes,
                    free_files,
                    source,
                }
            }
            Some(Fault::Quota) => Self::Quota { path, source },
            Some(Fault::ReadOnly) => Self::ReadOnly { path, source },
            Some(Fault::Device) => Self::Device { source },
            None => *source,
        }
    }
}
