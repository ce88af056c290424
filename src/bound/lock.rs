//! The lock file: which bytes a deployment's bound images are, and which set
//! image they make.
//!
//! `boundstore lock` writes it into the deployment's root when that is built;
//! there it is as well protected as the root itself, so that a host whose boot
//! is verified verifies its apps too. `docs/lock.md` documents it.

use std::{collections::BTreeMap, fmt, io, os::fd::BorrowedFd, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    name::{
        Algorithm, BlobDigest, ConfigDigest, DiffId, ImageName, IndexDigest, ManifestDigest,
        ObjectId, Platform, SetFormat,
    },
    sys::{ReadInRootError, read_in_root},
};

/// Where the lock file is, relative to a deployment's root.
pub const LOCK_PATH: &str = "usr/lib/boundstore/bound-images.lock.json";
const SCHEMA: &str = "boundstore.lock-file/v1";
/// No lock file is longer: 1,000 images of 60 layers are half of it.
const LIMIT_BYTES: u64 = 32 << 20;

/// What a deployment's set is locked to.
///
/// A lock file lies in a root that may be hostile: whoever can write it decides
/// which images that deployment has, as whoever can write its units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    schema: String,
    /// The version of boundstore that wrote it.
    pub boundstore: String,
    /// What renders the set image.
    pub format: SetFormat,
    /// The fs-verity digests of the set image.
    pub set_image: LockedSetImage,
    /// The images, sorted by name, each name once.
    pub images: Vec<LockedImage>,
}

/// A set image as repositories of either algorithm have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSetImage {
    /// In a repository of [`Algorithm::Sha256`].
    pub sha256: ObjectId,
    /// In a repository of [`Algorithm::Sha512`].
    pub sha512: ObjectId,
}

impl LockedSetImage {
    /// The digest that a repository of this algorithm has.
    pub fn of(&self, algorithm: Algorithm) -> ObjectId {
        match algorithm {
            Algorithm::Sha256 => self.sha256,
            Algorithm::Sha512 => self.sha512,
        }
    }
}

/// One image of a [`Lock`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedImage {
    /// The full name it is bound under.
    pub name: ImageName,
    /// The platform it was chosen for, as `linux/amd64`.
    #[serde(with = "as_text")]
    pub platform: Platform,
    /// The index that the manifest was chosen from, where there was one: for
    /// people. The set image depends on it only where the name pins it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<IndexDigest>,
    /// The manifest.
    pub manifest: Locked<ManifestDigest>,
    /// The config.
    pub config: Locked<ConfigDigest>,
    /// The layers, base first.
    pub layers: Vec<LockedLayer>,
}

/// A document of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked<D> {
    /// Its digest.
    pub digest: D,
    /// Its size in bytes.
    pub size: u64,
}

/// One layer of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedLayer {
    /// The blob's digest.
    pub digest: BlobDigest,
    /// The blob's size in bytes.
    pub size: u64,
    /// The uncompressed tar's digest.
    pub diff_id: DiffId,
}

/// Why a lock file is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// It cannot be read, or is no small regular file.
    #[error("read the lock file")]
    Read(#[from] ReadInRootError),
    /// It is not what `boundstore lock` writes.
    #[error("{LOCK_PATH} is no lock file: make it anew with `boundstore lock`")]
    Json(#[source] serde_json::Error),
    /// What it says contradicts itself.
    #[error("{LOCK_PATH}: {0}: make it anew with `boundstore lock`")]
    Inconsistent(String),
    /// A newer boundstore wrote it.
    #[error(
        "{LOCK_PATH} was written by boundstore {written_by} (format {format}); this is boundstore \
         {this}, which knows formats up to {newest}: use that version, or make it anew with this one",
        this = env!("CARGO_PKG_VERSION"), newest = SetFormat::NEWEST.number()
    )]
    Newer {
        /// The version that wrote it.
        written_by: String,
        /// Its format.
        format: u64,
    },
    /// It locks other images than are bound.
    #[error("{LOCK_PATH} is stale: run `boundstore lock` again:{}", lines(.0))]
    Stale(Vec<Difference>),
}

