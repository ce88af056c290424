//! Files of registry credentials (containers-auth.json(5)).

use std::{io::Read, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::SourceError;
use crate::{
    error::{Doing, PathError},
    sys::{MemoryFile, RootDir, open_regular},
};

/// No file of credentials is longer.
const LIMIT_BYTES: u64 = 1 << 20;

/// Where a file of credentials may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFile {
    /// The deployment's root that it is read in: no link leads out of that.
    /// Without one it is the running host's.
    pub root: Option<PathBuf>,
    /// Its path; below the root, where there is one.
    pub path: PathBuf,
}

impl AuthFile {
    /// A file of the running host.
    pub fn of_host(path: impl Into<PathBuf>) -> Self {
        let (root, path) = (None, path.into());
        Self { root, path }
    }

    /// A file of the deployment whose root is `root`.
    pub fn in_root(root: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Self {
        let (root, path) = (Some(root.into()), path.into());
        Self { root, path }
    }

    /// Its bytes; nothing where there is no such file.
    fn read(&self) -> Result<Option<Vec<u8>>, PathError> {
        let (opened, shown) = match &self.root {
            Some(root) => (
                RootDir::open(root)?.open_file(&self.path)?,
                root.join(&self.path),
            ),
            None => match open_regular(&self.path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                opened => (Some(opened?), self.path.clone()),
            },
        };
        let Some((file, _)) = opened else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let mut bounded = file.take(LIMIT_BYTES + 1);
        bounded.read_to_end(&mut bytes).doing("read", &shown)?;
        if bytes.len() as u64 > LIMIT_BYTES {
            let message = format!("expected credentials, found more than {LIMIT_BYTES} bytes");
            return Err(std::io::Error::other(message)).doing("read", &shown);
        }
        Ok(Some(bytes))
    }
}

/// The credentials that skopeo is given: a copy in memory, so that it reads
/// what was looked at here, and that nothing is left behind, however this
/// process ends.
pub(super) struct Credentials {
    file: MemoryFile,
    secrets: Vec<String>,
}

impl Credentials {
    /// The first of `files` that holds any.
    pub(super) fn choose<'a>(
        files: impl Iterator<Item = &'a AuthFile>,
    ) -> Result<Option<Self>, SourceError> {
        for file in files {
            let bytes = file.read()?.filter(|bytes| has_credentials(bytes));
            if let Some(bytes) = bytes {
                let copy = MemoryFile::new("auth.json", &bytes).doing("copy", &file.path)?;
                return Ok(Some(Self {
                    file: copy,
                    secrets: secrets_of(&bytes),
                }));
            }
        }
        Ok(None)
    }

    /// Where skopeo finds them, as long as this lives.
    pub(super) fn path(&self) -> PathBuf {
        self.file.path()
    }

    /// What no message may show.
    pub(super) fn secrets(&self) -> &[String] {
        &self.secrets
    }
}

/// Passwords and tokens of a file of credentials, in every form in which they
/// are sent.
fn secrets_of(bytes: &[u8]) -> Vec<String> {
    let mut secrets = Vec::new();
    let file: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let registries = file["auths"].as_object().into_iter().flatten();
    for (_, entry) in registries {
        for key in ["auth", "password", "identitytoken", "registrytoken"] {
            secrets.extend(entry[key].as_str().map(str::to_owned));
        }
        let decoded = entry["auth"]
            .as_str()
            .and_then(|auth| STANDARD.decode(auth).ok());
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, password)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) {
            secrets.push(password.trim_end_matches('\0').to_owned());
        }
    }
    // Hiding an `a` would hide every message.
    secrets.retain(|secret| secret.len() >= 4);
    // One may be part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

