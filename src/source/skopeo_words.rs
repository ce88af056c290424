//! Making sense of what skopeo says.

use super::Failing;
use crate::name::{HIDDEN, without_userinfo};

/// What skopeo means: older ones say it in words only, and all say it in Go's
/// English whatever the locale.
pub(super) fn classify(message: &str) -> Failing {
    const MEANINGS: [(Failing, &[&str]); 5] = [
        (
            Failing::Denied,
            &[
                "rejected by policy",
                "Source image rejected",
                "A signature was required",
                "Signature for identity",
                "Signature for digest",
                "None of the signatures were accepted",
                "signature verification failed",
            ],
        ),
        (
            Failing::Corrupt,
            &[
                "corrupted blob",
                "does not match",
                "did not match",
                "Digest mismatch",
            ],
        ),
        (
            Failing::NotFound,
            &[
                "manifest unknown",
                "name unknown",
                "repository name not known",
                "blob unknown",
            ],
        ),
        (
            Failing::Unauthorised,
            &[
                "unauthorized",
                "authentication required",
                "requested access to the resource is denied",
                "invalid username/password",
            ],
        ),
        (
            Failing::Transient,
            &[
                "connection refused",
                "connection reset",
                "no such host",
                "no route to host",
                "network is unreachable",
                "server misbehaving",
                "timeout",
                "deadline exceeded",
                "unexpected EOF",
                ": EOF",
                "broken pipe",
                "toomanyrequests",
                "unexpectedly exited",
            ],
        ),
    ];
    let meaning = MEANINGS
        .iter()
        .find(|(_, words)| words.iter().any(|words| message.contains(words)));
    meaning.map_or_else(|| of_status(message), |(failing, _)| *failing)
}

/// What an HTTP status in the message means. It is a word of its own: digests
/// and ports have the same digits.
fn of_status(message: &str) -> Failing {
    let words = message.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':'));
    for word in words.map(|word| word.trim_end_matches(':')) {
        match word {
            "404" => return Failing::NotFound,
            "401" | "403" => return Failing::Unauthorised,
            "408" | "429" | "500" | "502" | "503" | "504" => return Failing::Transient,
            _ => {}
        }
    }
    Failing::Other
}

/// The longest message that is passed on: registries write into it.
const MESSAGE_LIMIT_CHARS: usize = 2000;

/// `message` without `secrets` and what else may open something: credentials
/// in URLs, their queries (signatures of redirects), tokens. Characters that
/// act on a terminal are replaced; what is too long is cut.
pub(super) fn without_secrets(message: &str, secrets: &[String]) -> String {
    let mut text = message.to_owned();
    for secret in secrets {
        text = text.replace(secret.as_str(), HIDDEN);
    }
    let mut shown = String::new();
    let mut hide_next = false;
    for piece in without_userinfo(&text).split_inclusive([' ', '"', '\'', '\n', '\\']) {
        let word = piece.trim_end_matches([' ', '"', '\'', '\n', '\\']);
        let end = &piece[word.len()..];
        let scheme = ["bearer", "basic"].contains(&word.to_ascii_lowercase().as_str());
        match word {
            // A JSON Web Token, whoever quotes it.
            _ if word.starts_with("eyJ") => shown.push_str(HIDDEN),
            // The key of a reply of a token server.
            ":" | "" => shown.push_str(word),
            _ if hide_next && word != "token:" => shown.push_str(HIDDEN),
            _ => match (word.contains("://"), word.find(['?', '#'])) {
                (true, Some(at)) => {
                    shown.push_str(&word[..=at]);
                    shown.push_str(HIDDEN);
                }
                _ => shown.push_str(word),
            },
        }
        if !matches!(word, ":" | "") {
            hide_next = scheme || ["token", "access_token", "refresh_token"].contains(&word);
        }
        shown.push_str(end);
    }
    let acts = |c: char| c.is_control() && c != '\n' && c != '\t';
    let mut shown = shown.replace(acts, "?");
    if let Some((at, _)) = shown.char_indices().nth(MESSAGE_LIMIT_CHARS) {
        shown.truncate(at);
        shown.push_str(" [cut]");
    }
    shown
}

