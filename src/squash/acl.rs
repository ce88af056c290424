//! POSIX access control lists, as far as they and the mode are one thing.
//!
//! Linux keeps the two in step: setting `system.posix_acl_access` sets the
//! permission bits, and chmod(2) sets the list (acl(5), "Correspondence between
//! ACL entries and file permission bits").

use super::tree::Metadata;

const ACCESS: &[u8] = b"system.posix_acl_access";
const VERSION: [u8; 4] = 2_u32.to_le_bytes();
const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The entries of an access list; `None` if this is none the kernel takes.
fn entries(value: &[u8]) -> Option<impl Iterator<Item = (u16, u32)>> {
    let entries = value.strip_prefix(&VERSION)?;
    let (entries, rest) = entries.as_chunks::<8>();
    rest.is_empty().then(|| {
        entries.iter().map(|entry| {
            let tag = u16::from_le_bytes([entry[0], entry[1]]);
            (tag, u32::from(u16::from_le_bytes([entry[2], entry[3]])))
        })
    })
}

/// Whether a value is built as a list, whatever it grants; nothing is an empty
/// one.
pub(super) fn is_list(value: &[u8]) -> bool {
    let known = |(tag, bits): (u16, u32)| bits <= 7 && tag.is_power_of_two() && tag <= OTHER;
    value.is_empty() || entries(value).is_some_and(|mut all| all.all(known))
}

/// Gives the file the permission bits of its access list, and drops a list
/// that says no more than these: what setting it last does.
pub(super) fn set_mode(metadata: &mut Metadata) {
    let Some(entries) = metadata.xattrs.get(ACCESS).and_then(|acl| entries(acl)) else {
        return;
    };
    let (mut bits, mut masked, mut minimal) = (0, false, true);
    for (tag, permission) in entries {
        match tag {
            USER_OBJ => bits |= permission << 6,
            GROUP_OBJ if !masked => bits |= permission << 3,
            GROUP_OBJ => {}
            OTHER => bits |= permission,
            MASK => {
                bits = bits & !0o070 | permission << 3;
                (masked, minimal) = (true, false);
            }
            _ => minimal = false,
        }
    }
    metadata.mode = metadata.mode & !0o777 | bits;
    if minimal {
        metadata.xattrs.remove(ACCESS);
    }
}

/// Gives the access list the file's permission bits: what chmod does.
pub(super) fn set_list(metadata: &mut Metadata) {
    let mode = metadata.mode;
    let Some(acl) = metadata.xattrs.get_mut(ACCESS) else {
        return;
    };
    let masked = entries(acl).is_some_and(|mut all| all.any(|(tag, _)| tag == MASK));
    let Some((_, entries)) = acl.split_at_mut_checked(VERSION.len()) else {
        return;
    };
    for entry in entries.as_chunks_mut::<8>().0 {
        let bits = match u16::from_le_bytes([entry[0], entry[1]]) {
            USER_OBJ => mode >> 6,
            GROUP_OBJ if !masked => mode >> 3,
            MASK => mode >> 3,
            OTHER => mode,
            _ => continue,
        };
        entry[2] = bits.to_le_bytes()[0] & 7;
        entry[3] = 0;
    }
}