fn lines(differences: &[Difference]) -> String {
    let lines = differences.iter().map(|one| format!("\n  {one}"));
    lines.collect()
}

/// One difference between a lock and what is bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "difference", rename_all = "kebab-case")]
pub enum Difference {
    /// Bound, but not in the lock.
    NotLocked {
        /// The image.
        name: ImageName,
    },
    /// In the lock, but not bound.
    NotBound {
        /// The image.
        name: ImageName,
    },
    /// The name stands for another image now.
    Changed {
        /// The image.
        name: ImageName,
        /// Its manifest in the lock.
        locked: ManifestDigest,
        /// Its manifest now.
        found: ManifestDigest,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLocked { name } => write!(f, "+ {name} is bound and not locked"),
            Self::NotBound { name } => write!(f, "- {name} is locked and not bound"),
            Self::Changed {
                name,
                locked,
                found,
            } => write!(f, "~ {name} is locked to {locked}, and is {found} now"),
        }
    }
}

impl Lock {
    /// A lock of these images, written by this boundstore.
    pub fn new(set_image: LockedSetImage, mut images: Vec<LockedImage>) -> Self {
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            schema: SCHEMA.into(),
            boundstore: env!("CARGO_PKG_VERSION").into(),
            format: SetFormat::NEWEST,
            set_image,
            images,
        }
    }

    /// Reads that of the deployment at `root`; nothing where it has none.
    ///
    /// # Errors
    /// See [`LockError`]; never [`LockError::Stale`].
    pub fn read(root: BorrowedFd<'_>) -> Result<Option<Self>, LockError> {
        match read_in_root(root, Path::new(LOCK_PATH), LIMIT_BYTES) {
            Err(ReadInRootError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => Self::parse(&bytes?).map(Some),
        }
    }

    /// Reads the bytes of a lock file.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LockError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Head {
            schema: String,
            boundstore: String,
            format: u64,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(LockError::Json)?;
        if head.schema != SCHEMA || head.format > u64::from(SetFormat::NEWEST.number()) {
            return Err(LockError::Newer {
                written_by: head.boundstore,
                format: head.format,
            });
        }
        let lock: Self = serde_json::from_slice(bytes).map_err(LockError::Json)?;
        let wrong = |what: &str| Err(LockError::Inconsistent(what.into()));
        let set_image = &lock.set_image;
        for (algorithm, id) in [
            (Algorithm::Sha256, set_image.sha256),
            (Algorithm::Sha512, set_image.sha512),
        ] {
            if id.algorithm() != algorithm {
                return wrong("a digest of the set image has the length of the other");
            }
        }
        if !lock.images.is_sorted_by(|a, b| a.name < b.name) {
            return wrong("its images are not sorted by name, each once");
        }
        Ok(lock)
    }

    /// The bytes of the file: the same for the same lock, made to be reviewed.
    pub fn to_json(&self) -> String {
        // Nothing in it can fail to be written as JSON.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// What it has of this name.
    pub fn image(&self, name: &ImageName) -> Option<&LockedImage> {
        let found = self.images.binary_search_by(|image| image.name.cmp(name));
        found.ok().map(|at| &self.images[at])
    }

    /// Whether exactly these names are locked.
    ///
    /// # Errors
    /// [`LockError::Stale`].
    pub fn expect_names<'n>(
        &self,
        bound: impl IntoIterator<Item = &'n ImageName>,
    ) -> Result<(), LockError> {
        let bound: BTreeMap<_, _> = bound.into_iter().map(|name| (name, ())).collect();
        let missing = bound.keys().filter(|name| self.image(name).is_none());
        let missing = missing.map(|name| Difference::NotLocked {
            name: (*name).clone(),
        });
        let more = self.images.iter().map(|image| &image.name);
        let more = more.filter(|name| !bound.contains_key(name));
        let more = more.map(|name| Difference::NotBound { name: name.clone() });
        let differences: Vec<_> = missing.chain(more).collect();
        match differences.is_empty() {
            true => Ok(()),
            false => Err(LockError::Stale(differences)),
        }
    }
}

