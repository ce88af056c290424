//! Image names, normalised.

use std::{fmt, str::FromStr};

use super::{Digest, digest::kind};

/// A fully qualified image name: `host/repository:tag`, `host/repository@sha256:..`.
///
/// With both a tag and a digest the tag is dropped, as podman does: the digest
/// decides. The grammar is that of docker's reference package (regexp.go and
/// normalize.go of distribution/reference, which podman uses): lower-case
/// repository, tag of at most 128 characters. Refused beyond it: a host with an
/// underscore, which that package takes for no host at all; an image ID
/// (`sha256:..`); host and path of more than 255 characters together, as older
/// versions of it do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    repository: String,
    pin: Pin,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Pin {
    Tag(String),
    Digest(Digest<kind::Manifest>),
}

/// A name as it was made full, and whether it was short to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalisedName {
    /// The full name.
    pub name: ImageName,
    /// The host was missing, so `docker.io` was assumed: worth a warning.
    pub was_short: bool,
}

/// Why a text is no image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no image name: {reason}")]
pub struct ImageNameError {
    text: String,
    reason: &'static str,
}

impl ImageName {
    /// Parses and completes a name: `alpine` is `docker.io/library/alpine:latest`.
    ///
    /// What is before the first slash is a host if it has a dot, a colon or an
    /// upper-case letter, or is `localhost`.
    ///
    /// # Errors
    /// What is wrong with the text, which may be anything. A name that comes out
    /// is printable ASCII, and its repository has neither `..` nor a leading
    /// slash; a tag can hold `..`.
    pub fn normalise(text: &str) -> Result<NormalisedName, ImageNameError> {
        let fail = |reason| ImageNameError {
            text: super::without_userinfo(text),
            reason,
        };
        if is_image_id(text) {
            return Err(fail("it is the ID of an image"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|_| fail("what follows @ is no sha256 digest"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(fail("the tag is not 1 to 128 of [A-Za-z0-9_.-]"));
        }
        let (host, path) = match path.split_once('/') {
            Some((host, path)) if looks_like_host(host) => (Some(host), path),
            _ => (None, path),
        };
        if !host.is_none_or(is_host) {
            return Err(fail("the registry host is malformed"));
        }
        if path.is_empty() || !path.split('/').all(is_path_component) {
            return Err(fail(
                "the repository must be lower-case names joined by slashes",
            ));
        }
        let was_short = host.is_none();
        let host = match host {
            None | Some("index.docker.io") => "docker.io",
            Some(host) => host,
        };
        let library = if host == "docker.io" && !path.contains('/') {
            "library/"
        } else {
            ""
        };
        let repository = format!("{host}/{library}{path}");
        if repository.len() > 255 {
            return Err(fail("host and repository are longer than 255 characters"));
        }
        let pin = match digest {
            Some(digest) => Pin::Digest(digest),
            None => Pin::Tag(tag.unwrap_or("latest").to_owned()),
        };
        Ok(NormalisedName {
            name: Self { repository, pin },
            was_short,
        })
    }

    /// `host/path`, without tag and digest.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, where the name has one.
    pub fn tag(&self) -> Option<&str> {
        match &self.pin {
            Pin::Tag(tag) => Some(tag),
            Pin::Digest(_) => None,
        }
    }

    /// The digest that pins the name: of a manifest or of an index, which of
    /// the two only the bytes can tell.
    pub fn pinned(&self) -> Option<Digest<kind::Manifest>> {
        match &self.pin {
            Pin::Tag(_) => None,
            Pin::Digest(digest) => Some(*digest),
        }
    }
}

/// 64 hex digits are no name (`anchoredIdentifierRegexp`). With `sha256:` in
/// front they would be a repository `sha256` with an odd tag; podman takes both
/// for the ID of an image.
fn is_image_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    hex.len() == 64 && hex.bytes().all(digit)
}

/// `splitDockerDomain` of normalize.go.
fn looks_like_host(text: &str) -> bool {
    text.contains(['.', ':'])
        || text == "localhost"
        || text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_tag(text: &str) -> bool {
    let mut bytes = text.bytes();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && bytes.next().is_some_and(word)
        && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !text.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let port = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let v6 = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .is_some_and(|name| {
            // Neither zones nor IPv4 in IPv6: docker's grammar has none.
            let part = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
            !name.is_empty() && name.bytes().all(part)
        });
    port && (v6 || name.split('.').all(label))
}

fn is_path_component(text: &str) -> bool {
    // alpha-numeric runs, joined by one of `.`, `_`, `__` or any number of `-`
    let alnum = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().next().is_some_and(alnum)
        && text.bytes().last().is_some_and(alnum)
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|sep| matches!(sep, "" | "." | "_" | "__") || sep.bytes().all(|b| b == b'-'))
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        Self::normalise(text).map(|normalised| normalised.name)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pin {
            Pin::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            Pin::Digest(digest) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

impl fmt::Debug for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for ImageName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ImageName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "dbcc1c35ac38df41fd2f5e4130b32ffdb93ebae8b3dbe638c23575912276fc9c";

    fn full(text: &str) -> (String, bool) {
        let NormalisedName { name, was_short } = ImageName::normalise(text).unwrap();
        (name.to_string(), was_short)
    }

    #[test]
    fn short_names_are_completed() {
        for (text, name) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("org/app", "docker.io/org/app:latest"),
            ("library/foo/bar:1", "docker.io/library/foo/bar:1"),
            ("docker/migrator", "docker.io/docker/migrator:latest"),
            // no host without a slash
            ("test.com:tag", "docker.io/library/test.com:tag"),
            ("test.com:5000", "docker.io/library/test.com:5000"),
            ("192.168.0.1:80", "docker.io/library/192.168.0.1:80"),
            ("localhost", "docker.io/library/localhost:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000"),
            (
                "lowercase:Uppercase",
                "docker.io/library/lowercase:Uppercase",
            ),
            ("foo_bar.com:8080", "docker.io/library/foo_bar.com:8080"),
            ("test_com/foo", "docker.io/test_com/foo:latest"),
            ("dock__er/a---b.c_d", "docker.io/dock__er/a---b.c_d:latest"),
            ("d/t", "docker.io/d/t:latest"),
            (
                &HEX[1..],
                &format!("docker.io/library/{}:latest", &HEX[1..]),
            ),
        ] {
            assert_eq!(full(text), (name.to_owned(), true), "{text}");
        }
    }

    #[test]
    fn full_names_are_kept() {
        for (text, name) in [
            ("quay.io/a/b", "quay.io/a/b:latest"),
            ("quay.io/a/b:1", "quay.io/a/b:1"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x:5050", "localhost:5000/x:5050"),
            ("test:5000/repo", "test:5000/repo:latest"),
            ("LOCALHOST/x", "LOCALHOST/x:latest"),
            ("Foo/bar", "Foo/bar:latest"),
            ("EXAMPLE.com/x", "EXAMPLE.com/x:latest"),
            ("docker.io/foo", "docker.io/library/foo:latest"),
            ("docker.io/library/foo", "docker.io/library/foo:latest"),
            ("docker.io/foo/bar", "docker.io/foo/bar:latest"),
            ("index.docker.io/foo", "docker.io/library/foo:latest"),
            ("index.docker.io/foo/bar:1", "docker.io/foo/bar:1"),
            ("192.168.1.1:5000/repo:5050", "192.168.1.1:5000/repo:5050"),
            ("[2001:db8::1]/repo", "[2001:db8::1]/repo:latest"),
            ("[2001:DB8::1]:5000/a/b:t", "[2001:DB8::1]:5000/a/b:t"),
            ("[::1]:5000/repo", "[::1]:5000/repo:latest"),
            ("xn--n3h.com:18080/foo", "xn--n3h.com:18080/foo:latest"),
            (
                "sub-dom1.foo.com/bar/baz",
                "sub-dom1.foo.com/bar/baz:latest",
            ),
            (
                "a.b/test.example.com/x:test.example.com",
                "a.b/test.example.com/x:test.example.com",
            ),
        ] {
            assert_eq!(full(text), (name.to_owned(), false), "{text}");
        }
        let id = format!("docker.io/{HEX}");
        assert_eq!(full(&id).0, format!("docker.io/library/{HEX}:latest"));
    }

    #[test]
    fn a_digest_takes_the_place_of_the_tag() {
        for (text, repository) in [
            ("quay.io/a/b:1", "quay.io/a/b"),
            ("quay.io/a/b", "quay.io/a/b"),
            ("test:5000/repo:tag", "test:5000/repo"),
            ("busybox:latest", "docker.io/library/busybox"),
        ] {
            let text = format!("{text}@sha256:{HEX}");
            let name: ImageName = text.parse().unwrap();
            assert_eq!(name.to_string(), format!("{repository}@sha256:{HEX}"));
            assert_eq!(name.repository(), repository);
            assert_eq!(name.tag(), None);
            assert_eq!(name.pinned().unwrap().hex(), HEX);
        }
        let name: ImageName = "quay.io/a/b:1".parse().unwrap();
        assert_eq!((name.tag(), name.pinned()), (Some("1"), None));
        // The tag must be one all the same.
        assert!(
            format!("quay.io/a:-@sha256:{HEX}")
                .parse::<ImageName>()
                .is_err()
        );
    }

    #[test]
    fn what_is_no_name() {
        for (text, reason) in [
            ("", "repository"),
            (":justtag", "repository"),
            ("/", "repository"),
            ("/a", "repository"),
            ("a/", "repository"),
            ("quay.io/", "repository"),
            ("quay.io//a", "repository"),
            ("docker///docker", "repository"),
            ("Uppercase:tag", "repository"),
            ("docker/Docker", "repository"),
            ("test:5000/Uppercase/lowercase:tag", "repository"),
            ("-docker", "repository"),
            ("docker-/docker", "repository"),
            ("____/____", "repository"),
            ("_docker/_docker", "repository"),
            ("quay.io/a___b", "repository"),
            ("quay.io/dock..er", "repository"),
            ("quay.io/dock_.er", "repository"),
            ("quay.io/dock-.er", "repository"),
            ("quay.io/../a", "repository"),
            ("aa/asdf$$^/aa", "repository"),
            ("a:b:c", "repository"),
            ("quay.io/é", "repository"),
            (" quay.io/a", "host"),
            ("quay.io/a ", "repository"),
            ("quay.io/a\n", "repository"),
            ("quay.io/a:", "tag"),
            ("quay.io/a:-t", "tag"),
            ("quay.io/a:.t", "tag"),
            ("quay.io/a:t t", "tag"),
            ("quay.io/a:t\n", "tag"),
            ("[2001:db8::1]", "tag"),
            ("[2001:db8::1]:5000", "repository"),
            ("[2001:db8::1]:tag", "repository"),
            ("https://github.com/docker/docker", "host"),
            ("-docker.io/docker/docker", "host"),
            ("docker-.io/docker", "host"),
            ("quay..io/a", "host"),
            (".io/a", "host"),
            ("quay.io:/a", "host"),
            ("quay.io:80x/a", "host"),
            ("quay.io:-1/a", "host"),
            ("foo_bar.com/a", "host"),
            ("fc00::1:5000/debian", "host"),
            ("[]/a", "repository"),
            ("[a]/a", "repository"),
            ("[]:1/a", "host"),
            ("[fe80::1%eth0]:5000/debian", "host"),
            ("[2001:db8:3:4::192.0.2.33]:5000/debian", "host"),
            ("[::1]x:5000/a", "host"),
            ("[::1]5000/a", "host"),
            ("quay.io/a@", "sha256"),
            ("quay.io/a@latest", "sha256"),
            ("quay.io/a@sha256:ffff", "sha256"),
            (HEX, "ID"),
            (&format!("sha256:{HEX}"), "ID"),
            (&format!("@sha256:{HEX}"), "repository"),
            (
                &format!("quay.io/a@sha256:{}", HEX.to_uppercase()),
                "sha256",
            ),
            (&format!("quay.io/a@sha512:{HEX}{HEX}"), "sha256"),
            (&format!("quay.io/a@sha256:{HEX}:tag"), "sha256"),
            (&format!("quay.io/a@sha256:{HEX}@sha256:{HEX}"), "sha256"),
        ] {
            let error = ImageName::normalise(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
            assert!(error.contains(reason), "{reason}: {error}");
        }
        // What stands before an @ may be a password.
        let error = ImageName::normalise("[fe80::1%@invalidzone]:5000/repo").unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("sha256") && !error.contains("fe80"),
            "{error}"
        );
    }

    #[test]
    fn lengths() {
        let long = |a: usize| format!("a.b/{}", "x".repeat(a));
        assert!(long(251).parse::<ImageName>().is_ok());
        assert!(long(252).parse::<ImageName>().is_err());
        assert!("x".repeat(237).parse::<ImageName>().is_ok());
        assert!("x".repeat(238).parse::<ImageName>().is_err());
        let tag = |a: usize| format!("a.b/c:{}", "T".repeat(a));
        assert!(tag(128).parse::<ImageName>().is_ok());
        assert!(tag(129).parse::<ImageName>().is_err());
    }

    #[test]
    fn json_is_the_text() {
        let name: ImageName = serde_json::from_str("\"alpine\"").unwrap();
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(json, "\"docker.io/library/alpine:latest\"");
        assert!(serde_json::from_str::<ImageName>("\"A\"").is_err());
    }

    fn stays_itself(name: &ImageName) {
        let again = ImageName::normalise(&name.to_string()).unwrap();
        assert_eq!(&again.name, name);
        assert!(!again.was_short);
        assert_eq!(name.tag().is_some(), name.pinned().is_none());
        let text = name.to_string();
        assert!(text.bytes().all(|b| b.is_ascii_graphic()));
        assert!(!name.repository().contains(".."));
    }

    proptest! {
        /// The productions of regexp.go, written out: all that they make is read.
        #[test]
        fn the_grammar_is_accepted(
            host in r"([A-Z][a-zA-Z0-9]{0,3}|(([a-zA-Z0-9][a-zA-Z0-9-]{0,4}[a-zA-Z0-9]\.){1,2}[a-z]{2}|\[[a-fA-F0-9]{0,3}:[a-fA-F0-9:]{0,7}\]|localhost)(:[0-9]{1,6})?)",
            path in r"[a-z0-9]{1,3}(([._]|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,3}(([._]|__|-{1,3})[a-z0-9]{1,3}){0,2}){0,3}",
            tag in r"(:[0-9A-Za-z_][0-9A-Za-z_.\-]{0,12})?",
            digest in r"(@sha256:[0-9a-f]{64})?",
        ) {
            let text = format!("{host}/{path}{tag}{digest}");
            let NormalisedName { name, was_short } = ImageName::normalise(&text).unwrap();
            prop_assert!(!was_short);
            let repository = name.repository().to_owned();
            prop_assert_eq!(repository, format!("{host}/{path}"));
            prop_assert_eq!(name.pinned().is_some(), !digest.is_empty());
            stays_itself(&name);

            let text = format!("org/{path}{tag}{digest}");
            let NormalisedName { name, was_short } = ImageName::normalise(&text).unwrap();
            prop_assert!(was_short);
            let repository = name.repository().to_owned();
            prop_assert_eq!(repository, format!("docker.io/org/{path}"));
            stays_itself(&name);
        }

        #[test]
        fn any_text(text in any::<String>(), near in r"[a-cA-Z0-9._:/@\-\[\]]{0,20}") {
            for text in [text, near] {
                if let Ok(NormalisedName { name, .. }) = ImageName::normalise(&text) {
                    stays_itself(&name);
                }
            }
        }
    }
}