/// Whether a file of credentials has any; what is no JSON object counts as
/// having some, so that skopeo complains about it.
fn has_credentials(bytes: &[u8]) -> bool {
    if bytes.trim_ascii().is_empty() {
        return false;
    }
    match serde_json::from_slice(bytes) {
        Ok(serde_json::Value::Object(fields)) => fields.values().any(|value| match value {
            serde_json::Value::Object(entries) => !entries.is_empty(),
            serde_json::Value::String(text) => !text.is_empty(),
            _ => false,
        }),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_files_have_no_credentials() {
        for (text, has) in [
            ("", false),
            (" \n", false),
            ("{}", false),
            (r#"{"auths":{}}"#, false),
            (r#"{"auths":{},"credHelpers":{}}"#, false),
            (r#"{"auths":{"quay.io":{}}}"#, true),
            (r#"{"credsStore":"secretservice"}"#, true),
            (r#"{"credHelpers":{"quay.io":"x"}}"#, true),
            ("not json", true),
            ("[]", true),
        ] {
            assert_eq!(has_credentials(text.as_bytes()), has, "{text}");
        }
    }

    fn file_with(text: &str) -> (tempfile::TempDir, AuthFile) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/etc/ostree")).unwrap();
        std::fs::write(dir.path().join("host.json"), text).unwrap();
        let file = AuthFile::in_root(dir.path().join("root"), "etc/ostree/auth.json");
        (dir, file)
    }

    const AUTHS: &str = r#"{"auths":{"h":{"auth":"dTpwYXNzLXdvcmQ="}}}"#;

    #[test]
    fn a_link_of_a_root_does_not_lead_out_of_it() {
        let (dir, file) = file_with(AUTHS);
        let place = dir.path().join("root/etc/ostree/auth.json");
        for target in [dir.path().join("host.json"), "../../../host.json".into()] {
            std::os::unix::fs::symlink(&target, &place).unwrap();
            // A path that the running host has, and this root has not.
            assert!(place.exists(), "{target:?}");
            assert_eq!(file.read().unwrap(), None, "{target:?}");
            std::fs::remove_file(&place).unwrap();
        }
        std::fs::write(dir.path().join("root/own.json"), AUTHS).unwrap();
        std::os::unix::fs::symlink("/own.json", &place).unwrap();
        assert_eq!(file.read().unwrap().unwrap(), AUTHS.as_bytes());
    }

    #[test]
    fn only_regular_files_of_a_sensible_size_are_read() {
        let (dir, file) = file_with(AUTHS);
        let place = dir.path().join("root/etc/ostree/auth.json");
        std::fs::create_dir(&place).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("auth.json"), "{error}");
        std::fs::remove_dir(&place).unwrap();
        std::fs::write(&place, vec![b' '; (1 << 20) + 1]).unwrap();
        let error = crate::error::with_causes(&file.read().unwrap_err());
        assert!(error.contains("more than 1048576 bytes"), "{error}");
        let host = AuthFile::of_host("/dev/zero");
        assert!(Credentials::choose([&host].into_iter()).is_err());
    }

    #[test]
    fn skopeo_gets_a_copy_that_is_in_no_folder() {
        let (dir, _) = file_with(AUTHS);
        let host = AuthFile::of_host(dir.path().join("host.json"));
        let none = AuthFile::of_host(dir.path().join("none"));
        let chosen = Credentials::choose([&none, &host].into_iter());
        let chosen = chosen.unwrap().unwrap();
        std::fs::write(dir.path().join("host.json"), "{}").unwrap();
        assert_eq!(std::fs::read_to_string(chosen.path()).unwrap(), AUTHS);
        let path = chosen.path();
        drop(chosen);
        assert!(!std::fs::read_to_string(path).is_ok_and(|text| text == AUTHS));
    }

    #[test]
    fn every_form_of_a_password_is_a_secret() {
        let secrets = secrets_of(AUTHS.as_bytes());
        assert_eq!(secrets, ["dTpwYXNzLXdvcmQ=", "pass-word"]);
        assert!(secrets_of(b"not json").is_empty());
    }
}
