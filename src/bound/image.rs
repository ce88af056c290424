//! Bound images, and where they were asked for.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    path::{Path, PathBuf},
};

use crate::name::{ImageName, Platform, without_userinfo};

use super::{
    forms::in_root,
    problem::{ArgumentError, ArgumentFault, Problem, ScanError},
    quadlet::{NameFault, full_name},
};

/// One name that a deployment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundImage {
    /// The full name; podman finds the image under it.
    pub name: ImageName,
    /// Everywhere it was asked for, at least one place.
    pub origins: Vec<Origin>,
    /// Where to take it from instead of its registry: the SOURCE of
    /// `--image NAME=SOURCE` as it was typed, a transport name not yet parsed.
    /// Never from a unit: what a deployment ships does not choose the source.
    pub source: Option<String>,
    /// How it is asked for.
    pub settings: Settings,
}

/// How an image is asked for; what nobody said is as for any image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The platform it is for.
    pub platform: Option<Platform>,
    /// Credentials for this image alone: a path in the deployment's root.
    pub auth_file: Option<PathBuf>,
    /// Whether its registry must have a certificate.
    pub tls_verify: Option<bool>,
}

/// Where an image was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A unit or a list in one of the directories, or a file that it leads to.
    Unit {
        /// The entry of the directory, relative to the deployment's root.
        path: PathBuf,
        /// What the entry says where it is a link; untrusted, resolved inside
        /// that root only. Or the file that it leads to: a drop-in, another
        /// unit, manifests. Nothing where it stands in the entry itself.
        target: Option<PathBuf>,
        /// The line in that file, from 1.
        line: usize,
    },
    /// `--image`.
    CommandLine,
}

