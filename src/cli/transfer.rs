//! How images are brought: the options of every verb that asks a source.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::failure::{Exit, Failure};
use crate::{
    bound::{BoundImage, LockedImage},
    config::Config,
    deployment::Retry,
    import::ImportLimits,
    name::Platform,
    source::{Access, AuthFile, SkopeoOptions, SourceOptions, Wanted, create_spool_dir},
    sys::{self, WorkDir},
};

#[derive(Debug, clap::Args)]
pub(super) struct Transfer {
    /// Refuse layers that unpack to more bytes than this
    #[arg(long, value_name = "BYTES", default_value_t = ImportLimits::default().max_bytes)]
    max_size: u64,
    /// Refuse layers with more entries than this
    #[arg(long, value_name = "COUNT", default_value_t = ImportLimits::default().max_entries)]
    max_entries: u64,
    /// Where blobs from the network are kept until they are published
    /// [default: /var/cache/boundstore, or below the user's cache]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Credentials, tried before the host's
    #[arg(long, value_name = "FILE")]
    authfile: Vec<PathBuf>,
    /// Another policy than the host's policy.json
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Talk to registries without TLS, or without checking it
    #[arg(long)]
    no_tls_verify: bool,
    /// Try again for so long what the network refuses for the moment
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    retry_for: u64,
}

impl Transfer {
    pub(super) fn limits(&self) -> ImportLimits {
        ImportLimits {
            max_bytes: self.max_size,
            max_entries: self.max_entries,
        }
    }

    pub(super) fn retry(&self) -> Retry {
        Retry::within(Duration::from_secs(self.retry_for))
    }

    pub(super) fn spool_dir(&self) -> PathBuf {
        self.spool.clone().unwrap_or_else(default_spool)
    }

    /// A new folder in the spool, which goes with what it returns.
    pub(super) fn work_dir(&self, prefix: &str) -> Result<WorkDir, Failure> {
        let spool = self.spool_dir();
        create_spool_dir(&spool)?;
        Ok(WorkDir::new_in(&spool, prefix)?)
    }

    /// What the library is told of this host: it reads no environment itself.
    /// `root` is the file tree of the deployment that images are brought for.
    pub(super) fn source_options(&self, root: Option<&Path>, config: &Config) -> SourceOptions {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let policy_paths = match &self.policy {
            Some(policy) => vec![policy.clone()],
            None => home
                .iter()
                .map(|home| home.join(".config/containers/policy.json"))
                .chain([PathBuf::from("/etc/containers/policy.json")])
                .collect(),
        };
        // The target's credentials, then the running host's, as bootc looks for them.
        let of_root = root.iter().flat_map(|root| {
            ["etc/ostree/auth.json", "usr/lib/ostree/auth.json"]
                .map(|file| AuthFile::in_root(root, file))
        });
        let of_host = [
            "/run/ostree/auth.json",
            "/etc/ostree/auth.json",
            "/usr/lib/ostree/auth.json",
        ];
        let auth_files = self.authfile.iter().map(AuthFile::of_host);
        SourceOptions {
            spool_dir: self.spool_dir(),
            policy_paths,
            skopeo: SkopeoOptions {
                policy: self.policy.clone(),
                auth_files: auth_files
                    .chain(of_root)
                    .chain(of_host.map(AuthFile::of_host))
                    .collect(),
                tls_verify: !self.no_tls_verify,
                idle: config.sync.idle_timeout,
                ..SkopeoOptions::default()
            },
        }
    }
}

/// An image that is bound at `root`, for the platform of the command line, of
/// the lock file or of its unit, in this order, else for the host's.
pub(super) fn wanted_of(
    image: BoundImage,
    root: Option<&Path>,
    platform: Option<&Platform>,
    locked: Option<&LockedImage>,
) -> Result<Wanted, Failure> {
    let source = image.source.as_deref().map(str::parse).transpose();
    let source = source.map_err(|error| Failure::new(Exit::Usage, error))?;
    let mut wanted = Wanted::new(image.name);
    wanted.source = source;
    let settings = image.settings;
    // What a deployment names is its own file, never one of the running host.
    let own = settings.auth_file.zip(root);
    wanted.access = Access {
        auth_file: own.map(|(path, root)| AuthFile::in_root(root, path)),
        tls_verify: settings.tls_verify,
    };
    let of_lock = locked.map(|locked| &locked.platform);
    if let Some(platform) = platform.or(of_lock).or(settings.platform.as_ref()) {
        wanted.platform = platform.clone();
    }
    wanted.locked = locked.map(|locked| locked.manifest.digest);
    Ok(wanted)
}

fn default_spool() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    match cache.or_else(home).filter(|_| !sys::is_root()) {
        Some(cache) => cache.join("boundstore"),
        None => "/var/cache/boundstore".into(),
    }
}
