//! What the host's administrator and its image decide: `config.toml`.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};
use toml::{Table, Value};

use crate::{
    bound::lint::Rule,
    error::{Doing, PathError},
    sys::RootDir,
};

/// Where the files are below a host's root, each over those before it: the
/// image's, the administrator's.
pub const CONFIG_FILES: [&str; 2] = [
    "usr/lib/boundstore/config.toml",
    "etc/boundstore/config.toml",
];
/// No configuration is longer.
const LIMIT_BYTES: u64 = 1 << 20;

/// The configuration of a host. `dist/config.toml` explains every key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub struct Config {
    /// Whether sets are mounted, and a repository is made, without fs-verity.
    pub allow_missing_verity: bool,
    /// How the next boot is guarded.
    pub guard: GuardConfig,
    /// What happens at boot.
    pub boot: BootConfig,
    /// What a sync does.
    pub sync: SyncConfig,
    /// What `lint` says.
    pub lint: LintConfig,
}

/// `[guard]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub struct GuardConfig {
    /// What happens to a staged deployment whose set is incomplete.
    pub policy: Policy,
    /// How long one try to bring a set may take.
    #[serde(deserialize_with = "duration")]
    pub sync_timeout: Duration,
}

/// What happens to a staged deployment whose set is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// It does not become the next boot.
    #[default]
    Veto,
    /// It does, and that is said loudly.
    Warn,
}

/// `[boot]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub struct BootConfig {
    /// What a boot does whose set cannot be mounted.
    pub on_failure: OnFailure,
    /// Whether the set is shown at bootc's own place too.
    pub bootc_storage: bool,
}

/// What a boot does whose set cannot be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It goes on with an empty store, and a failed unit.
    #[default]
    EmptyStore,
    /// It ends in systemd's emergency mode.
    FailBoot,
}

/// `[sync]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub struct SyncConfig {
    /// Which layers of older sets a new one keeps.
    pub keep_layers: KeepLayers,
    /// How long a registry may send nothing, or next to nothing.
    #[serde(deserialize_with = "duration")]
    pub idle_timeout: Duration,
}

/// `[lint]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub struct LintConfig {
    /// The rules that may be broken.
    pub allow: Vec<Rule>,
}

/// Which layers of older sets a new one keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepLayers {
    /// Those that containers or images in podman's own store stand on.
    #[default]
    Referenced,
    /// None.
    None,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            keep_layers: KeepLayers::default(),
            idle_timeout: Duration::from_secs(120),
        }
    }
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            sync_timeout: Duration::from_secs(60 * 60),
        }
    }
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file does not say what a configuration says.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A file is too large to be one.
    #[error("{} is larger than {LIMIT_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    /// A file could not be read.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl Config {
    /// Reads the configuration of the host whose root is `root`.
    ///
    /// # Errors
    /// The first file that cannot be read or is none. Files that are not there
    /// say nothing.
    pub fn load(root: &Path) -> Result<Self, ConfigError> {
        let root = RootDir::open(root)?;
        let mut files = Vec::new();
        for name in CONFIG_FILES {
            let path = root.path().join(name);
            let Some((file, _)) = root.open_file(name)? else {
                continue;
            };
            let mut text = String::new();
            let read = file.take(LIMIT_BYTES + 1).read_to_string(&mut text);
            if read.doing("read", &path)? as u64 > LIMIT_BYTES {
                return Err(ConfigError::TooLarge(path));
            }
            files.push((path, text));
        }
        Self::parse(&files)
    }

    /// Reads files, key by key each over those before it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for the first that is no configuration.
    pub fn parse(files: &[(PathBuf, String)]) -> Result<Self, ConfigError> {
        let mut merged = Table::new();
        let mut config = Self::default();
        for (path, text) in files {
            let invalid = |error: toml::de::Error| ConfigError::Invalid {
                path: path.clone(),
                line: line_of(text.as_bytes(), error.span().map_or(0, |span| span.start)),
                message: error.message().trim_end().replace('\n', "; "),
            };
            let _alone: Self = toml::from_str(text).map_err(invalid)?;
            lay_over(&mut merged, toml::from_str(text).map_err(invalid)?);
            config = Self::deserialize(merged.clone()).map_err(invalid)?;
        }
        Ok(config)
    }
}

