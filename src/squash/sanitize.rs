//! What no squashed tree carries on: dropped, and counted.

use super::{
    EntryKind, acl,
    error::EntryFault,
    tree::{Device, Metadata},
};
use crate::name::Mtime;

/// What squashing left out of the trees, over all layers pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Dropped {
    /// Character devices 0:0: overlayfs's own whiteouts. The name hides what
    /// lies below it, as in podman's view.
    pub whiteout_devices: u64,
    /// `trusted.overlay.*` and `user.overlay.*`: they would come alive in
    /// podman's overlay and can read another layer's files.
    pub overlay_xattrs: u64,
    /// `security.selinux`: the host decides; podman drops it too.
    pub selinux_xattrs: u64,
    /// Attributes that Linux keeps on no file of that type, which podman warns
    /// of or refuses: unknown namespaces, `user.*` on a symlink or device.
    pub unsettable_xattrs: u64,
}

/// The device number overlayfs takes for a whiteout.
pub(super) const WHITEOUT: Device = Device { major: 0, minor: 0 };

/// The last second whose nanoseconds since 1970 fit 63 bits: in 2262.
const MAX_NANOS: i128 = i64::MAX as i128;

/// EROFS counts a value's bytes in 16 bits, one less than Linux allows.
const MAX_XATTR_VALUE: usize = 65535;
/// EROFS counts an inode's shared attributes in 8 bits; composefs adds some.
pub(super) const MAX_XATTRS: usize = 250;
/// EROFS counts an inode's attributes in 16 bits, as words of 4 bytes; this
/// leaves room for their headers, and for composefs's own.
pub(super) const MAX_XATTR_BYTES: usize = 250 << 10;

/// What a file keeps of a header's metadata.
///
/// # Errors
/// An extended attribute no file can carry.
pub(super) fn sanitize(
    mut metadata: Metadata,
    kind: &EntryKind,
    dropped: &mut Dropped,
) -> Result<Metadata, EntryFault> {
    metadata.mode &= 0o7777;
    let symlink = matches!(kind, EntryKind::Symlink(_));
    if symlink {
        metadata.mode = 0o777;
    }
    metadata.mtime = storable(metadata.mtime, symlink);
    let mut fault = None;
    metadata.xattrs.retain(|name, value| {
        let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
        if overlay {
            dropped.overlay_xattrs += 1;
        } else if **name == *b"security.selinux" {
            dropped.selinux_xattrs += 1;
        } else if !settable(name, kind) {
            dropped.unsettable_xattrs += 1;
        } else if name.len() > 255 || value.len() > MAX_XATTR_VALUE {
            fault = Some(EntryFault::XattrTooLarge(
                String::from_utf8_lossy(&name[..name.len().min(255)]).into_owned(),
            ));
        } else if !well_formed(name, value) {
            let name = String::from_utf8_lossy(name).into_owned();
            fault = Some(EntryFault::XattrMalformed(name));
        } else {
            return true;
        }
        false
    });
    match fault {
        Some(fault) => Err(fault),
        None => check_xattrs(&metadata).map(|()| metadata),
    }
}

/// Whether one inode can carry all of a file's extended attributes.
///
/// # Errors
/// [`EntryFault::TooManyXattrs`].
pub(super) fn check_xattrs(metadata: &Metadata) -> Result<(), EntryFault> {
    let xattrs = &metadata.xattrs;
    let lengths = xattrs.iter().map(|(name, value)| name.len() + value.len());
    let (count, bytes) = (xattrs.len(), lengths.sum());
    if count > MAX_XATTRS || bytes > MAX_XATTR_BYTES {
        return Err(EntryFault::TooManyXattrs { count, bytes });
    }
    Ok(())
}

/// Whether Linux keeps an attribute of this name on a file of this kind.
fn settable(name: &[u8], kind: &EntryKind) -> bool {
    let directory = matches!(kind, EntryKind::Directory);
    // a hard link's own kind is its target's: settled when it is applied
    let plain = directory || matches!(kind, EntryKind::Regular(_) | EntryKind::Hardlink(_));
    let suffix = |prefix: &[u8]| name.strip_prefix(prefix).is_some_and(|s| !s.is_empty());
    match name {
        b"system.posix_acl_access" => !matches!(kind, EntryKind::Symlink(_)),
        b"system.posix_acl_default" => directory,
        _ if suffix(b"user.") => plain,
        _ => suffix(b"trusted.") || suffix(b"security."),
    }
}

/// Whether setxattr(2) takes the value; podman refuses an image where it does
/// not. What is broken in a set image would fail at each use of the file.
fn well_formed(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"security.capability" => is_capability(value),
        b"system.posix_acl_access" | b"system.posix_acl_default" => acl::is_list(value),
        _ => true,
    }
}

/// The two forms of today's kernels, with the user namespace's root or without
/// (`validheader`, security/commoncap.c). The lowest bit is a flag.
fn is_capability(value: &[u8]) -> bool {
    match value {
        [] => true,
        [flags, 0, 0, revision, rest @ ..] => {
            *flags <= 1 && matches!((revision, rest.len()), (2, 16) | (3, 20))
        }
        _ => false,
    }
}

/// The time podman leaves on a file: 1970 for what lies outside 1970 to 2262;
/// symlinks, whose times it sets by another call, may be older.
fn storable(mtime: Mtime, symlink: bool) -> Mtime {
    let nanos = i128::from(mtime.sec) * 1_000_000_000 + i128::from(mtime.nsec);
    let least = if symlink { i128::from(i64::MIN) } else { 0 };
    if (least..=MAX_NANOS).contains(&nanos) {
        mtime
    } else {
        Mtime::EPOCH
    }
}
