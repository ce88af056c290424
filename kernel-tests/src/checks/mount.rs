//! What the `boundstore` command says and does on this kernel: a set of one
//! image, synced, damaged, mounted.

use anyhow::Result;

use crate::{
    capability::{
        Capabilities,
        Capability::{FsVerity, VerityRequire},
    },
    check::{Check, Expected, either, is},
    fixture::{reading, store::Store, tamper},
    guest::Guest,
};

#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    Check { name: "sync_seals", row: "sync: what the repository says of itself", observe: sync_seals, expect: |can| either(can.has(FsVerity), "secure", "exit 5") },
    Check { name: "same_set_image", row: "the set image's digest, with and without fs-verity", observe: same_set_image, expect: |_| is("4f6daa5c93af01cb") },
    Check { name: "secure", row: "mount of a repository with fs-verity", observe: secure, expect: |can| either(can.has(VerityRequire), "exit 0; read; Verified=true", "exit 5: --allow-missing-verity") },
    Check { name: "secure_allowed", row: "the same with --allow-missing-verity", observe: secure_allowed, expect: |can| either(can.has(VerityRequire), "exit 0; read; Verified=true", "exit 0; read; Verified=false") },
    Check { name: "insecure", row: "mount of a repository without fs-verity", observe: insecure, expect: |_| is("exit 5: --allow-missing-verity") },
    Check { name: "insecure_allowed", row: "the same with --allow-missing-verity", observe: insecure_allowed, expect: |_| is("exit 0; read; Verified=false") },
    Check { name: "root_shows_podmans_folders_only", row: "the root of a mounted store", observe: root, expect: |_| is("overlay overlay-images overlay-layers vfs-images vfs-layers") },
    Check { name: "object_replaced", row: "an object replaced, then mounted and read", observe: object_replaced, expect: |can| checked(can, "exit 0; EIO at open", "exit 0; OTHER BYTES READ") },
    Check { name: "image_replaced", row: "the set image replaced by one with other bytes and fs-verity", observe: image_replaced, expect: |_| is("exit 1: damaged") },
    Check { name: "image_unsealed", row: "the set image without fs-verity", observe: image_unsealed, expect: |_| is("exit 1: damaged") },
    Check { name: "image_missing", row: "the set image missing", observe: image_missing, expect: |_| is("exit 1: missing") },
    Check { name: "image_tampered_anywhere", row: "any one block changed below the set image", observe: image_tampered_anywhere, expect: |_| is("every block: refused or EIO") },
];

/// With `verity=require`; without it the operator has to allow the mount.
fn checked(can: &Capabilities, yes: &'static str, no: &'static str) -> Expected {
    either(can.has(VerityRequire), yes, no)
}

/// What tells one refusal from another.
const WORDS: &[&str] = &[
    "--allow-missing-verity",
    "damaged",
    "missing",
    "cannot be read",
];

fn mount_and_read(store: &Store) -> Result<String> {
    let said = store.mount()?;
    if said.status != 0 {
        // The hint to allow it has `missing` in it.
        let words = if said.stderr.contains(WORDS[0]) {
            &WORDS[..1]
        } else {
            &WORDS[1..]
        };
        return Ok(said.outcome(words));
    }
    let read = reading::read(&store.file()?, &Store::data());
    Ok(format!("exit 0; {read}"))
}

/// With what `status` makes of it.
fn mount_and_status(store: &Store) -> Result<String> {
    let outcome = mount_and_read(store)?;
    if !outcome.starts_with("exit 0") {
        return Ok(outcome);
    }
    let status = store.run(&["status"])?;
    let conditions = status.json["deployments"][0]["conditions"]
        .as_array()
        .cloned();
    let verified = conditions
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "Verified");
    let verified = verified.map(|condition| condition["status"].to_string());
    Ok(format!(
        "{outcome}; Verified={}",
        verified.unwrap_or_default()
    ))
}

