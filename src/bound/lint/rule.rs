//! The rules, by their ids.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// An image will be missing, or its container will not start.
    Error,
    /// It works, and may not do what was meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// A rule; `docs/lint.md` has a section for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// What names images cannot be understood.
    Unreadable,
    /// bootc's folder has what bootc does not accept.
    BootcForm,
    /// A drop-in changes what an entry of bootc's folder names.
    BootcDropIn,
    /// One name with two settings, or one entry's name for two images.
    Conflict,
    /// One name bound twice.
    DuplicateName,
    /// A name without a registry.
    ShortName,
    /// A tag that nothing holds to a digest.
    FloatingTag,
    /// A lock file that does not go with what is bound.
    StaleLock,
    /// A container with a user namespace of its own.
    UserNamespace,
    /// An image that is mounted into a container.
    ImageMount,
    /// A container whose image is asked for at its registry all the same.
    PullPolicy,
    /// The root has no mount point for the set.
    MountPoint,
    /// podman is not told of the store.
    StorageConf,
    /// The root does not have boundstore.
    BoundstoreMissing,
    /// A bootc that deletes sets.
    BootcTooOld,
}

/// An id that no rule has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no rule {0:?}; the rules are {all}", all = Rule::ALL.map(Rule::id).join(", "))]
pub struct NoSuchRule(String);

impl Rule {
    /// All rules.
    pub const ALL: [Self; 15] = [
        Self::Unreadable,
        Self::BootcForm,
        Self::BootcDropIn,
        Self::Conflict,
        Self::DuplicateName,
        Self::ShortName,
        Self::FloatingTag,
        Self::StaleLock,
        Self::UserNamespace,
        Self::ImageMount,
        Self::PullPolicy,
        Self::MountPoint,
        Self::StorageConf,
        Self::BoundstoreMissing,
        Self::BootcTooOld,
    ];

    /// Its id, which `--allow` and the configuration name it by.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::BootcForm => "bootc-form",
            Self::BootcDropIn => "bootc-drop-in",
            Self::Conflict => "conflict",
            Self::DuplicateName => "duplicate-name",
            Self::ShortName => "short-name",
            Self::FloatingTag => "floating-tag",
            Self::StaleLock => "stale-lock",
            Self::UserNamespace => "user-namespace",
            Self::ImageMount => "image-mount",
            Self::PullPolicy => "pull-policy",
            Self::MountPoint => "mount-point",
            Self::StorageConf => "storage-conf",
            Self::BoundstoreMissing => "boundstore-missing",
            Self::BootcTooOld => "bootc-too-old",
        }
    }

    /// How bad its findings are, unless one says less.
    pub const fn severity(self) -> Severity {
        match self {
            Self::DuplicateName => Severity::Note,
            Self::BootcDropIn | Self::ShortName | Self::PullPolicy | Self::BootcTooOld => {
                Severity::Warning
            }
            _ => Severity::Error,
        }
    }

    /// What it finds, in one line.
    pub const fn summary(self) -> &'static str {
        match self {
            Self::Unreadable => "a unit, list or manifest cannot be understood",
            Self::BootcForm => "bootc refuses to upgrade to an image with this",
            Self::BootcDropIn => "a drop-in names another image than bootc sees",
            Self::Conflict => "two entries do not agree",
            Self::DuplicateName => "an image is bound more than once",
            Self::ShortName => "a name has no registry",
            Self::FloatingTag => "a tag can mean another image tomorrow",
            Self::StaleLock => "the lock file does not go with what is bound",
            Self::UserNamespace => "a user namespace cannot map a read-only store",
            Self::ImageMount => "podman mounts no image of a read-only store",
            Self::PullPolicy => "the registry is asked for an image that is there",
            Self::MountPoint => "there is no folder to show the images at",
            Self::StorageConf => "podman is not told where the images are",
            Self::BoundstoreMissing => "nothing on the host brings the images",
            Self::BootcTooOld => "the host's bootc deletes what it does not know",
        }
    }

    /// What to do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Unreadable => {
                "correct it, or take its entry away: no set is made while it is there"
            }
            Self::BootcForm => {
                "bootc takes links named *.image or *.container with a full Image= alone; put every \
                 other form into /usr/lib/boundstore/bound-images.d"
            }
            Self::BootcDropIn => {
                "write the image into the unit itself, or bind it in \
                 /usr/lib/boundstore/bound-images.d, where drop-ins count"
            }
            Self::Conflict => "make both say the same, or take one away",
            Self::DuplicateName => "harmless; one entry is enough",
            Self::ShortName => "write the full name, with its registry",
            Self::FloatingTag => "write NAME@sha256:DIGEST, or lock it with `boundstore lock`",
            Self::StaleLock => "run `boundstore lock` again",
            Self::UserNamespace => {
                "take the mapping away, or with podman 5 set \
                 [Service] Environment=_CONTAINERS_OVERLAY_DISABLE_IDMAP=yes, which copies the image \
                 for each container"
            }
            Self::ImageMount => {
                "run a container of the image and share a volume with it, or use a .volume with \
                 Driver=image"
            }
            Self::PullPolicy => "let it say missing or never: the image is on the host already",
            Self::MountPoint => "RUN mkdir -p /usr/lib/containers/storage",
            Self::StorageConf => {
                "name the store under [storage.options] in a storage.conf that podman reads"
            }
            Self::BoundstoreMissing => "RUN make -C /src/boundstore install PREFIX=/usr",
            Self::BootcTooOld => {
                "upgrade bootc to 1.16.0 or newer, unless no host boots by its composefs backend"
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl FromStr for Rule {
    type Err = NoSuchRule;

    fn from_str(text: &str) -> Result<Self, NoSuchRule> {
        let same = |rule: &Self| rule.id() == text;
        let found = Self::ALL.into_iter().find(same);
        found.ok_or_else(|| NoSuchRule(text.to_owned()))
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = String::deserialize(deserializer)?;
        id.parse().map_err(D::Error::custom)
    }
}
