//! Whether the host accepts an image that skopeo has not judged.

use std::{collections::BTreeMap, io::ErrorKind, path::PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    SourceError,
    signed_identity::{IDENTITY, fitting_identity},
};
use crate::{
    document::{
        DocumentError, Json,
        Shape::{self, List, Map, Record, Text},
    },
    error::PathError,
    name::{ImageName, ManifestDigest},
    sys::read_regular,
};

/// The longest policy.json that is read.
const LIMIT_BYTES: u64 = 16 << 20;

/// A policy.json, read strictly: two readings are none.
const POLICY: Shape = Record(&[
    ("default", REQUIREMENTS),
    ("transports", Map(&Map(&REQUIREMENTS))),
]);

/// The requirement of a signature of sigstore.
const SIGNED: &str = "sigstoreSigned";

const REQUIREMENTS: Shape = List(&Record(&[("type", Text)]));

/// A host's policy.json (containers-policy.json(5)), as far as it is judged here.
///
/// Only `insecureAcceptAnything` is understood as a yes: signatures are checked
/// by skopeo alone.
#[derive(Debug, Clone)]
pub struct HostPolicy {
    path: PathBuf,
    default: Vec<Requirement>,
    docker: BTreeMap<String, Vec<Requirement>>,
    document: Value,
}

#[derive(Debug, Clone, Deserialize)]
struct Requirement {
    #[serde(rename = "type")]
    kind: String,
    #[serde(flatten)]
    fields: serde_json::Map<String, Value>,
}

/// The signatures that a policy asks for, of one image.
#[derive(Debug)]
pub(super) struct SignedScope {
    /// The policy, and the scope that decided: `X says sigstoreSigned for Y`.
    pub(super) asks: String,
    /// A policy.json that asks the same of any `dir:`; all else in it is the
    /// host's, so that skopeo refuses it where it would refuse the host's.
    pub(super) derived: Value,
}

/// Why the host's policy does not let an image in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// There is no policy at all.
    #[error(
        "find the host's policy: none of {} is there; install containers-common, or pin the image by @sha256: or by a lock",
        paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// Where it was looked for.
        paths: Vec<PathBuf>,
    },
    /// The policy cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The policy is no policy.
    #[error("read {}: it is no policy.json", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// It rejects the image, or asks for what cannot be shown here.
    #[error("{} says {requirement} for {scope}; {way_out}", path.display())]
    Refused {
        /// The policy.
        path: PathBuf,
        /// The scope that decided.
        scope: String,
        /// What it asks for.
        requirement: String,
        /// What to do.
        way_out: &'static str,
    },
    /// Its signature does not show what the policy asks for.
    #[error("{asks}, but {reason}; {way_out}")]
    Unsigned {
        /// The policy, its scope and what it asks for.
        asks: String,
        /// What is wrong: skopeo's own words, where it was asked.
        reason: String,
        /// What to do.
        way_out: &'static str,
    },
    /// Its signature cannot be read.
    #[error(
        "{asks}, but its signature is damaged; copy it again, or pin the image by @sha256: or by a lock"
    )]
    Damaged {
        /// The policy, its scope and what it asks for.
        asks: String,
        /// What is wrong with it.
        source: Box<SourceError>,
    },
    /// skopeo judged, and said no.
    #[error("{message}; sign the image, or change policy.json")]
    Skopeo {
        /// skopeo's own words.
        message: String,
    },
}

impl HostPolicy {
    /// Reads the first of `paths` that is there.
    ///
    /// containers/image looks at the user's `~/.config/containers/policy.json`
    /// and then at `/etc/containers/policy.json`; which, is up to the caller.
    ///
    /// # Errors
    /// [`PolicyError`]: none is there, or it is unusable. Only a missing file is
    /// passed over, never a broken one.
    pub fn load(paths: &[PathBuf]) -> Result<Self, PolicyError> {
        for path in paths {
            match read_regular(path, LIMIT_BYTES) {
                Ok(bytes) => return Self::parse(path.clone(), &bytes),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(PolicyError::Missing {
            paths: paths.to_vec(),
        })
    }

    fn parse(path: PathBuf, bytes: &[u8]) -> Result<Self, PolicyError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            default: Vec<Requirement>,
            #[serde(default)]
            transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
        }
        let malformed = |source| PolicyError::Malformed {
            path: path.clone(),
            source,
        };
        Json::read(bytes, &POLICY).map_err(malformed)?;
        let parsed = serde_json::from_slice(bytes);
        let document: Value = parsed.map_err(|error| malformed(error.into()))?;
        let parsed = Raw::deserialize(&document);
        let mut raw = parsed.map_err(|error| malformed(error.into()))?;
        let scopes = raw.transports.values().flat_map(BTreeMap::values);
        if scopes.chain([&raw.default]).any(Vec::is_empty) {
            let empty: serde_json::Error =
                serde::de::Error::custom("a list of requirements is empty");
            return Err(malformed(empty.into()));
        }
        Ok(Self {
            docker: raw.transports.remove("docker").unwrap_or_default(),
            default: raw.default,
            document,
            path,
        })
    }

