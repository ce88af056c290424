//! Which identity a signature must be for, said without the image's own name.
//!
//! An image in a `dir:` has no docker name, so what the policy compares with
//! that name is compared with a fixed one instead: the name that is wanted.

use serde_json::{Value, json};

use crate::name::ImageName;

/// The field of a `sigstoreSigned` requirement.
pub(super) const IDENTITY: &str = "signedIdentity";

/// The identity that asks of a `dir:` what `identity` asks of an image from
/// `docker://name` (containers-policy.json(5)): never less.
///
/// # Errors
/// Why there is none.
pub(super) fn fitting_identity(
    identity: Option<&Value>,
    name: &ImageName,
) -> Result<Value, String> {
    // `name` has a tag, for a digest would pin it: so "RepoDigestOrExact" is exact.
    let exact =
        |name: &ImageName| json!({"type": "exactReference", "dockerReference": name.to_string()});
    let Some(identity) = identity else {
        return Ok(exact(name));
    };
    let field = |field: &str| identity.get(field).and_then(Value::as_str);
    match field("type") {
        Some("matchExact" | "matchRepoDigestOrExact") => Ok(exact(name)),
        Some("matchRepository") => Ok(json!({
            "type": "exactRepository", "dockerRepository": name.repository(),
        })),
        // These never look at the image's name.
        Some("exactReference" | "exactRepository") => Ok(identity.clone()),
        Some("remapIdentity") => {
            let (Some(prefix), Some(signed)) = (field("prefix"), field("signedPrefix")) else {
                return Err("its remapIdentity has no prefix and signedPrefix".into());
            };
            let full = name.to_string();
            match name.repository().strip_prefix(prefix) {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                    let remapped = format!("{signed}{}", &full[prefix.len()..]);
                    let parsed = ImageName::normalise(&remapped).ok();
                    let canonical = parsed.filter(|parsed| parsed.name.to_string() == remapped);
                    canonical.map(|found| exact(&found.name)).ok_or_else(|| {
                        format!(
                            "its remapIdentity makes {remapped:?} of {full}, which is no full name"
                        )
                    })
                }
                // Other images keep their names.
                _ => Ok(exact(name)),
            }
        }
        Some(other) => Err(format!(
            "its {IDENTITY} {other:?} is none that can be checked here"
        )),
        None => Err(format!("its {IDENTITY} has no type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: &str = "exactReference";
    const REPOSITORY: &str = "exactRepository";

    #[test]
    fn identities_fit_a_folder() {
        let remap = |from: &str, to: &str| json!({"type": "remapIdentity", "prefix": from, "signedPrefix": to});
        let of = |kind: &str| json!({"type": kind});
        let other = json!({"type": EXACT, "dockerReference": "quay.io/z:3"});
        let elsewhere = json!({"type": REPOSITORY, "dockerRepository": "quay.io/z"});
        let name = "quay.io/a/b:1";
        for (identity, kind, fitting) in [
            (None, EXACT, name),
            (Some(of("matchExact")), EXACT, name),
            (Some(of("matchRepoDigestOrExact")), EXACT, name),
            (Some(of("matchRepository")), REPOSITORY, "quay.io/a/b"),
            (Some(other), EXACT, "quay.io/z:3"),
            (Some(elsewhere), REPOSITORY, "quay.io/z"),
            (Some(remap("quay.io", "x.test")), EXACT, "x.test/a/b:1"),
            (
                Some(remap("quay.io/a", "x.test:5000/y")),
                EXACT,
                "x.test:5000/y/b:1",
            ),
            (Some(remap("quay.io/a/b", "x.test/c")), EXACT, "x.test/c:1"),
            // No prefix of whole parts.
            (Some(remap("quay.i", "x.test")), EXACT, name),
            (Some(remap("quay.io/a/b/c", "x.test")), EXACT, name),
            (Some(remap("quay.io/a/b:1", "x.test")), EXACT, name),
        ] {
            let found = fitting_identity(identity.as_ref(), &name.parse().unwrap()).unwrap();
            let field = match kind {
                EXACT => "dockerReference",
                _ => "dockerRepository",
            };
            assert_eq!(found, json!({"type": kind, field: fitting}), "{identity:?}");
        }
    }

    #[test]
    fn what_has_no_fit_is_refused() {
        let remap =
            |to: &str| json!({"type": "remapIdentity", "prefix": "quay.io/a", "signedPrefix": to});
        for identity in [
            Value::Null,
            json!("matchExact"),
            json!({}),
            json!({"type": "matchAnything"}),
            json!({"Type": "matchExact"}),
            json!({"type": "remapIdentity", "prefix": "quay.io"}),
            // Names that containers/image would complete, or cannot read: there
            // they match no signature.
            remap("docker.io"),
            remap("short"),
            remap("UPPER/"),
            remap(""),
        ] {
            let found = fitting_identity(Some(&identity), &"quay.io/a/b:1".parse().unwrap());
            assert!(found.is_err(), "{identity}: {found:?}");
        }
    }
}