fn sync_seals(guest: &Guest) -> Result<String> {
    let store = Store::unsynced(guest, &guest.path("repo"), &[])?;
    let said = store.run(&store.sync_args(guest))?;
    if said.status != 0 {
        return Ok(said.outcome(&[]));
    }
    let status = store.run(&["status"])?;
    Ok(if status.json["secure"] == true {
        "secure"
    } else {
        "NOT SECURE"
    }
    .into())
}

/// A function of the images alone: not of the kernel, not of the filesystem.
fn same_set_image(guest: &Guest) -> Result<String> {
    let one = Store::secure(guest)?.set()?.set_image.hex();
    let two = Store::sync(guest, &guest.path("two"), ALLOWED)?
        .set()?
        .set_image
        .hex();
    Ok(if one == two {
        one[..16].to_owned()
    } else {
        format!("{one} {two}")
    })
}

fn secure(guest: &Guest) -> Result<String> {
    mount_and_status(&Store::secure(guest)?)
}

fn secure_allowed(guest: &Guest) -> Result<String> {
    mount_and_status(&Store::secure(guest)?.with_options(ALLOWED))
}

fn insecure(guest: &Guest) -> Result<String> {
    mount_and_status(&Store::insecure(guest)?.with_options(&[]))
}

fn insecure_allowed(guest: &Guest) -> Result<String> {
    mount_and_status(&Store::insecure(guest)?)
}

const ALLOWED: &[&str] = &["--allow-missing-verity"];

fn root(guest: &Guest) -> Result<String> {
    let store = Store::secure(guest)?.with_options(ALLOWED);
    store.mount()?;
    Ok(reading::list(store.target()))
}

/// Damage, then a mount that is allowed wherever this kernel needs it.
fn damaged(guest: &Guest, damage: impl Fn(&Store) -> Result<()>) -> Result<String> {
    let store = Store::secure(guest)?.with_options(ALLOWED);
    damage(&store)?;
    mount_and_read(&store)
}

fn object_replaced(guest: &Guest) -> Result<String> {
    let other = vec![66; Store::CONTENT];
    damaged(guest, |store| {
        tamper::replace_sealed(&store.object(), &other)
    })
}

fn image_replaced(guest: &Guest) -> Result<String> {
    damaged(guest, |store| {
        tamper::replace_sealed(&store.image()?, &[66; 8192])
    })
}

fn image_unsealed(guest: &Guest) -> Result<String> {
    damaged(guest, |store| {
        let image = store.image()?;
        let bytes = std::fs::read(&image)?;
        tamper::replace(&image, &bytes)
    })
}

fn image_missing(guest: &Guest) -> Result<String> {
    damaged(guest, |store| tamper::remove(&store.image()?))
}

/// Block by block: what is mounted is walked and read whole, and must be as it
/// was or fail.
fn image_tampered_anywhere(guest: &Guest) -> Result<String> {
    let store = Store::secure(guest)?.with_options(ALLOWED);
    let image = store.image()?;
    let length = std::fs::metadata(&image)?.len();
    store.mount()?;
    let whole = reading::walk(store.target())?;
    unmount(&store)?;
    let mut served = Vec::new();
    for offset in (0..length).step_by(4096) {
        tamper::flip(&image, offset + 1030.min(length - offset - 1))?;
        if store.mount()?.status == 0 {
            match reading::walk(store.target()) {
                Err(_) => {}
                Ok(found) if found == whole => served.push(format!("{offset} UNNOTICED")),
                Ok(_) => served.push(format!("{offset} SERVED")),
            }
            unmount(&store)?;
        }
        tamper::flip(&image, offset + 1030.min(length - offset - 1))?;
    }
    Ok(if served.is_empty() {
        "every block: refused or EIO".into()
    } else {
        served.join("; ")
    })
}

fn unmount(store: &Store) -> Result<()> {
    boundstore::sys::unmount(store.target(), boundstore::sys::Unmount::IfIdle)?;
    tamper::drop_caches()
}