    /// Judges an image by its docker name; returns the verdict as text.
    ///
    /// # Errors
    /// [`PolicyError::Refused`] with the scope that decided.
    pub fn judge(&self, name: &ImageName) -> Result<String, PolicyError> {
        let (scope, requirements) = self.scope(name);
        let strict = requirements
            .iter()
            .find(|requirement| requirement.kind != "insecureAcceptAnything");
        match strict {
            None => Ok(format!(
                "{} says insecureAcceptAnything for {scope}",
                self.path.display()
            )),
            Some(requirement) => Err(PolicyError::Refused {
                path: self.path.clone(),
                scope,
                requirement: requirement.kind.clone(),
                way_out: match requirement.kind.as_str() {
                    "reject" => "change the policy, or pin the image by @sha256: or by a lock",
                    SIGNED => {
                        "only an image from its registry, or from a layout with its signature, can show that: pin it by @sha256: or by a lock, or take it from docker://"
                    }
                    _ => {
                        "only an image from its registry can show that: pin it by @sha256: or by a lock, or take it from docker://"
                    }
                },
            }),
        }
    }

    /// What skopeo is to be asked of an image called `name`; nothing where the
    /// policy asks for no signature of sigstore, or for something else besides.
    ///
    /// # Errors
    /// [`PolicyError::Unsigned`]: it asks for an identity that only a registry has.
    pub(super) fn signed(&self, name: &ImageName) -> Result<Option<SignedScope>, PolicyError> {
        let (scope, requirements) = self.scope(name);
        let kinds = || requirements.iter().map(|one| one.kind.as_str());
        if !kinds().any(|kind| kind == SIGNED)
            || !kinds().all(|kind| [SIGNED, "insecureAcceptAnything"].contains(&kind))
        {
            return Ok(None);
        }
        let asks = format!("{} says {SIGNED} for {scope}", self.path.display());
        let fitting = |requirement: &Requirement| {
            let mut fields = requirement.fields.clone();
            fields.insert("type".into(), json!(requirement.kind));
            if requirement.kind == SIGNED {
                let identity = fitting_identity(fields.get(IDENTITY), name)?;
                fields.insert(IDENTITY.into(), identity);
            }
            Ok::<_, String>(Value::Object(fields))
        };
        let fitting: Result<Vec<Value>, String> = requirements.iter().map(fitting).collect();
        let mut derived = self.document.clone();
        match fitting {
            Ok(requirements) => derived["transports"]["dir"] = json!({"": requirements}),
            Err(reason) => {
                return Err(PolicyError::Unsigned {
                    asks,
                    reason,
                    way_out: "change the policy, or pin the image by @sha256: or by a lock",
                });
            }
        }
        Ok(Some(SignedScope { asks, derived }))
    }

    /// The most specific scope for `name`: itself, its repository, each folder
    /// above, the host, `*.domain` above the host without its port, then the
    /// defaults (containers/image, `docker/policyconfiguration`).
    fn scope(&self, name: &ImageName) -> (String, &[Requirement]) {
        let repository = name.repository();
        let host = repository.split(['/', ':']).next().unwrap_or_default();
        let folders = repository
            .char_indices()
            .rev()
            .filter(|(_, c)| *c == '/')
            .map(|(at, _)| &repository[..at]);
        let domains = host
            .char_indices()
            .filter(|(_, c)| *c == '.')
            .map(|(at, _)| format!("*{}", &host[at..]));
        let full = name.to_string();
        let scopes = [full.as_str(), repository].into_iter().chain(folders);
        for scope in scopes.map(str::to_owned).chain(domains) {
            if let Some(found) = self.docker.get(&scope) {
                return (format!("docker scope {scope:?}"), found);
            }
        }
        match self.docker.get("") {
            Some(found) => ("all docker images".to_owned(), found),
            None => ("all images (default)".to_owned(), &self.default),
        }
    }
}

/// The verdict on an image that a skopeo opened which does not look at policies
/// by itself: only a policy that accepts anything is a yes. A pin is none here,
/// as it is none for podman.
///
/// # Errors
/// [`PolicyError`], with the way out.
pub(super) fn judge_for_old_skopeo(
    name: &ImageName,
    policy_paths: &[PathBuf],
) -> Result<String, PolicyError> {
    let mut judged = HostPolicy::load(policy_paths)?.judge(name);
    if let Err(PolicyError::Refused {
        requirement,
        way_out,
        ..
    }) = &mut judged
    {
        *way_out = match requirement.as_str() {
            "reject" => "change the policy, or take another image",
            _ => {
                "the proxy of a skopeo before 1.14 does not check that: install a later one, or copy the image with skopeo to oci: and pin it by @sha256: or by a lock"
            }
        };
    }
    judged
}

/// The verdict on an image from a native source (`oci:`, archives,
/// `containers-storage:`): a pin accepts it, otherwise the host's policy does.
///
/// # Errors
/// [`PolicyError`], with the way out.
pub fn judge_native(
    name: &ImageName,
    locked: Option<ManifestDigest>,
    policy_paths: &[PathBuf],
) -> Result<String, PolicyError> {
    match pinned(name, locked) {
        Some(verdict) => Ok(verdict),
        None => HostPolicy::load(policy_paths)?.judge(name),
    }
}

/// The verdict on an image that is held to a digest.
pub(super) fn pinned(name: &ImageName, locked: Option<ManifestDigest>) -> Option<String> {
    let by_name = name
        .pinned()
        .map(|pin| format!("pinned by its name to {pin}"));
    by_name.or_else(|| locked.map(|pin| format!("pinned by the lock to {pin}")))
}
