//! Overlays of metadata over data: what is checked of the data, and when.
//! `kernel-matrix`, section a. Objects have fs-verity, and the overlay requires
//! it where it can, unless a row says otherwise.

use std::{fs, io::Read};

use anyhow::Result;

use crate::{
    capability::{
        Capabilities,
        Capability::{DataOnly, VerityRequire},
    },
    check::{Check, Expected, either, is},
    errno,
    fixture::{composefs::Composefs, reading, tamper},
    guest::Guest,
};

#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    Check { name: "intact", row: "nothing changed", observe: intact, expect: |_| is("read; inline read") },
    Check { name: "block_flipped", row: "a block changed on the disk below an object", observe: block_flipped, expect: |_| is("EIO at read") },
    Check { name: "other_block_flipped", row: "another block of the same object", observe: other_block_flipped, expect: |_| is("first block read, then EIO") },
    Check { name: "object_replaced", row: "an object replaced by one with other bytes and fs-verity", observe: object_replaced, expect: |can| checked_at_open(can, "OTHER BYTES READ") },
    Check { name: "object_replaced_unsealed", row: "an object replaced by one with other bytes, without fs-verity", observe: object_replaced_unsealed, expect: |can| checked_at_open(can, "OTHER BYTES READ") },
    Check { name: "object_unsealed", row: "an object with the right bytes, without fs-verity", observe: object_unsealed, expect: |can| checked_at_open(can, "read") },
    Check { name: "object_truncated", row: "an object cut off", observe: object_truncated, expect: |can| checked_at_open(can, "SHORT READ") },
    Check { name: "object_missing", row: "an object missing", observe: object_missing, expect: |can| either(can.has(DataOnly), "ENOENT at open", "EIO at stat") },
    Check { name: "missing_object_restored", row: "a missing object put back while mounted", observe: missing_object_restored, expect: |_| is("read") },
    Check { name: "sealed_while_mounted", row: "fs-verity enabled on an object while mounted, after an open failed", observe: sealed_while_mounted, expect: |_| is("read") },
    Check { name: "replaced_while_cached", row: "an object replaced while its file is cached; after drop_caches", observe: replaced_while_cached, expect: replaced_while_cached_expected },
    Check { name: "repaired_while_mounted", row: "a bad object repaired by rename while mounted", observe: repaired_while_mounted, expect: |_| Expected::OneOf(&["read", "EIO at open", "OTHER BYTES READ"]) },
    Check { name: "replaced_without_require", row: "an object replaced, verity not required", observe: replaced_without_require, expect: |_| is("OTHER BYTES READ") },
    Check { name: "object_written", row: "an object opened for writing", observe: object_written, expect: |_| is("EPERM") },
    Check { name: "mount_written", row: "a file of the mount opened for writing", observe: mount_written, expect: |_| is("EROFS") },
    Check { name: "image_block_flipped", row: "a block changed below the image: raw read", observe: image_block_flipped, expect: |_| is("EIO at read") },
    Check { name: "image_block_flipped_mounted", row: ".. in the mount", observe: image_block_flipped_mounted, expect: |_| is("EIO") },
    Check { name: "image_truncated", row: "an image cut off", observe: image_truncated, expect: |_| Expected::Anything },
    Check { name: "image_garbage", row: "an image of garbage", observe: image_garbage, expect: |_| is("EINVAL") },
];

/// What the overlay's own check finds; without it, what comes of reading.
fn checked_at_open(can: &Capabilities, unchecked: &'static str) -> Expected {
    either(can.has(VerityRequire), "EIO at open", unchecked)
}

fn file(composefs: &Composefs) -> String {
    reading::read(&composefs.path("file"), &Composefs::content())
}

/// Damage first, then a mount, then a look.
fn damaged(guest: &Guest, damage: impl Fn(&Composefs) -> Result<()>) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    damage(&composefs)?;
    composefs.mount()?;
    Ok(file(&composefs))
}

fn intact(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    composefs.mount()?;
    let inline = reading::read(&composefs.path("inline"), &Composefs::inline());
    Ok(format!("{}; inline {inline}", file(&composefs)))
}

fn block_flipped(guest: &Guest) -> Result<String> {
    damaged(guest, |composefs| tamper::flip(&composefs.object(), 100))
}

fn other_block_flipped(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    tamper::flip(&composefs.object(), 2 * 4096)?;
    composefs.mount()?;
    let mut opened = fs::File::open(composefs.path("file"))?;
    let mut block = [0; 4096];
    if let Err(error) = opened.read_exact(&mut block) {
        // Read ahead: the damage is noticed early.
        return Ok(format!("{} at once", errno::name(error)));
    }
    Ok(match opened.read_to_end(&mut Vec::new()) {
        Ok(_) => "all read".into(),
        Err(error) => format!("first block read, then {}", errno::name(error)),
    })
}

