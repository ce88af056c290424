//! Filesystems that refuse to be written or fail, told from an error's causes.

use std::{error::Error, io, path::Path};

use rustix::{fs, io::Errno};

/// Why a filesystem cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has no room for bytes or for files.
    Full,
    /// A quota is used up.
    Quota,
    /// It is mounted read-only, or became so.
    ReadOnly,
    /// The device below it fails, or it is damaged itself.
    Device,
}

/// The first cause of `error` that is one.
pub fn fault_of(error: &(dyn Error + 'static)) -> Option<Fault> {
    let mut next = Some(error);
    while let Some(error) = next {
        let errno = match error.downcast_ref::<io::Error>() {
            Some(error) => Errno::from_io_error(error),
            None => error.downcast_ref::<Errno>().copied(),
        };
        match errno {
            Some(Errno::NOSPC) => return Some(Fault::Full),
            Some(Errno::DQUOT) => return Some(Fault::Quota),
            Some(Errno::ROFS) => return Some(Fault::ReadOnly),
            // As filesystems say of a wrong checksum (EFSBADCRC) and of damage
            // (EFSCORRUPTED).
            Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN) => return Some(Fault::Device),
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
        assert_eq!(fault_of(&Errno::DQUOT), Some(Fault::Quota));
        assert_eq!(fault_of(&Errno::IO), Some(Fault::Device));
        assert_eq!(fault_of(&io::Error::from_raw_os_error(13)), None);
    }
}
