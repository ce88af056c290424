//! The types that Go decodes documents into.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    DocumentError,
    json::{Json, is_key_of},
    rfc3339::is_rfc3339,
};

/// The type that Go decodes a value into; `null` fits all of them.
pub(crate) enum Shape {
    Any,
    Text,
    Flag,
    Integer,
    Time,
    /// Bytes, in base64.
    Bytes,
    List(&'static Shape),
    /// Its keys are data: they are compared exactly.
    Map(&'static Shape),
    /// Its keys are fields; others do not matter.
    Record(&'static [(&'static str, Shape)]),
}

use Shape::{Any, Bytes, Flag, Integer, List, Map, Record, Text, Time};

/// A config: OCI's `Image` and docker's `Schema2V1Image` together, for podman
/// decodes it into both.
pub(super) const CONFIG: Shape = Record(&[
    ("created", Time),
    ("author", Text),
    ("architecture", Text),
    ("variant", Text),
    ("os", Text),
    ("os.version", Text),
    ("os.features", List(&Text)),
    ("config", CONTAINER),
    ("container_config", CONTAINER),
    (
        "rootfs",
        Record(&[("type", Text), ("diff_ids", List(&Text))]),
    ),
    (
        "history",
        List(&Record(&[
            ("created", Time),
            ("author", Text),
            ("created_by", Text),
            ("comment", Text),
            ("empty_layer", Flag),
        ])),
    ),
    ("id", Text),
    ("parent", Text),
    ("comment", Text),
    ("container", Text),
    ("docker_version", Text),
    ("size", Integer),
]);

const CONTAINER: Shape = Record(&[
    ("Hostname", Text),
    ("Domainname", Text),
    ("User", Text),
    ("AttachStdin", Flag),
    ("AttachStdout", Flag),
    ("AttachStderr", Flag),
    ("ExposedPorts", Map(&Record(&[]))),
    ("Tty", Flag),
    ("OpenStdin", Flag),
    ("StdinOnce", Flag),
    ("Env", List(&Text)),
    ("Cmd", List(&Text)),
    (
        "Healthcheck",
        Record(&[
            ("Test", List(&Text)),
            ("StartPeriod", Integer),
            ("StartInterval", Integer),
            ("Interval", Integer),
            ("Timeout", Integer),
            ("Retries", Integer),
        ]),
    ),
    ("ArgsEscaped", Flag),
    ("Image", Text),
    ("Volumes", Map(&Record(&[]))),
    ("WorkingDir", Text),
    ("Entrypoint", List(&Text)),
    ("NetworkDisabled", Flag),
    ("MacAddress", Text),
    ("OnBuild", List(&Text)),
    ("Labels", Map(&Text)),
    ("StopSignal", Text),
    ("StopTimeout", Integer),
    ("Shell", List(&Text)),
]);

const DESCRIPTOR: Shape = Record(&[
    ("mediaType", Text),
    ("digest", Text),
    ("size", Integer),
    ("urls", List(&Text)),
    ("annotations", Map(&Text)),
    ("data", Bytes),
    ("artifactType", Text),
    (
        "platform",
        Record(&[
            ("architecture", Text),
            ("os", Text),
            ("os.version", Text),
            ("os.features", List(&Text)),
            ("variant", Text),
            ("features", List(&Text)),
        ]),
    ),
]);

/// A manifest or an index: which of the two, its fields must say.
pub(super) const MANIFEST_OR_INDEX: Shape = Record(&[
    ("schemaVersion", Integer),
    ("mediaType", Text),
    ("artifactType", Text),
    ("config", DESCRIPTOR),
    ("layers", List(&DESCRIPTOR)),
    ("manifests", List(&DESCRIPTOR)),
    ("subject", DESCRIPTOR),
    ("annotations", Map(&Text)),
    ("fsLayers", Any),
    ("history", Any),
]);

impl Shape {
    /// Checks that Go can decode `json`, and that no two of its keys stand for
    /// one field.
    pub(super) fn check_document(&self, json: &Json<'_>) -> Result<(), DocumentError> {
        match json {
            // Go decodes it, and leaves a document that says nothing.
            Json::Null => Err(self.misfit()),
            _ => self.check(json),
        }
    }

    /// Recursion ends with the shape, four levels down.
    fn check(&self, json: &Json<'_>) -> Result<(), DocumentError> {
        match (self, json) {
            (Any, _)
            | (_, Json::Null)
            | (Text, Json::Text(_))
            | (Flag, Json::Flag)
            | (Integer, Json::Integer(_)) => Ok(()),
            // Go takes a time's text as it is written, escapes and all.
            (Time, Json::Text(Cow::Borrowed(text))) if is_rfc3339(text) => Ok(()),
            (Time, Json::Text(Cow::Owned(text))) if is_rfc3339(text) => Err(self.misfit()),
            // Go takes a little more: line breaks, stray last bits.
            (Bytes, Json::Text(text)) if STANDARD.decode(text.as_bytes()).is_ok() => Ok(()),
            (Time, Json::Text(text)) => Err(DocumentError::Time {
                field: String::new(),
                found: text.to_string(),
            }),
            (List(shape), Json::Array(items)) => {
                items.iter().enumerate().try_for_each(|(index, item)| {
                    let at = |error| below(error, &format!("[{index}]"));
                    shape.check(item).map_err(at)
                })
            }
            (Map(shape), Json::Object(members)) => members.iter().try_for_each(|(key, value)| {
                let at = |error| below(error, &key.escape_debug().to_string());
                shape.check(value).map_err(at)
            }),
            (Record(fields), Json::Object(members)) => {
                let mut spelt: Vec<Option<&str>> = vec![None; fields.len()];
                members.iter().try_for_each(|(key, value)| {
                    let Some(at) = fields.iter().position(|(name, _)| is_key_of(key, name)) else {
                        return Ok(());
                    };
                    let (name, shape) = &fields[at];
                    if let Some(first) = spelt[at].replace(key) {
                        return Err(DocumentError::Twice {
                            field: (*name).to_owned(),
                            first: first.to_owned(),
                            second: key.clone(),
                        });
                    }
                    shape.check(value).map_err(|error| below(error, name))
                })
            }
            _ => Err(self.misfit()),
        }
    }

    fn misfit(&self) -> DocumentError {
        let expected = match self {
            Any => "anything",
            Text => "a string",
            Flag => "true or false",
            Integer => "a whole number",
            Time => "a time that is written without escapes",
            Bytes => "base64",
            List(_) => "an array",
            Map(_) | Record(_) => "an object",
        };
        DocumentError::Type {
            field: String::new(),
            expected,
        }
    }
}

/// The same error, seen from the value that has the faulty one at `key`.
fn below(mut error: DocumentError, key: &str) -> DocumentError {
    if let DocumentError::Type { field, .. }
    | DocumentError::Time { field, .. }
    | DocumentError::Twice { field, .. } = &mut error
    {
        let dot = if field.is_empty() || field.starts_with('[') {
            ""
        } else {
            "."
        };
        field.insert_str(0, dot);
        field.insert_str(0, key);
    }
    error
}
