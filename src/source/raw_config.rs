//! The shape of an image config, as podman (Go) insists on it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// containers/image and podman unmarshal these fields with these types; a
/// config with another type in any of them makes `podman images` fail.
#[derive(Deserialize)]
pub(super) struct RawConfig {
    #[serde(default, deserialize_with = "nullable")]
    pub(super) os: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) variant: Option<String>,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "only its shape matters")]
    author: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "only its shape matters")]
    config: Option<RawRun>,
    pub(super) rootfs: RawRootfs,
    #[serde(default)]
    history: Option<Vec<RawHistory>>,
}

#[derive(Deserialize)]
pub(super) struct RawRootfs {
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) diff_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(dead_code, reason = "only its shape matters")]
struct RawRun {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(default)]
    working_dir: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, Option<String>>>,
    #[serde(default)]
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct RawHistory {
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "only its shape matters")]
    created_by: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "only its shape matters")]
    empty_layer: Option<bool>,
}

impl RawConfig {
    /// Every time in it, with the field it stands in.
    pub(super) fn times(&self) -> impl Iterator<Item = (String, &str)> {
        let history = self.history.iter().flatten().enumerate();
        self.created
            .as_deref()
            .map(|time| ("created".to_owned(), time))
            .into_iter()
            .chain(history.filter_map(|(index, entry)| {
                let time = entry.created.as_deref()?;
                Some((format!("history[{index}].created"), time))
            }))
    }
}

fn nullable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether `text` is a time of RFC 3339 that Go's `time.Time` unmarshals.
pub(super) fn is_time(text: &str) -> bool {
    let number = |range: std::ops::Range<usize>| -> Option<u32> {
        let part = text.get(range)?;
        let digits = part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let bytes = text.as_bytes();
    let (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) = (
        number(0..4),
        number(5..7),
        number(8..10),
        number(11..13),
        number(14..16),
        number(17..19),
    ) else {
        return false;
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    let clock = (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60;
    let rest = &text[19..];
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
        None => rest,
    };
    let at = text.len() - zone.len();
    let zoned = zone == "Z"
        || (zone.len() == 6
            && zone.starts_with(['+', '-'])
            && zone.as_bytes()[3] == b':'
            && number(at + 1..at + 3).is_some_and(|hour| hour < 24)
            && number(at + 4..at + 6).is_some_and(|minute| minute < 60));
    clock && zoned && punctuation.iter().all(|&(at, byte)| bytes[at] == byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_that_go_reads() {
        for good in [
            "2026-01-31T12:00:00Z",
            "2024-02-29T23:59:59.123456789+05:30",
            "0001-01-01T00:00:00Z",
            "1970-01-01T00:00:00.5-00:00",
        ] {
            assert!(is_time(good), "{good}");
        }
        for bad in [
            "",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-01-31 12:00:00Z",
            "2026-13-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:00:60Z",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00+0530",
            "2026-01-31T12:00:00Zx",
            "2026-01-31T12:00:0é",
            "+026-01-31T12:00:00Z",
        ] {
            assert!(!is_time(bad), "{bad}");
        }
    }
}