/// A value as its text.
mod as_text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Lock {
        /// One of these names.
        pub(in crate::bound) fn of_names(names: &[&str]) -> Self {
            let set_image = LockedSetImage {
                sha256: ObjectId::Sha256([1; 32]),
                sha512: ObjectId::Sha512([2; 64]),
            };
            let image = |name: &&str| LockedImage {
                name: name.parse().unwrap(),
                platform: "linux/arm64/v8".parse().unwrap(),
                index: Some(IndexDigest::of(b"index")),
                manifest: Locked {
                    digest: ManifestDigest::of(name.as_bytes()),
                    size: 7,
                },
                config: Locked {
                    digest: ConfigDigest::of(b"config"),
                    size: 6,
                },
                layers: vec![LockedLayer {
                    digest: BlobDigest::of(b"blob"),
                    size: 4,
                    diff_id: DiffId::of(b"tar"),
                }],
            };
            Self::new(set_image, names.iter().map(image).collect())
        }
    }

    fn lock() -> Lock {
        Lock::of_names(&["quay.io/b:1", "quay.io/a:1"])
    }

    #[test]
    fn what_is_written_is_read() {
        let text = lock().to_json();
        assert_eq!(Lock::parse(text.as_bytes()).unwrap(), lock());
        assert!(text.ends_with("}\n"), "{text}");
        assert!(text.contains("\"platform\": \"linux/arm64/v8\""), "{text}");
        assert!(text.find("quay.io/a").unwrap() < text.find("quay.io/b").unwrap());
    }

    #[test]
    fn damage_is_told() {
        let text = lock().to_json();
        let parse = |text: &str| Lock::parse(text.as_bytes()).unwrap_err().to_string();
        for (from, to, words) in [
            ("{", "[", "is no lock file"),
            ("\"images\"", "\"imgs\"", "is no lock file"),
            ("\"index\"", "\"x\"", "is no lock file"),
            ("linux/arm64/v8", "linux", "is no lock file"),
            ("quay.io/a:1", "quay.io/c:1", "not sorted"),
            ("quay.io/a:1", "quay.io/b:1", "not sorted"),
            ("\"format\": 2", "\"format\": 0", "is no lock file"),
            ("\"sha512\": \"", "\"sha512\": \"0", "is no lock file"),
            (
                &"02".repeat(64),
                &"01".repeat(32),
                "the length of the other",
            ),
        ] {
            assert!(text.contains(from), "{from}");
            let said = parse(&text.replacen(from, to, 1));
            assert!(said.contains(words), "{from} -> {to}: {said}");
            assert!(said.contains("boundstore lock"), "{said}");
        }
        let twice = text.replacen("\"format\"", "\"format\": 2,\n  \"format\"", 1);
        assert!(parse(&twice).contains("is no lock file"));
    }

    #[test]
    fn a_newer_one_names_both_versions() {
        let text = lock().to_json();
        let this = env!("CARGO_PKG_VERSION");
        let newer = text.replace(this, "9.1.0");
        for newer in [
            newer.replace("\"format\": 2", "\"format\": 3, \"more\": {}"),
            newer.replace("lock-file/v1", "lock-file/v2"),
        ] {
            let said = Lock::parse(newer.as_bytes()).unwrap_err().to_string();
            assert!(said.contains("9.1.0") && said.contains(this), "{said}");
        }
    }

    #[test]
    fn names_that_differ_are_told() {
        let names = |names: &[&str]| -> Vec<ImageName> {
            names.iter().map(|name| name.parse().unwrap()).collect()
        };
        lock()
            .expect_names(&names(&["quay.io/b:1", "quay.io/a:1"]))
            .unwrap();
        let error = lock().expect_names(&names(&["quay.io/b:1", "quay.io/c:1"]));
        let said = error.unwrap_err().to_string();
        for words in [
            "boundstore lock",
            "\n  + quay.io/c:1 is bound and not locked",
            "\n  - quay.io/a:1 is locked and not bound",
        ] {
            assert!(said.contains(words), "{words:?}: {said}");
        }
    }
}
