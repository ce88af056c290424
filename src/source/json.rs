//! JSON that every reader reads alike.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Objects whose keys are data: a label may be there in two spellings.
const KEYS_ARE_DATA: [&str; 5] = [
    "labels",
    "annotations",
    "exposedports",
    "volumes",
    "digests",
];

/// Refuses JSON in which one object names a key twice, in any spelling.
///
/// Go (podman, skopeo) takes the last of two equal keys and compares without
/// regard to case, Rust compares exactly: a document with `layers` and `Layers`
/// would be one image here and another there.
///
/// # Errors
/// What is no JSON, or the key that is there twice.
pub(super) fn refuse_ambiguous(bytes: &[u8]) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    Unambiguous { folded: true }.deserialize(&mut json)?;
    json.end()
}

#[derive(Clone, Copy)]
struct Unambiguous {
    folded: bool,
}

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq
            .next_element_seed(Unambiguous { folded: true })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let folded = fold(&key);
            let data = KEYS_ARE_DATA.contains(&folded.as_str());
            let compared = if self.folded { folded } else { key.clone() };
            if !seen.insert(compared) {
                return Err(A::Error::custom(format_args!("key {key:?} is there twice")));
            }
            map.next_value_seed(Unambiguous { folded: !data })?;
        }
        Ok(())
    }
}

/// Go's folding (encoding/json, `foldName`): ASCII, and the two other letters
/// whose simple folding is ASCII.
fn fold(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_only() {
        for good in [
            r#"{"a":1,"b":{"a":null,"b":[true,-1,1.5,"x"]}}"#,
            r#"{"config":{"Labels":{"x":"1","X":"2"}}}"#,
            r#"[{"a":1},{"a":1}]"#,
        ] {
            refuse_ambiguous(good.as_bytes()).unwrap();
        }
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"layers":[],"Layers":[]}"#,
            "{\"layers\":[],\"layer\u{17f}\":[]}",
            r#"{"x":[{"size":1,"SIZE":2}]}"#,
            r#"{"Labels":{"x":"1","x":"2"}}"#,
            r#"{"Labels":{"x":{"y":1,"Y":1}}}"#,
            r#"{} {}"#,
            "",
        ] {
            assert!(refuse_ambiguous(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(refuse_ambiguous("[".repeat(100_000).as_bytes()).is_err());
    }
}
