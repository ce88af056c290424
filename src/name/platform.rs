//! Platforms, as an image index names them.

use std::{fmt, str::FromStr};

/// An operating system, a CPU architecture and perhaps a variant of it, in
/// Go's words (OCI image spec, image-index.md, `platform`): `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// `linux`; no other runs here, but images of others exist.
    pub os: String,
    /// `amd64`, `arm64`, ..
    pub architecture: String,
    /// `v7`, `v8`, ..
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no platform of the form os/architecture[/variant], like linux/arm64")]
pub struct PlatformError(String);

impl Platform {
    /// The platform this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "x86" => ("386", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Whether an image for `offered` runs where `self` was asked for. A
    /// variant decides only where both name one; arm64 without one is v8.
    pub fn accepts(&self, offered: &Platform) -> bool {
        self.os == offered.os
            && self.architecture == offered.architecture
            && match (&self.variant, &offered.variant) {
                (Some(wanted), Some(offered)) => wanted == offered,
                (None, Some(offered)) if self.architecture == "arm64" => offered == "v8",
                _ => true,
            }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let valid = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture, rest @ ..] if rest.len() <= 1 && parts.iter().all(valid) => {
                Ok(Self {
                    os: (*os).into(),
                    architecture: (*architecture).into(),
                    variant: rest.first().map(|&variant| variant.into()),
                })
            }
            _ => Err(PlatformError(text.into())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_matches() {
        for bad in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux/amd64/v1/x",
            "linux/a b",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        let parse = |text: &str| text.parse::<Platform>().unwrap();
        for (wanted, offered, accepts) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "windows/amd64", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64", "linux/arm64/v9", false),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm/v7", "linux/arm", true),
        ] {
            assert_eq!(
                parse(wanted).accepts(&parse(offered)),
                accepts,
                "{wanted} {offered}"
            );
            assert_eq!(parse(wanted).to_string(), wanted);
        }
    }
}