fn object_replaced(guest: &Guest) -> Result<String> {
    damaged(guest, |composefs| {
        tamper::replace_sealed(&composefs.object(), &Composefs::other_content())
    })
}

fn object_replaced_unsealed(guest: &Guest) -> Result<String> {
    damaged(guest, |composefs| {
        tamper::replace(&composefs.object(), &Composefs::other_content())
    })
}

fn object_unsealed(guest: &Guest) -> Result<String> {
    damaged(guest, |composefs| {
        tamper::replace(&composefs.object(), &Composefs::content())
    })
}

fn object_truncated(guest: &Guest) -> Result<String> {
    damaged(guest, |composefs| {
        tamper::truncate(&composefs.object(), 5000)
    })
}

fn object_missing(guest: &Guest) -> Result<String> {
    damaged(guest, |composefs| tamper::remove(&composefs.object()))
}

fn missing_object_restored(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    let (object, aside) = (composefs.object(), guest.path("aside"));
    fs::rename(&object, &aside)?;
    composefs.mount()?;
    let before = file(&composefs);
    fs::rename(&aside, &object)?;
    let after = file(&composefs);
    Ok(if before == "read" {
        "NOT MISSED".into()
    } else {
        after
    })
}

fn sealed_while_mounted(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    tamper::replace(&composefs.object(), &Composefs::content())?;
    composefs.mount()?;
    file(&composefs);
    tamper::seal(&composefs.object())?;
    Ok(file(&composefs))
}

fn replaced_while_cached(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    composefs.mount()?;
    file(&composefs);
    let (object, other) = (composefs.object(), guest.path("other"));
    fs::write(&other, Composefs::other_content())?;
    tamper::seal(&other)?;
    fs::rename(&other, &object)?;
    let cached = file(&composefs);
    tamper::drop_caches()?;
    Ok(format!("{cached}; {}", file(&composefs)))
}

/// The old data until the inode goes; then as if it had been replaced before.
fn replaced_while_cached_expected(can: &Capabilities) -> Expected {
    if can.has(VerityRequire) {
        Expected::OneOf(&["read; EIO at open", "read; read"])
    } else {
        Expected::OneOf(&["read; OTHER BYTES READ", "read; read"])
    }
}

fn repaired_while_mounted(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    tamper::replace_sealed(&composefs.object(), &Composefs::other_content())?;
    composefs.mount()?;
    file(&composefs);
    tamper::replace_sealed(&composefs.object(), &Composefs::content())?;
    Ok(file(&composefs))
}

fn replaced_without_require(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?.without_verity();
    tamper::replace_sealed(&composefs.object(), &Composefs::other_content())?;
    composefs.mount()?;
    Ok(file(&composefs))
}

fn written(path: &std::path::Path) -> Result<String> {
    Ok(match fs::OpenOptions::new().write(true).open(path) {
        Ok(_) => "OPENED".into(),
        Err(error) => errno::name(error),
    })
}

fn object_written(guest: &Guest) -> Result<String> {
    written(&Composefs::secure(guest)?.object())
}

fn mount_written(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    composefs.mount()?;
    written(&composefs.path("file"))
}

/// Where the superblock and the root directory of the image are.
const METADATA: u64 = 1100;

fn image_block_flipped(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    tamper::flip(&composefs.image(), METADATA)?;
    Ok(reading::read(&composefs.image(), b""))
}

fn image_block_flipped_mounted(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    tamper::flip(&composefs.image(), METADATA)?;
    Ok(match composefs.mount() {
        Ok(()) => reading::list(&composefs.path("")),
        Err(error) => errno_of(&error),
    })
}

fn image_truncated(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    tamper::truncate(&composefs.image(), 4096)?;
    Ok(match composefs.mount() {
        Ok(()) => format!("mounted; {}", reading::list(&composefs.path(""))),
        Err(error) => errno_of(&error),
    })
}

fn image_garbage(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    tamper::replace(&composefs.image(), &Composefs::other_content())?;
    Ok(match composefs.mount() {
        Ok(()) => "MOUNTED".into(),
        Err(error) => errno_of(&error),
    })
}

/// The number in an error of the library's.
fn errno_of(error: &anyhow::Error) -> String {
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>());
    match io.and_then(std::io::Error::raw_os_error) {
        Some(number) => errno::name(std::io::Error::from_raw_os_error(number)),
        None => format!("{error:#}"),
    }
}
