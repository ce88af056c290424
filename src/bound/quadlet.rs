//! What a quadlet unit says about the image it needs.

use crate::name::{ImageName, ImageNameError, NormalisedName, PlatformError};

use super::{
    folders::UNIT_FOLDERS,
    unit::{SyntaxFault, parse_unit},
    yaml::YamlFault,
};

/// More than the longest image name, with every character a `%%`.
const VALUE_LIMIT_BYTES: usize = 1024;

/// The kinds of quadlet units that can name an image (podman-systemd.unit(5)).
/// bootc knows the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    /// `*.image`: the image is `[Image] Image=`.
    Image,
    /// `*.container`: the image is `[Container] Image=`.
    Container,
    /// `*.kube`: the images are those of the files that `[Kube] Yaml=` names.
    Kube,
    /// `*.volume`: with `Driver=image`, the image is `[Volume] Image=`.
    Volume,
    /// `*.pod`: the infra image is `--infra-image` of `[Pod] PodmanArgs=`.
    Pod,
    /// `*.build`: the image is made on the host.
    Build,
}

impl UnitKind {
    /// The kind that a file name's extension stands for, if there is a stem.
    pub fn of_file_name(name: &str) -> Option<Self> {
        match name.rsplit_once('.')? {
            ("", _) => None,
            (_, extension) => Self::ALL
                .into_iter()
                .find(|kind| kind.extension() == extension),
        }
    }

    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Image,
        Self::Container,
        Self::Kube,
        Self::Volume,
        Self::Pod,
        Self::Build,
    ];

    /// Whether bootc accepts it in its folder.
    pub const fn is_bootcs(self) -> bool {
        matches!(self, Self::Image | Self::Container)
    }

    /// What ends the names of its files, without a dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Container => "container",
            Self::Kube => "kube",
            Self::Volume => "volume",
            Self::Pod => "pod",
            Self::Build => "build",
        }
    }

    /// The section that names the image.
    pub const fn section(self) -> &'static str {
        match self {
            Self::Image => "Image",
            Self::Container => "Container",
            Self::Kube => "Kube",
            Self::Volume => "Volume",
            Self::Pod => "Pod",
            Self::Build => "Build",
        }
    }
}

/// The image that a unit asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedImage {
    /// The name as it is written in the unit, `%%` and quotes resolved.
    pub written: String,
    /// The name made full.
    pub name: NormalisedName,
    /// The line of the assignment, from 1.
    pub line: usize,
}

/// A unit that does not say clearly which image it needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}")]
pub struct UnitReadError {
    /// The line, from 1; for what is missing that of the section, or 1.
    pub line: usize,
    /// What is wrong there.
    #[source]
    pub fault: UnitFault,
}

/// What can be wrong with a unit's image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitFault {
    /// The line is no unit file syntax.
    #[error(transparent)]
    Syntax(#[from] SyntaxFault),
    /// No `Image=`, or the last one is empty.
    #[error("[{section}] has no Image=")]
    MissingImage {
        /// The section that should have it.
        section: &'static str,
    },
    /// `AuthFile=` where bootc refuses it, or in a unit that has no such key.
    #[error("AuthFile= is not supported for bound images; remove it")]
    AuthFile,
    /// A `%` that is not `%%`.
    #[error("systemd specifiers are not supported: \"%{0}\"; write %% for a percent sign")]
    Specifier(char),
    /// A `%` at the end.
    #[error("unterminated % at the end of the value; write %% for a percent sign")]
    UnterminatedPercent,
    /// A `.container` that takes its image from another unit.
    #[error(
        "{0:?} refers to another unit, which is not supported; write the full name of the image"
    )]
    Indirection(String),
    /// So long that it need not be looked at, nor printed.
    #[error("the value is longer than {VALUE_LIMIT_BYTES} bytes")]
    TooLong,
    /// The value is no image name.
    #[error(transparent)]
    Name(#[from] NameFault),
    /// A unit that is there for another purpose, or lacks what names an image.
    #[error("it names no image: {0}")]
    NamesNone(&'static str),
    /// A unit that it refers to is in no folder of units.
    #[error("there is no {0:?} in its folder, nor in {folders}", folders = UNIT_FOLDERS.join(" or "))]
    NoSuchUnit(String),
    /// The image comes to be on the host.
    #[error(
        "a .build makes its image on the host, after that has booted; build it beforehand, push it \
         to a registry, and bind it by its name there"
    )]
    Build,
    /// `Arch=`, `OS=`, `Variant=` or their options that are no platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A value that is no yes and no no.
    #[error("{0:?} is neither true nor false")]
    Boolean(String),
    /// A file of manifests, which a `.kube` names, is none.
    #[error(transparent)]
    Yaml(#[from] YamlFault),
    /// A list of images is none.
    #[error("{0}")]
    List(String),
}

