//! Files of registry credentials (containers-auth.json(5)).

use std::{
    io,
    path::{Path, PathBuf},
};

use super::SourceError;
use crate::sys::read_regular;

/// The longest file that is read.
const LIMIT_BYTES: u64 = 16 << 20;

/// The first of `files` that holds any credentials.
pub(super) fn choose_auth_file<'a>(
    files: impl Iterator<Item = &'a Path>,
) -> Result<Option<PathBuf>, SourceError> {
    for path in files {
        match read_regular(path, LIMIT_BYTES) {
            Ok(bytes) if has_credentials(&bytes) => return Ok(Some(path.to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
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
