//! What `status` says of dangling users.

use super::{Dangling, PrimaryError, PrimaryStore, StoreContent, UserKind, dangling};
use crate::{
    deployment::status::{Condition, Kind},
    error::with_causes,
    repo::{DeploymentId, SetRecord},
};

/// How many users are named in the text for people; the commands have all.
const NAMED: usize = 8;

/// Whether anybody in podman's own store stands on what `set`, that of
/// deployment `id`, has not, and what to do then. That holds of a set that is
/// shown, and of one that is to be shown next.
pub fn dangling_condition(
    primary: &Result<PrimaryStore, PrimaryError>,
    id: &DeploymentId,
    set: &SetRecord,
) -> Condition {
    let condition = |status, reason, message| Condition {
        kind: Kind::Dangling,
        status,
        reason,
        message,
    };
    let primary = match primary {
        Ok(primary) => primary,
        Err(error) if error.is_busy() => {
            return condition(false, "StoreBusy", with_causes(error));
        }
        Err(error) => return condition(false, "StoreUnreadable", with_causes(error)),
    };
    let mut users = dangling(primary, &StoreContent::of(set));
    users.retain(Dangling::breaks);
    if users.is_empty() {
        let message = "nothing in podman's own store stands on layers that the set has not";
        return condition(false, "NoUsers", message.into());
    }
    let message = format!(
        "in {}, {} on layers that the set has not: run `{}`, or sync {id} with \
         `--keep-layers referenced`",
        primary.path.display(),
        stand(&users),
        fix(&users),
    );
    condition(true, "LayersMissing", message)
}

/// `container c1 and image localhost/a:1 stand`
fn stand(users: &[Dangling]) -> String {
    let word = |kind| match kind {
        UserKind::Container => "container",
        UserKind::Image => "image",
    };
    let name = |user: &Dangling| match user.names.first() {
        Some(name) => name.clone(),
        None => short(&user.id).to_owned(),
    };
    let mut named: Vec<String> = users
        .iter()
        .take(NAMED)
        .map(|user| format!("{} {}", word(user.kind), name(user)))
        .collect();
    if users.len() > NAMED {
        named.push(format!("{} more", users.len() - NAMED));
    }
    let verb = if users.len() == 1 { "stands" } else { "stand" };
    format!("{} {verb}", named.join(", "))
}

/// What removes them, containers first. Without `-f`: that would remove
/// containers that run, and with an image all its containers.
fn fix(users: &[Dangling]) -> String {
    let ids = |kind| {
        let of_kind = users.iter().filter(|user| user.kind == kind);
        of_kind.map(|user| short(&user.id)).collect::<Vec<_>>()
    };
    let commands = [
        ("podman rm", ids(UserKind::Container)),
        ("podman image rm", ids(UserKind::Image)),
    ];
    let needed = commands.iter().filter(|(_, ids)| !ids.is_empty());
    let mut texts: Vec<String> = needed
        .map(|(command, ids)| format!("{command} {}", ids.join(" ")))
        .collect();
    // podman 5 removes no image by its ID that has several names.
    let named = users
        .iter()
        .filter(|user| user.kind == UserKind::Image && user.names.len() > 1);
    let untag = named.map(|user| format!("podman untag {}", short(&user.id)));
    let last = texts.len().saturating_sub(1);
    texts.splice(last..last, untag);
    texts.join(" && ")
}

/// As podman shows it. A hostile ID may be anything but goes into a command.
fn short(id: &str) -> &str {
    let plain = id.bytes().take_while(u8::is_ascii_hexdigit).count();
    &id[..plain.min(12)]
}
