//! An image made by an attacker: every xattr of overlay's, and devices 0:0.
//! Through our store nothing of it acts, on any kernel; each such row has one
//! beside it that shows what happens where it is not dropped, in a composefs
//! image of the same files: `kernel-matrix`, section d.
//!
//! No row is left out.

mod container;
mod image;
mod marks;

use image::Source::{Raw, Store};

use crate::{
    capability::{
        Capabilities,
        Capability::{XattrEscapes, XattrWhiteouts},
    },
    check::{Check, Expected, either, is},
};

#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    Check { name: "store_image", row: "our store: overlay's xattrs in the set image's EROFS", observe: marks::set_image, expect: |_| is("composefs's own") },
    Check { name: "store_names", row: "our store: overlay's xattrs, listed on the mount", observe: |guest| marks::names(guest, Store), expect: |_| is(NONE) },
    Check { name: "raw_names", row: "not dropped: ..", observe: |guest| marks::names(guest, Raw), expect: |can| escaped(can, "16 trusted, 16 user", "0 trusted, 16 user") },
    Check { name: "store_names_in_container", row: "our store: .. in a container", observe: |guest| marks::names_in_container(guest, Store), expect: |_| is(NONE) },
    Check { name: "raw_names_in_container", row: "not dropped: ..", observe: |guest| marks::names_in_container(guest, Raw), expect: |can| escaped(can, "2 trusted, 14 user", "0 trusted, 16 user") },
    Check { name: "store_values", row: "our store: each of them asked for by name, on the mount and in a container", observe: |guest| marks::values(guest, Store), expect: |_| is("no value; no value") },
    Check { name: "raw_values", row: "not dropped: ..", observe: |guest| marks::values(guest, Raw), expect: |can| escaped(can, "31 of them; 15 of them", "16 of them; 16 of them") },
    Check { name: "store_keeps", row: "our store: xattrs that are not overlay's, on the mount and in a container", observe: |guest| marks::kept(guest, Store), expect: |_| is("all; all") },
    Check { name: "raw_keeps", row: "not dropped: ..", observe: |guest| marks::kept(guest, Raw), expect: |_| is("all; all") },
    Check { name: "store_device", row: "our store: a device 0:0, on the mount and in a container", observe: |guest| container::device_seen(guest, Store), expect: |_| is("ENOENT; ENOENT") },
    Check { name: "raw_device", row: "not dropped: ..", observe: |guest| container::device_seen(guest, Raw), expect: |can| whiteouts(can, "empty file; ENOENT, but listed", "empty file; empty file") },
    Check { name: "store_linked_device", row: "our store: a device 0:0 and a hard link to it, listed on the mount", observe: container::linked_device, expect: |_| is("neither") },
    Check { name: "store_marked_file", row: "our store: a file with `whiteout` in a folder with `opaque=x`, on the mount and in a container", observe: |guest| container::marked_file(guest, Store), expect: |_| is("empty file; empty file") },
    Check { name: "raw_marked_file", row: "not dropped: ..", observe: |guest| container::marked_file(guest, Raw), expect: |can| whiteouts(can, "empty file; ENOENT, but listed", "empty file; empty file") },
    Check { name: "store_copied", row: "our store: everything read in a container", observe: |guest| container::copied(guest, Store, ""), expect: |_| is("read") },
    Check { name: "raw_copied", row: "not dropped: the folder with the device read", observe: |guest| container::copied(guest, Raw, "devices"), expect: |can| whiteouts(can, "ENOENT", "read") },
    Check { name: "store_removed", row: "our store: everything removed in a container", observe: |guest| container::removed(guest, Store, ""), expect: |_| is("removed") },
    Check { name: "raw_removed", row: "not dropped: the folder with the device removed", observe: |guest| container::removed(guest, Raw, "devices"), expect: |can| whiteouts(can, "ENOTEMPTY", "removed") },
    Check { name: "raw_marked_removed", row: "not dropped: the folder with the marked file removed", observe: |guest| container::removed(guest, Raw, "marked"), expect: |can| whiteouts(can, "ENOTEMPTY", "removed") },
    Check { name: "store_redirect", row: "our store: a file with `metacopy` and `redirect`, in containers: metacopy=off; on; on, over another folder", observe: |guest| container::redirect(guest, Store), expect: |_| is(OWN) },
    Check { name: "raw_redirect", row: "not dropped: ..", observe: |guest| container::redirect(guest, Raw), expect: |can| escaped(can, "EPERM at stat; EIO at stat; OTHER LAYER'S FILE READ", OWN) },
    Check { name: "store_moved", row: "our store: a folder with `redirect`, in a container over another folder: redirect_dir=nofollow; on", observe: |guest| container::moved(guest, Store), expect: |_| is("own; own") },
    Check { name: "raw_moved", row: "not dropped: ..", observe: |guest| container::moved(guest, Raw), expect: |can| escaped(can, "EPERM; OTHER LAYER'S FOLDER", "own; own") },
    Check { name: "store_opaque", row: "our store: a folder with `opaque=y`, in a container over another folder", observe: |guest| container::opaque(guest, Store, &[]), expect: |_| is("merged") },
    Check { name: "raw_opaque", row: "not dropped: ..", observe: |guest| container::opaque(guest, Raw, &[]), expect: |can| escaped(can, "opaque", "merged") },
    Check { name: "store_user_opaque", row: "our store: .. with userxattr, as rootless podman has it", observe: |guest| container::opaque(guest, Store, &[container::USERXATTR]), expect: |_| is("merged") },
    Check { name: "raw_user_opaque", row: "not dropped: ..", observe: |guest| container::opaque(guest, Raw, &[container::USERXATTR]), expect: |_| is("opaque") },
    Check { name: "store_user_redirect", row: "our store: a file and a folder with `redirect`, over another folder, userxattr", observe: |guest| container::user_redirect(guest, Store), expect: |_| is("read; own") },
    Check { name: "raw_user_redirect", row: "not dropped: ..", observe: |guest| container::user_redirect(guest, Raw), expect: |_| is("EPERM at stat; EPERM") },
    Check { name: "store_written", row: "our store: files with all else copied up and written, mounted again, index=on", observe: |guest| container::written(guest, Store), expect: |_| is("written") },
    Check { name: "raw_written", row: "not dropped: ..", observe: |guest| container::written(guest, Raw), expect: |_| is("written") },
];

const NONE: &str = "0 trusted, 0 user";
const OWN: &str = "read; read; read";

/// What comes alive where the inner overlay takes escapes off.
fn escaped(can: &Capabilities, alive: &'static str, dead: &'static str) -> Expected {
    either(can.has(XattrEscapes), alive, dead)
}

/// And the outer one knows whiteouts in xattrs.
fn whiteouts(can: &Capabilities, alive: &'static str, dead: &'static str) -> Expected {
    either(
        can.has(XattrEscapes) && can.has(XattrWhiteouts),
        alive,
        dead,
    )
}
