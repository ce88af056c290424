//! SHA-256 digests, one type per meaning.

use std::{fmt, hash::Hash, marker::PhantomData, str::FromStr};

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest of one kind of thing; `K` says which.
///
/// Written `sha256:<64 lower-case hex digits>`, the only form that is read too
/// (OCI image spec, descriptor.md, "Digests"). Other algorithms are refused:
/// containers-storage itself knows no other.
pub struct Digest<K> {
    bytes: [u8; 32],
    kind: PhantomData<fn() -> K>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $alias:ident = $kind:ident;)*) => {
        /// Markers for [`Digest`](super::Digest).
        #[allow(missing_docs)]
        pub mod kind {
            $(#[derive(Debug, Clone, Copy)] pub enum $kind {})*
        }
        $($(#[$doc])* pub type $alias = Digest<kind::$kind>;)*
    };
}

kinds! {
    /// Of an image manifest, as the registry serves it.
    ManifestDigest = Manifest;
    /// Of an image index (manifest list).
    IndexDigest = Index;
    /// Of an image config; its hex is the containers-storage image ID.
    ConfigDigest = Config;
    /// Of a blob as stored and sent: a config, or a layer, mostly compressed.
    BlobDigest = Blob;
    /// Of one *uncompressed* layer tar (OCI image spec, config.md).
    DiffId = Diff;
}

/// A text that is no SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no digest of the form sha256:<64 lower-case hex digits>")]
pub struct DigestError(String);

impl<K> Digest<K> {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_bytes(Sha256::digest(bytes).into())
    }

    /// Takes over a digest that was computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self {
            bytes,
            kind: PhantomData,
        }
    }

    /// Parses 64 lower-case hex digits without the `sha256:` prefix.
    ///
    /// # Errors
    /// The text, if it is anything else.
    pub fn from_hex(text: &str) -> Result<Self, DigestError> {
        let mut bytes = [0; 32];
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if lower => Ok(Self::from_bytes(bytes)),
            _ => Err(DigestError(text.to_owned())),
        }
    }

    /// The 64 hex digits, without the `sha256:` prefix.
    pub fn hex(&self) -> String {
        hex::encode(self.bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The same bytes under another meaning, where one thing is both: a config
    /// is a blob, and so is a manifest.
    pub const fn cast<L>(&self) -> Digest<L> {
        Digest::from_bytes(self.bytes)
    }
}

impl<K> FromStr for Digest<K> {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = text
            .strip_prefix("sha256:")
            .ok_or_else(|| DigestError(text.to_owned()))?;
        Self::from_hex(hex).map_err(|_| DigestError(text.to_owned()))
    }
}

impl<K> fmt::Display for Digest<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl<K> fmt::Debug for Digest<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K> Clone for Digest<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Digest<K> {}
impl<K> PartialEq for Digest<K> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
impl<K> Eq for Digest<K> {}
impl<K> PartialOrd for Digest<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Digest<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.bytes.cmp(&other.bytes)
    }
}
impl<K> Hash for Digest<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl<K> serde::Serialize for Digest<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K> serde::Deserialize<'de> for Digest<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a [`Digest`] piece by piece and counts the bytes.
#[derive(Clone, Default)]
pub struct Hasher {
    state: Sha256,
    length: u64,
}

impl Hasher {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// How many bytes were added.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The digest of all bytes added.
    pub fn finish<K>(self) -> Digest<K> {
        Digest::from_bytes(self.state.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn one_text_per_digest() {
        assert_eq!(DiffId::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<DiffId>().unwrap(), DiffId::of(b""));
        for bad in [
            "",
            "sha256:",
            &EMPTY[7..],
            &EMPTY.to_uppercase(),
            &EMPTY.replace("e3b0", "E3B0"),
            &EMPTY[..70],
            &format!("{EMPTY}0"),
            &EMPTY.replace("sha256", "sha512"),
            &format!(" {EMPTY}"),
        ] {
            let error = bad.parse::<DiffId>().unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }

    #[test]
    fn hasher_counts_and_agrees() {
        let mut hasher = Hasher::default();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.length(), 3);
        assert_eq!(hasher.finish::<kind::Blob>(), BlobDigest::of(b"abc"));
    }
}
