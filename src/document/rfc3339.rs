//! Times, as Go reads them from JSON.

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
    use super::is_rfc3339;

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