/// What can be wrong with a text that should name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameFault {
    /// A transport in front: where podman takes an image from is no name for it.
    #[error("{0:?} begins with a transport; write only the name, like quay.io/org/app:1.2")]
    Transport(String),
    /// No image name.
    #[error(transparent)]
    Grammar(#[from] ImageNameError),
}

/// Finds the image that the text of a unit asks for.
///
/// Only `Image=` of the unit's own section is looked at, besides `AuthFile=`.
/// `%%` is a percent sign; one pair of double quotes around the value is taken
/// off, as podman's generator does.
///
/// # Errors
/// The first thing wrong, with its line. Any bytes are accepted as input; a
/// hostile unit can ask for any image, but never for another kind of thing.
pub fn asked_image(kind: UnitKind, text: &[u8]) -> Result<AskedImage, UnitReadError> {
    let unit = parse_unit(text).map_err(|error| UnitReadError {
        line: error.line,
        fault: error.fault.into(),
    })?;
    let section = kind.section();
    if let Some(auth_file) = unit.last(section, "AuthFile") {
        return Err(UnitReadError {
            line: auth_file.line,
            fault: UnitFault::AuthFile,
        });
    }
    let image = unit.last(section, "Image").ok_or_else(|| UnitReadError {
        line: unit.section_line(section).unwrap_or(1),
        fault: UnitFault::MissingImage { section },
    })?;
    let line = image.line;
    let fail = |fault| UnitReadError { line, fault };
    let written = plain(&image.value).map_err(fail)?;
    let refers = [".image", ".build"]
        .iter()
        .any(|end| written.ends_with(end));
    if kind == UnitKind::Container && refers {
        return Err(fail(UnitFault::Indirection(written)));
    }
    let name = full_name(&written).map_err(|fault| fail(fault.into()))?;
    Ok(AskedImage {
        written,
        name,
        line,
    })
}

/// The value of a key without what quotes and escapes it.
pub(super) fn plain(value: &str) -> Result<String, UnitFault> {
    if value.len() > VALUE_LIMIT_BYTES {
        return Err(UnitFault::TooLong);
    }
    unescape(unquote(value))
}

/// The full name for a text that may be short, but must not have a transport:
/// to podman `oci:app` is a directory, so it must not become a name here.
pub(super) fn full_name(text: &str) -> Result<NormalisedName, NameFault> {
    const TRANSPORTS: [&str; 9] = [
        "containers-storage:",
        "dir:",
        "docker-archive:",
        "docker-daemon:",
        "docker://",
        "oci:",
        "oci-archive:",
        "ostree:",
        "sif:",
    ];
    if TRANSPORTS.iter().any(|prefix| text.starts_with(prefix)) {
        return Err(NameFault::Transport(text.to_owned()));
    }
    Ok(ImageName::normalise(text)?)
}

fn unquote(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}