impl Origin {
    /// The file below the root that it is in, and the line.
    pub fn place(&self) -> Option<(PathBuf, usize)> {
        let Self::Unit { path, target, line } = self else {
            return None;
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let file = target.as_ref().map(|target| in_root(&folder.join(target)));
        Some((file.unwrap_or_else(|| path.clone()), *line))
    }

    /// The entry of a folder of bound images.
    pub fn entry(&self) -> Option<&Path> {
        match self {
            Self::Unit { path, .. } => Some(path),
            Self::CommandLine => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit { path, target, line } => {
                write!(f, "{}:{line}", leads_to(path, target.as_deref()))
            }
            Self::CommandLine => f.write_str("--image"),
        }
    }
}

/// An entry, and where it leads.
pub(super) fn leads_to(path: &Path, target: Option<&Path>) -> String {
    match target {
        Some(target) => format!("{} -> {}", path.display(), target.display()),
        None => path.display().to_string(),
    }
}

/// Reads the value of one `--image NAME[=SOURCE]`. The name may be short; the
/// source is anything not empty, not parsed here.
///
/// # Errors
/// The name is none, or has a transport, or the source is empty.
pub fn from_command_line(text: &str) -> Result<BoundImage, ArgumentError> {
    argument(text).map(|(image, _)| image)
}

/// The image of a `--image`, and the name as typed where that is a short one.
pub(super) fn argument(text: &str) -> Result<(BoundImage, Option<&str>), ArgumentError> {
    let fail = |fault| ArgumentError {
        text: without_userinfo(text),
        fault,
    };
    let (written, source) = match text.split_once('=') {
        Some((_, "")) => return Err(fail(ArgumentFault::EmptySource)),
        Some((written, source)) => (written, Some(source.to_owned())),
        None => (text, None),
    };
    let full = full_name(written).map_err(|fault: NameFault| fail(fault.into()))?;
    let image = BoundImage {
        name: full.name,
        origins: vec![Origin::CommandLine],
        source,
        settings: Settings::default(),
    };
    Ok((image, full.was_short.then_some(written)))
}

/// Joins lists of images into one, sorted, each name once.
///
/// A name that comes again adds its origins, and its source or credentials
/// where there were none. Nothing is overridden, so the order of the lists
/// decides only that of the origins.
///
/// # Errors
/// Every name that has two different sources or credentials.
pub fn merge(images: impl IntoIterator<Item = BoundImage>) -> Result<Vec<BoundImage>, ScanError> {
    let mut merged = BTreeMap::<ImageName, BoundImage>::new();
    let mut problems = Vec::new();
    for image in images {
        match merged.entry(image.name.clone()) {
            Entry::Vacant(slot) => {
                slot.insert(image);
            }
            Entry::Occupied(mut slot) => problems.extend(slot.get_mut().absorb(image)),
        }
    }
    ScanError::unless_empty(problems)?;
    Ok(merged.into_values().collect())
}

impl BoundImage {
    fn absorb(&mut self, other: BoundImage) -> Vec<Problem> {
        let Settings {
            platform,
            auth_file,
            tls_verify,
        } = other.settings;
        let path = |path: &PathBuf| path.display().to_string();
        let own = &mut self.settings;
        let found = [
            settle("source", &mut self.source, other.source, String::clone),
            settle("platform", &mut own.platform, platform, Platform::to_string),
            settle("auth file", &mut own.auth_file, auth_file, path),
            settle(
                "TLS verification",
                &mut own.tls_verify,
                tls_verify,
                bool::to_string,
            ),
        ];
        let problems = found
            .into_iter()
            .flatten()
            .map(|(setting, first, second)| Problem::Conflict {
                name: self.name.clone(),
                setting,
                first: (first, self.origins.clone()),
                second: (second, other.origins.clone()),
            })
            .collect();
        for origin in other.origins {
            if !self.origins.contains(&origin) {
                self.origins.push(origin);
            }
        }
        problems
    }
}

/// Takes a value where there was none; two different ones are a conflict.
fn settle<T: PartialEq>(
    setting: &'static str,
    first: &mut Option<T>,
    second: Option<T>,
    text: impl Fn(&T) -> String,
) -> Option<(&'static str, String, String)> {
    match (&*first, &second) {
        (Some(one), Some(other)) if one != other => Some((setting, text(one), text(other))),
        (None, _) => {
            *first = second;
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(name: &str, line: usize) -> BoundImage {
        BoundImage {
            name: name.parse().unwrap(),
            origins: vec![Origin::Unit {
                path: "d/x.image".into(),
                target: Some("/x.image".into()),
                line,
            }],
            source: None,
            settings: Settings::default(),
        }
    }

    #[test]
    fn arguments() {
        let image = from_command_line("quay.io/a/b").unwrap();
        assert_eq!(image.name.to_string(), "quay.io/a/b:latest");
        assert_eq!(image.source, None);
        assert_eq!(image.origins, [Origin::CommandLine]);
        assert_eq!(image.settings, Settings::default());

        let image = from_command_line("quay.io/a/b:1=oci:/x=y:z").unwrap();
        assert_eq!(image.name.to_string(), "quay.io/a/b:1");
        assert_eq!(image.source.as_deref(), Some("oci:/x=y:z"));

        let (image, short) = argument("alpine=oci:/x").unwrap();
        assert_eq!(image.name.to_string(), "docker.io/library/alpine:latest");
        assert_eq!(short, Some("alpine"));

        for bad in [
            "",
            "=",
            "=oci:/x",
            "quay.io/a=",
            "quay.io/A",
            "oci:/x",
            "docker://quay.io/a",
        ] {
            let error = from_command_line(bad).unwrap_err();
            assert_eq!(error.to_string(), format!("--image {bad:?}"));
            assert!(std::error::Error::source(&error).is_some());
        }
    }

    #[test]
    fn a_name_comes_once_and_nothing_is_overridden() {
        let arg = |text| from_command_line(text).unwrap();
        let merged = merge([
            unit("quay.io/b", 2),
            unit("quay.io/a", 3),
            unit("quay.io/b", 4),
            unit("quay.io/b", 2),
            arg("quay.io/b=oci:/x"),
            arg("quay.io/b:latest"),
        ])
        .unwrap();
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0], unit("quay.io/a", 3));
        assert_eq!(merged[1].source.as_deref(), Some("oci:/x"));
        let lines: Vec<_> = merged[1].origins.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "d/x.image -> /x.image:2",
                "d/x.image -> /x.image:4",
                "--image"
            ]
        );

        let error = merge([
            arg("quay.io/b=oci:/x"),
            arg("quay.io/a=oci:/x"),
            arg("quay.io/b=oci:/y"),
            arg("quay.io/a=oci:/z"),
            arg("quay.io/a=oci:/x"),
        ])
        .unwrap_err();
        assert_eq!(error.problems().len(), 2);
        let text = error.to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("quay.io/b:latest"), "{text}");
        assert!(text.contains("\"oci:/y\""), "{text}");

        let mut first = unit("quay.io/a", 1);
        first.settings.auth_file = Some("/a".into());
        let mut second = unit("quay.io/a", 2);
        assert_eq!(
            merge([second.clone(), first.clone()]).unwrap()[0]
                .settings
                .auth_file,
            first.settings.auth_file
        );
        second.settings.auth_file = Some("/b".into());
        assert!(merge([first, second]).is_err());
    }

    proptest! {
        #[test]
        fn arguments_never_panic(text in any::<String>(), ascii in "[a-z/:@=.]{0,20}") {
            let _ = from_command_line(&text);
            if let Ok(image) = from_command_line(&ascii) {
                prop_assert_eq!(image.source.is_some(), ascii.contains('='));
            }
        }
    }
}