/// skopeo's message without its log line: `time=".." level=fatal msg=".."`.
pub(super) fn message_of(text: &str) -> String {
    let text = text.trim();
    let quoted = text.rsplit_once("msg=\"").map(|(_, rest)| rest);
    match quoted.and_then(|rest| rest.strip_suffix('"')) {
        Some(message) => message.replace("\\\"", "\""),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden() {
        let secrets = ["dTpwYXNz".to_owned(), "hunter22".to_owned()];
        for (message, shown) in [
            (
                "Get \"https://cdn.test/b?X-Sig=abc&e=1\": EOF",
                "Get \"https://cdn.test/b?***\": EOF",
            ),
            ("in http://u:p@h/v2/: EOF", "in http://***@h/v2/: EOF"),
            (
                "Authorization: Bearer abc.def x",
                "Authorization: Bearer *** x",
            ),
            ("sent dTpwYXNz, hunter22!", "sent ***, ***!"),
            (
                r#"body {"token": "abc", "a": 1}"#,
                r#"body {"token": "***", "a": 1}"#,
            ),
            (
                r#"body "{\"token\":\"abc\"}""#,
                r#"body "{\"token\":\"***\"}""#,
            ),
            ("got eyJhbGciOi.J9.x", "got ***"),
            (
                "Requesting bearer token: 500",
                "Requesting bearer token: 500",
            ),
            ("red \u{1b}[31m", "red ?[31m"),
            ("docker://h/a@sha256:00: 404", "docker://h/a@sha256:00: 404"),
        ] {
            assert_eq!(without_secrets(message, &secrets), shown);
        }
        assert!(without_secrets(&"é".repeat(9000), &[]).ends_with("é [cut]"));
    }

    #[test]
    fn skopeo_is_understood() {
        let log = r#"time="2026-11-23T11:31:29Z" level=fatal msg="Error parsing image name \"docker://x\": reading manifest 1 in x: manifest unknown: manifest unknown""#;
        let message = message_of(log);
        assert!(message.starts_with("Error parsing image name \"docker://x\""));
        for (message, failing) in [
            (message.as_str(), Failing::NotFound),
            (
                "pinging registry: dial tcp 127.0.0.1:5056: connect: connection refused",
                Failing::Transient,
            ),
            (
                "Get \"https://x/v2/\": dial tcp: lookup x: no such host",
                Failing::Transient,
            ),
            (
                "received unexpected HTTP status: 503 Service Unavailable",
                Failing::Transient,
            ),
            (
                "toomanyrequests: You have reached your pull rate limit",
                Failing::Transient,
            ),
            (
                "unable to retrieve auth token: invalid username/password: unauthorized",
                Failing::Unauthorised,
            ),
            (
                "requested access to the resource is denied",
                Failing::Unauthorised,
            ),
            (
                "Source image rejected: Running image docker://x is rejected by policy.",
                Failing::Denied,
            ),
            (
                "A signature was required, but no signature exists",
                Failing::Denied,
            ),
            (
                "cryptographic signature verification failed: invalid signature when validating",
                Failing::Denied,
            ),
            (
                "Signature for digest sha256:00 does not match",
                Failing::Denied,
            ),
            (
                "corrupted blob, expecting sha256:00, got sha256:11",
                Failing::Corrupt,
            ),
            (
                "reading blob sha256:11404503403: connection refused",
                Failing::Transient,
            ),
            ("reading sha256:11404503: odd", Failing::Other),
            ("Get http://h:404/v2/: odd", Failing::Other),
            ("StatusCode: 404, <html>", Failing::NotFound),
            ("invalid status code 403 (Forbidden)", Failing::Unauthorised),
            ("unexpected HTTP status: 500 x", Failing::Transient),
            (
                "http: server gave HTTP response to HTTPS client",
                Failing::Other,
            ),
        ] {
            assert_eq!(classify(message), failing, "{message}");
        }
    }
}