pub(super) fn unescape(value: &str) -> Result<String, UnitFault> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        if char == '%' {
            match chars.next() {
                Some('%') => {}
                Some(specifier) => return Err(UnitFault::Specifier(specifier)),
                None => return Err(UnitFault::UnterminatedPercent),
            }
        }
        plain.push(char);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(kind: UnitKind, text: &str) -> Result<String, (usize, UnitFault)> {
        asked_image(kind, text.as_bytes())
            .map(|asked| asked.name.name.to_string())
            .map_err(|error| (error.line, error.fault))
    }

    /// bootc's test of this name, with all its cases.
    #[test]
    fn test_parse_spec_value() {
        for (value, plain) in [
            ("quay.io/foo/foo:latest", "quay.io/foo/foo:latest"),
            ("quay.io/foo/%%foo:latest", "quay.io/foo/%foo:latest"),
            ("quay.io/foo/%%foo:%%latest", "quay.io/foo/%foo:%latest"),
            ("%%quay.io/foo/foo:latest%%", "%quay.io/foo/foo:latest%"),
            ("quay.io/foo/%%%%foo:latest", "quay.io/foo/%%foo:latest"),
        ] {
            assert_eq!(unescape(value).as_deref(), Ok(plain));
        }
        for (value, fault) in [
            ("quay.io/foo/%foo:latest", UnitFault::Specifier('f')),
            ("quay.io/foo/%%%foo:latest", UnitFault::Specifier('f')),
            ("quay.io/foo/%f%ooo:latest", UnitFault::Specifier('f')),
            ("%fquay.io/foo/foo:latest", UnitFault::Specifier('f')),
            ("quay.io/foo/foo:latest%f", UnitFault::Specifier('f')),
            ("quay.io/foo/foo:latest%", UnitFault::UnterminatedPercent),
            ("%%%", UnitFault::UnterminatedPercent),
            ("% ", UnitFault::Specifier(' ')),
            ("%é", UnitFault::Specifier('é')),
        ] {
            assert_eq!(unescape(value), Err(fault), "{value}");
        }
    }

    /// bootc's test of this name, with all its cases.
    #[test]
    fn test_parse_image_file() {
        let asked = |text| asked(UnitKind::Image, text);
        assert_eq!(
            asked("[Image]\nImage=quay.io/foo/foo:latest").unwrap(),
            "quay.io/foo/foo:latest"
        );
        let auth = "[Image]\nImage=quay.io/foo/foo:latest\nAuthFile=/etc/containers/auth.json\n";
        assert_eq!(asked(auth), Err((3, UnitFault::AuthFile)));
        let section = "Image";
        let missing = UnitFault::MissingImage { section };
        assert_eq!(asked("[Image]\n"), Err((1, missing.clone())));
        assert_eq!(
            asked("\n[Container]\nImage=quay.io/a/b"),
            Err((1, missing.clone()))
        );
        assert_eq!(
            asked("#\n[Image]\nImage=quay.io/a/b\nImage=\n"),
            Err((2, missing))
        );
        // A quadlet .image may end like this; only .container refers to units.
        assert_eq!(
            asked("[Image]\nImage=quay.io/foo/x.image").unwrap(),
            "quay.io/foo/x.image:latest"
        );
    }

    /// bootc's test of this name, with all its cases.
    #[test]
    fn test_parse_container_file() {
        let asked = |text| asked(UnitKind::Container, text);
        assert_eq!(
            asked("[Container]\nImage=quay.io/foo/foo:latest").unwrap(),
            "quay.io/foo/foo:latest"
        );
        let section = "Container";
        let missing = UnitFault::MissingImage { section };
        assert_eq!(asked("[Container]\n"), Err((1, missing.clone())));
        assert_eq!(asked("[Image]\nImage=quay.io/foo/foo"), Err((1, missing)));
        assert_eq!(
            asked("[Container]\nAuthFile=/a\nImage=quay.io/foo/foo"),
            Err((2, UnitFault::AuthFile))
        );
    }

    #[test]
    fn odd_values() {
        let asked =
            |value: &str| asked(UnitKind::Container, &format!("[Container]\nImage={value}"));
        assert_eq!(
            asked("quay.io/a/b:1\n[Unit]\nImage=x\n[Container]\nImage=\"quay.io/a/b:2\"").unwrap(),
            "quay.io/a/b:2"
        );
        for value in ["app.image", "app.build", "quay.io/a/b.image", "app%%.build"] {
            let fault = UnitFault::Indirection(value.replace("%%", "%"));
            assert_eq!(asked(value), Err((2, fault)));
        }
        for value in [
            "docker://quay.io/a/b",
            "oci:app",
            "containers-storage:a",
            "dir:latest",
        ] {
            let fault = NameFault::Transport(value.to_owned());
            assert_eq!(asked(value), Err((2, fault.into())));
        }
        for value in [
            "quay.io/a b",
            "quay.io/%%a",
            "quay.io/A",
            "\"quay.io/a",
            "\"",
            "\"\"",
            "quay.io/\\\na",
            "quay.io/a:${TAG}",
            "quay.io/a@sha512:00",
        ] {
            let (line, fault) = asked(value).unwrap_err();
            assert!(matches!(fault, UnitFault::Name(_)), "{value}: {fault}");
            assert_eq!(line, 2);
        }
        assert_eq!(asked(&"a".repeat(1025)), Err((2, UnitFault::TooLong)));
        assert_eq!(asked("quay.io/a:%i"), Err((2, UnitFault::Specifier('i'))));
    }

    #[test]
    fn kinds() {
        for (name, kind) in [
            ("a.image", Some(UnitKind::Image)),
            ("a.b.container", Some(UnitKind::Container)),
            ("a@.container", Some(UnitKind::Container)),
            (".image", None),
            ("image", None),
            ("a.image~", None),
            ("a.IMAGE", None),
            ("a.kube", Some(UnitKind::Kube)),
            ("a.network", None),
            ("", None),
        ] {
            assert_eq!(UnitKind::of_file_name(name), kind, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_unit(bytes in prop::collection::vec(any::<u8>(), 0..300), container: bool) {
            let kind = if container { UnitKind::Container } else { UnitKind::Image };
            let _ = asked_image(kind, &bytes);
            let mut text = format!("[{}]\nImage=", kind.section()).into_bytes();
            text.extend(bytes);
            if let Ok(asked) = asked_image(kind, &text) {
                prop_assert!(asked.line >= 2);
            }
        }

        #[test]
        fn escaping_is_undone(value in any::<String>()) {
            prop_assert_eq!(unescape(&value.replace('%', "%%")), Ok(value));
        }
    }
}
