//! Filesystems that refuse to be written, told from an error's causes.

use std::{
    error::Error,
    io::{self, ErrorKind},
    path::Path,
};

use rustix::{fs, io::Errno};

/// Why a filesystem cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has no room for bytes or for files, or a quota is used up.
    Full,
    /// It is mounted read-only, or became so.
    ReadOnly,
}

/// The first cause of `error` that is one.
pub fn fault_of(error: &(dyn Error + 'static)) -> Option<Fault> {
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = match (
            error.downcast_ref::<io::Error>(),
            error.downcast_ref::<Errno>(),
        ) {
            (Some(error), _) => Some(error.kind()),
            (None, Some(errno)) => Some(errno.kind()),
            (None, None) => None,
        };
        match kind {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => return Some(Fault::Full),
            Some(ErrorKind::ReadOnlyFilesystem) => return Some(Fault::ReadOnly),
            _ => next = error.source(),
        }
    }
    None
}

/// Bytes free to this user on the filesystem of a path, and how many files it
/// can hold besides.
///
/// # Errors
/// Whatever `statvfs(3)` says.
pub fn room(path: &Path) -> io::Result<(u64, u64)> {
    let stat = fs::statvfs(path)?;
    let bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
    Ok((bytes, stat.f_favail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Doing;

    #[test]
    fn the_first_cause_counts() {
        let full = io::Error::from_raw_os_error(28);
        let error = Err::<(), _>(full).doing("write", "/x").unwrap_err();
        let wrapped = io::Error::other(error);
        assert_eq!(fault_of(&wrapped), Some(Fault::Full));
        assert_eq!(fault_of(&Errno::ROFS), Some(Fault::ReadOnly));
        assert_eq!(fault_of(&Errno::DQUOT), Some(Fault::Full));
        assert_eq!(fault_of(&io::Error::from_raw_os_error(5)), None);
    }
}
