//! What `boundstore verify` and `verify --deep` say of damage, and that the next
//! sync mends it.

use anyhow::Result;

use crate::{
    check::{Check, is},
    fixture::{reading, store::Store, tamper},
    guest::Guest,
};

#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    Check { name: "intact", row: "nothing changed: verify; --deep", observe: |guest| verify(guest, |_| Ok(())), expect: |_| is("exit 0; exit 0") },
    Check { name: "block_flipped", row: "a block changed on the disk below an object", observe: |guest| verify(guest, |store| tamper::flip(&store.object(), 5000)), expect: |_| is("exit 0; exit 3") },
    Check { name: "object_replaced", row: "an object replaced by one with other bytes and fs-verity", observe: |guest| verify(guest, |store| tamper::replace_sealed(&store.object(), &other())), expect: |_| is("exit 3; exit 3") },
    Check { name: "object_unsealed", row: "an object without fs-verity", observe: |guest| verify(guest, |store| tamper::replace(&store.object(), &Store::data())), expect: |_| is("exit 3; exit 3") },
    Check { name: "object_missing", row: "an object missing", observe: |guest| verify(guest, |store| tamper::remove(&store.object())), expect: |_| is("exit 3; exit 3") },
    Check { name: "image_block_flipped", row: "a block changed below the set image", observe: |guest| verify(guest, |store| tamper::flip(&store.image()?, 5000)), expect: |_| is("exit 3; exit 3") },
    Check { name: "sync_replaces_unsealed", row: "an object without fs-verity, its layer forgotten, synced again", observe: |guest| synced_again(guest, |store| tamper::replace(&store.object(), &Store::data())), expect: |_| is("exit 0; verify exit 0") },
    Check { name: "sync_replaces_replaced", row: "an object with other bytes and fs-verity, its layer forgotten, synced again", observe: |guest| synced_again(guest, |store| tamper::replace_sealed(&store.object(), &other())), expect: |_| is("exit 0; verify exit 0") },
];

fn other() -> Vec<u8> {
    vec![66; Store::CONTENT]
}

fn verify(guest: &Guest, damage: impl Fn(&Store) -> Result<()>) -> Result<String> {
    let store = Store::secure(guest)?;
    damage(&store)?;
    let shallow = store.run(&["verify"])?.outcome(&[]);
    let deep = store.run(&["verify", "--deep"])?.outcome(&[]);
    Ok(format!("{shallow}; {deep}"))
}

/// Without its streams a repository is asked for every object anew; those that
/// are there must not be believed by their names.
fn synced_again(guest: &Guest, damage: impl Fn(&Store) -> Result<()>) -> Result<String> {
    let store = Store::secure(guest)?;
    damage(&store)?;
    store.run(&["remove", "--deployment", "d"])?;
    store.forget_streams()?;
    let said = store.run(&store.sync_args(guest))?;
    let object = reading::read(&store.object(), &Store::data());
    if object != "read" {
        return Ok(object);
    }
    let verified = store.run(&["verify"])?.outcome(&[]);
    Ok(format!("{}; verify {verified}", said.outcome(&[])))
}
