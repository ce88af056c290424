//! Times, as Go reads them from JSON.

/// The time so many seconds after the beginning of 1970, in UTC.
pub(crate) fn format_rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86400, seconds % 86400);
    // Years from March, so that a leap day is a year's last day.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Whether Go's `time.Time.UnmarshalJSON` takes `text`: strict RFC 3339, with
/// seconds below 60 and any number of digits after the point.
///
/// A time that Go refuses makes the whole of `images.json` unreadable, and
/// with it podman: so this is stricter than RFC 3339 where Go is.
pub(crate) fn is_rfc3339(text: &str) -> bool {
    fn check(text: &[u8]) -> Option<()> {
        let number = |range: std::ops::Range<usize>| -> Option<u32> {
            let digits = text.get(range)?;
            digits.iter().try_fold(0, |number, byte| {
                byte.is_ascii_digit()
                    .then(|| number * 10 + u32::from(byte - b'0'))
            })
        };
        let at = |index: usize, byte: u8| (*text.get(index)? == byte).then_some(());
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        for (index, byte) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
            at(index, byte)?;
        }
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut zone = 19;
        if at(zone, b'.').is_some() {
            let digits = text[20..].iter().take_while(|byte| byte.is_ascii_digit());
            let digits = digits.count();
            if digits == 0 {
                return None;
            }
            zone = 20 + digits;
        }
        match text.get(zone)? {
            b'Z' => (text.len() == zone + 1).then_some(()),
            b'+' | b'-' => {
                at(zone + 3, b':')?;
                let hour = number(zone + 1..zone + 3)?;
                let minute = number(zone + 4..zone + 6)?;
                (text.len() == zone + 6 && hour < 24 && minute < 60).then_some(())
            }
            _ => None,
        }
    }
    check(text.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::{format_rfc3339, is_rfc3339};

    #[test]
    fn seconds_become_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (68_169_599, "1972-02-28T23:59:59Z"),
            (68_169_600, "1972-02-29T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_764_158_400, "2025-11-26T12:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(format_rfc3339(seconds), text);
            assert!(is_rfc3339(text));
        }
    }

    #[test]
    fn takes_what_go_takes() {
        for good in [
            "2024-01-02T03:04:05Z",
            "2024-02-29T23:59:59.123456789Z",
            "0001-01-01T00:00:00Z",
            "2024-01-02T03:04:05.1+23:59",
            "2000-02-29T00:00:00-05:30",
            "1970-01-01T00:00:00.5-00:00",
        ] {
            assert!(is_rfc3339(good), "{good}");
        }
        for bad in [
            "",
            "yesterday",
            "2024-01-02",
            "2024-01-02T03:04:05",
            "2024-01-02T03:04:05z",
            "2024-01-02t03:04:05Z",
            "2024-01-02 03:04:05Z",
            "2024-01-02T3:04:05Z",
            "2024-01-02T03:04:60Z",
            "2024-01-02T03:04:0é",
            "2024-01-02T24:00:00Z",
            "2024-02-30T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-02T03:04:05.Z",
            "2024-01-02T03:04:05,5Z",
            "2024-01-02T03:04:05+24:00",
            "2024-01-02T03:04:05+0200",
            "2024-01-02T03:04:05ZZ",
            "2024-01-02T03:04:05+02:000",
            "+024-01-02T03:04:05Z",
            "２024-01-02T03:04:05Z",
        ] {
            assert!(!is_rfc3339(bad), "{bad}");
        }
    }
}
