//! Text without the credentials that were written into it.

/// What stands for what is not shown.
pub const HIDDEN: &str = "***";

/// `text` without the `user:password@` of a registry's address, which people
/// write into names and URLs.
///
/// The at sign of `name@sha256:..` is no such thing, and neither is one behind
/// the first slash of an address.
pub fn without_userinfo(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (scheme, address) = rest.split_at(at + 3);
        match shown.is_empty() {
            true => shown.push_str(&bare(scheme)),
            false => shown.push_str(scheme),
        }
        let end = address.find(|c: char| "/\"' \n\t".contains(c));
        let (authority, after) = address.split_at(end.unwrap_or(address.len()));
        shown.push_str(&hidden_before_at(authority));
        rest = after;
    }
    match shown.is_empty() {
        true => bare(rest),
        false => shown + rest,
    }
}

/// The first component of a bare name is its address.
fn bare(text: &str) -> String {
    let (authority, after) = text.split_at(text.find('/').unwrap_or(text.len()));
    hidden_before_at(authority) + after
}

fn hidden_before_at(authority: &str) -> String {
    match authority.rsplit_once('@') {
        Some((_, host)) if !host.starts_with("sha256:") => format!("{HIDDEN}@{host}"),
        _ => authority.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userinfo_is_hidden_and_digests_are_not() {
        for (text, shown) in [
            (
                "docker://u:p@host:5000/app:1",
                "docker://***@host:5000/app:1",
            ),
            ("u:p@host/app", "***@host/app"),
            ("u:p@h/app=docker://u:p@h/a", "***@h/app=docker://***@h/a"),
            (
                "a https://u:p@w@h/x, http://t@h",
                "a https://***@h/x, http://***@h",
            ),
            ("docker://h/app@sha256:00", "docker://h/app@sha256:00"),
            ("app@sha256:00", "app@sha256:00"),
            ("docker://app@sha256:00", "docker://app@sha256:00"),
            ("host/app", "host/app"),
        ] {
            assert_eq!(without_userinfo(text), shown, "{text}");
        }
    }
}
