//! Files of registry credentials (containers-auth.json(5)).

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::SourceError;
use crate::{
    error::{Doing, PathError},
    sys,
};

/// Hosts that log in to hundreds of registries have some hundred kilobytes.
const MAX_BYTES: u64 = 1 << 20;

/// The first of `files` that holds any credentials.
pub(super) fn choose_auth_file<'a>(
    files: impl Iterator<Item = &'a Path>,
) -> Result<Option<PathBuf>, SourceError> {
    for path in files {
        match read(path) {
            Ok(bytes) if has_credentials(&bytes) => return Ok(Some(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Vec<u8>, PathError> {
    let (file, size) = sys::open_regular(path)?;
    if size > MAX_BYTES {
        let message = format!("expected at most {MAX_BYTES} bytes, found {size}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message)).doing("read", path);
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .doing("read", path)?;
    Ok(bytes)
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
}
