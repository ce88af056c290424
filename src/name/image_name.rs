//! Image names, normalised.

use std::{fmt, str::FromStr};

use super::{Digest, digest::kind};

/// A fully qualified image name: `host/repository:tag`, `host/repository@sha256:..`.
///
/// With both a tag and a digest the tag is dropped, as podman does: the digest
/// decides. The grammar is that of docker's reference package: lower-case
/// repository, tag of at most 128 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    repository: String,
    pin: Pin,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Pin {
    Tag(String),
    Digest(Digest<kind::Manifest>),
}

/// A name as it was made full, and whether it was short to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalisedName {
    /// The full name.
    pub name: ImageName,
    /// The host was missing, so `docker.io` was assumed: worth a warning.
    pub was_short: bool,
}

/// Why a text is no image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no image name: {reason}")]
pub struct ImageNameError {
    text: String,
    reason: &'static str,
}

impl ImageName {
    /// Parses and completes a name: `alpine` is `docker.io/library/alpine:latest`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn normalise(text: &str) -> Result<NormalisedName, ImageNameError> {
        let fail = |reason| ImageNameError {
            text: text.to_owned(),
            reason,
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|_| fail("what follows @ is no sha256 digest"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(fail("the tag is not 1 to 128 of [A-Za-z0-9_.-]"));
        }
        let (host, path) = match path.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
                (Some(host), path)
            }
            _ => (None, path),
        };
        if !host.is_none_or(is_host) {
            return Err(fail("the registry host is malformed"));
        }
        if path.is_empty() || !path.split('/').all(is_path_component) {
            return Err(fail(
                "the repository must be lower-case names joined by slashes",
            ));
        }
        let was_short = host.is_none();
        let host = match host {
            None | Some("index.docker.io") => "docker.io",
            Some(host) => host,
        };
        let library = if host == "docker.io" && !path.contains('/') {
            "library/"
        } else {
            ""
        };
        let repository = format!("{host}/{library}{path}");
        if repository.len() > 255 {
            return Err(fail("it is longer than 255 characters"));
        }
        let pin = match digest {
            Some(digest) => Pin::Digest(digest),
            None => Pin::Tag(tag.unwrap_or("latest").to_owned()),
        };
        Ok(NormalisedName {
            name: Self { repository, pin },
            was_short,
        })
    }

    /// `host/path`, without tag and digest.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, where the name has one.
    pub fn tag(&self) -> Option<&str> {
        match &self.pin {
            Pin::Tag(tag) => Some(tag),
            Pin::Digest(_) => None,
        }
    }

    /// The digest that pins the name: of a manifest or of an index, which of
    /// the two only the bytes can tell.
    pub fn pinned(&self) -> Option<Digest<kind::Manifest>> {
        match &self.pin {
            Pin::Tag(_) => None,
            Pin::Digest(digest) => Some(*digest),
        }
    }
}

fn is_tag(text: &str) -> bool {
    let mut bytes = text.bytes();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && bytes.next().is_some_and(word)
        && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !text.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let port = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let v6 = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .is_some_and(|name| name.parse::<std::net::Ipv6Addr>().is_ok());
    port && (v6 || name.split('.').all(label))
}

fn is_path_component(text: &str) -> bool {
    // alpha-numeric runs, joined by one of `.`, `_`, `__` or any number of `-`
    let alnum = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().next().is_some_and(alnum)
        && text.bytes().last().is_some_and(alnum)
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|sep| matches!(sep, "" | "." | "_" | "__") || sep.bytes().all(|b| b == b'-'))
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        Self::normalise(text).map(|normalised| normalised.name)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pin {
            Pin::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            Pin::Digest(digest) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

impl fmt::Debug for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for ImageName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ImageName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