/// The line, from 1, that byte `at` of a text is in.
pub(crate) fn line_of(text: &[u8], at: usize) -> usize {
    1 + text.iter().take(at).filter(|&&byte| byte == b'\n').count()
}

fn lay_over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// A number and `s`, `min` or `h`, as systemd writes spans of time.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let units = [("min", 60), ("s", 1), ("h", 60 * 60)];
    let seconds = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*seconds)
    });
    match seconds {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(D::Error::custom(format!(
            "{text:?} is no time: a number above 0 and s, min or h"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Config, String> {
        let names = ["usr.toml", "etc.toml"];
        let files: Vec<(PathBuf, String)> = names
            .iter()
            .zip(texts)
            .map(|(name, text)| (name.into(), (*text).to_owned()))
            .collect();
        Config::parse(&files).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_that_is_installed_says_what_holds_without_it() {
        let shipped = include_str!("../dist/config.toml");
        assert_eq!(parse(&[shipped]).unwrap(), Config::default());
        // Each key that it names as a comment is one, with that value.
        let shown: String = shipped
            .lines()
            .map(|line| {
                line.strip_prefix("#")
                    .filter(|rest| !rest.starts_with(' '))
                    .unwrap_or(line)
            })
            .fold(String::new(), |text, line| text + line + "\n");
        assert!(shown.matches(" = ").count() >= 6);
        assert_eq!(parse(&[&shown]).unwrap(), Config::default());
    }

    #[test]
    fn a_later_file_changes_single_keys() {
        let config = parse(&[
            "[guard]\npolicy = \"warn\"\nsync-timeout = \"90s\"\n[boot]\nbootc-storage = true",
            "allow-missing-verity = true\n[guard]\npolicy = \"veto\"\n[sync]\nkeep-layers = \"none\"",
        ])
        .unwrap();
        assert!(config.allow_missing_verity && config.boot.bootc_storage);
        assert_eq!(config.guard.policy, Policy::Veto);
        assert_eq!(config.guard.sync_timeout, Duration::from_secs(90));
        assert_eq!(config.sync.keep_layers, KeepLayers::None);
        assert_eq!(config.boot.on_failure, OnFailure::EmptyStore);
    }

    #[test]
    fn what_is_wrong_is_told_by_file_and_line() {
        for (text, line, said) in [
            ("\n[gaurd]", 2, "gaurd"),
            ("[guard]\npolicy = \"warn\"\npolciy = 1", 3, "polciy"),
            ("[guard]\npolicy = \"ignore\"", 2, "ignore"),
            ("[guard]\nsync-timeout = 5", 2, "string"),
            ("[guard]\nsync-timeout = \"5\"", 2, "no time"),
            ("[guard]\nsync-timeout = \"0s\"", 2, "no time"),
            (
                "[guard]\nsync-timeout = \"99999999999999999999h\"",
                2,
                "no time",
            ),
            ("allow-missing-verity = \"yes\"", 1, "boolean"),
            ("guard = 1", 1, "a table"),
            ("[boot]\n\non-failure = ", 3, ""),
            ("[boot]\n[boot]", 2, ""),
            ("[lint]\nallow = [\"floating-tags\"]", 2, "no rule"),
        ] {
            let error = parse(&["[guard]", text]).unwrap_err();
            assert!(
                error.starts_with(&format!("etc.toml:{line}: ")),
                "{text}: {error}"
            );
            assert!(
                error.contains(said) && !error.contains('\n'),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn files_are_read_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        let load = || Config::load(root.path());
        assert_eq!(load().unwrap(), Config::default());
        let etc = root.path().join("etc/boundstore");
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::write(
            etc.join("config.toml"),
            "[boot]\non-failure = \"fail-boot\"",
        )
        .unwrap();
        assert_eq!(load().unwrap().boot.on_failure, OnFailure::FailBoot);
        std::fs::write(etc.join("config.toml"), "#".repeat(1 << 20) + "#").unwrap();
        assert!(matches!(load(), Err(ConfigError::TooLarge(_))));
        std::fs::remove_file(etc.join("config.toml")).unwrap();
        std::fs::create_dir(etc.join("config.toml")).unwrap();
        assert!(matches!(load(), Err(ConfigError::Path(_))));
    }
}
