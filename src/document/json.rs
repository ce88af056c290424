//! JSON as Go's decoder sees it, as long as there is one way to see it.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{DOCUMENT_LIMIT_BYTES, DocumentError, Shape};

/// A JSON value in which no object has one key twice.
pub(crate) enum Json<'a> {
    Null,
    Flag,
    Integer(i64),
    Fraction,
    /// Borrowed where it is written without escapes.
    Text(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<(String, Json<'a>)>),
}

/// Whether Go takes `key` for the field `name` (encoding/json, `foldName`).
pub(super) fn is_key_of(key: &str, name: &str) -> bool {
    // Beside ASCII's own, two other letters fold to ASCII.
    let mut key = key.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    });
    name.chars()
        .all(|c| key.next() == Some(c.to_ascii_lowercase()))
        && key.next().is_none()
}

impl<'a> Json<'a> {
    /// Reads a document, bounded, of one reading and of the shape given.
    pub(crate) fn read(bytes: &'a [u8], shape: &Shape) -> Result<Self, DocumentError> {
        let found = bytes.len() as u64;
        if found > DOCUMENT_LIMIT_BYTES {
            return Err(DocumentError::TooLong { found });
        }
        let json = serde_json::from_slice(bytes)?;
        shape.check_document(&json)?;
        Ok(json)
    }

    /// The value of a field that the shape has; `null` where it is absent.
    pub(crate) fn get(&self, name: &str) -> &Self {
        let mut members = self.members().iter();
        members
            .find(|(key, _)| is_key_of(key, name))
            .map_or(&Json::Null, |(_, value)| value)
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Empty for all but a string, as Go leaves it.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }

    pub(super) fn members(&self) -> &[(String, Self)] {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Json::Flag)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Json::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        // Go's integers here are int64.
        Ok(i64::try_from(number).map_or(Json::Fraction, Json::Integer))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Json::Fraction)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        array.shrink_to_fit();
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut object: Vec<(String, Json<'_>)> = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        object.shrink_to_fit();
        let mut keys: Vec<&str> = object.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(A::Error::custom(format_args!(
                "key {:?} is there twice",
                pair[0]
            ))),
            None => Ok(Json::Object(object)),
        }
    }
}
