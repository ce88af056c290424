//! Making sense of what skopeo says.

use super::Failing;

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
                "None of the signatures were accepted",
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
                "404",
            ],
        ),
        (
            Failing::Unauthorised,
            &[
                "unauthorized",
                "authentication required",
                "requested access to the resource is denied",
                "invalid username/password",
                "403",
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
                "429",
                "status 5",
                "500 ",
                "502",
                "503",
                "504",
                "unexpectedly exited",
            ],
        ),
    ];
    let meaning = MEANINGS
        .iter()
        .find(|(_, words)| words.iter().any(|words| message.contains(words)));
    meaning.map_or(Failing::Other, |(failing, _)| *failing)
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
                "corrupted blob, expecting sha256:00, got sha256:11",
                Failing::Corrupt,
            ),
            (
                "http: server gave HTTP response to HTTPS client",
                Failing::Other,
            ),
        ] {
            assert_eq!(classify(message), failing, "{message}");
        }
    }
}
