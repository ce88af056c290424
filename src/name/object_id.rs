//! The names of objects in a composefs repository.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;

/// The fs-verity hash algorithm of a repository, 4 KiB blocks, no salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `fsverity-sha256-12`
    Sha256,
    /// `fsverity-sha512-12`, what bootc creates.
    Sha512,
}

impl Algorithm {
    /// The name that `meta.json` uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "fsverity-sha256-12",
            Self::Sha512 => "fsverity-sha512-12",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no fs-verity digest of 64 or 128 lower-case hex digits")]
pub struct ObjectIdError(String);

/// The fs-verity digest of a file: its name below `objects/`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// In a repository of [`Algorithm::Sha256`].
    Sha256([u8; 32]),
    /// In a repository of [`Algorithm::Sha512`].
    Sha512([u8; 64]),
}

impl ObjectId {
    /// Which algorithm made it.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// All hex digits.
    pub fn hex(&self) -> String {
        // Thousands of paths are made of these.
        HEXLOWER.encode(self.as_bytes())
    }

    /// The path below `objects/`: two hex digits, a slash, the rest.
    pub fn object_path(&self) -> String {
        let mut path = self.hex();
        path.insert(2, '/');
        path
    }
}

impl FromStr for ObjectId {
    type Err = ObjectIdError;

    fn from_str(text: &str) -> Result<Self, ObjectIdError> {
        let error = || ObjectIdError(text.to_owned());
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(error());
        }
        let bytes = hex::decode(text).map_err(|_| error())?;
        if let Ok(bytes) = <[u8; 32]>::try_from(bytes.as_slice()) {
            return Ok(Self::Sha256(bytes));
        }
        let bytes = <[u8; 64]>::try_from(bytes.as_slice()).map_err(|_| error())?;
        Ok(Self::Sha512(bytes))
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for ObjectId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ObjectId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_tells_the_algorithm() {
        for (hex, algorithm) in [
            ("ab".repeat(32), Algorithm::Sha256),
            ("0f".repeat(64), Algorithm::Sha512),
        ] {
            let id: ObjectId = hex.parse().unwrap();
            assert_eq!(id.algorithm(), algorithm);
            assert_eq!(id.hex(), hex);
            assert_eq!(id.object_path().replace('/', ""), hex);
        }
        for bad in [
            "",
            "ab",
            &"AB".repeat(32),
            &"zz".repeat(32),
            &"ab".repeat(33),
        ] {
            assert!(bad.parse::<ObjectId>().is_err(), "{bad}");
        }
    }
}
