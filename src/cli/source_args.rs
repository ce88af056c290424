//! Where images come from: what `sync` and `verify --repair` share.

use std::path::{Path, PathBuf};

use crate::{
    config::Config,
    source::{AuthFile, SkopeoOptions, SourceOptions, SourceRef},
    sys,
};

#[derive(Debug, clap::Args)]
pub(super) struct SourceArgs {
    /// Ask this source first, for every image it holds
    #[arg(long, value_name = "SOURCE")]
    pub(super) from: Vec<SourceRef>,
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
    pub(super) retry_for: u64,
}

impl SourceArgs {
    pub(super) fn spool_dir(&self) -> PathBuf {
        self.spool.clone().unwrap_or_else(default_spool)
    }

    /// What the library is told of this host: it reads no environment itself.
    /// The credentials in the target's root come before the running host's.
    pub(super) fn options(&self, root: Option<&Path>, config: &Config) -> SourceOptions {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let policy_paths = match &self.policy {
            Some(policy) => vec![policy.clone()],
            None => home
                .iter()
                .map(|home| home.join(".config/containers/policy.json"))
                .chain([PathBuf::from("/etc/containers/policy.json")])
                .collect(),
        };
        let of_host = [
            "/run/ostree/auth.json",
            "/etc/ostree/auth.json",
            "/usr/lib/ostree/auth.json",
        ];
        let of_root = root.iter().flat_map(|root| {
            ["etc/ostree/auth.json", "usr/lib/ostree/auth.json"]
                .map(|file| AuthFile::in_root(root, file))
        });
        let auth_files = self.authfile.iter().map(AuthFile::of_host).chain(of_root);
        SourceOptions {
            spool_dir: self.spool_dir(),
            policy_paths,
            skopeo: SkopeoOptions {
                policy: self.policy.clone(),
                auth_files: auth_files.chain(of_host.map(AuthFile::of_host)).collect(),
                tls_verify: !self.no_tls_verify,
                idle: config.sync.idle_timeout,
                ..SkopeoOptions::default()
            },
        }
    }
}

fn default_spool() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    match cache.or_else(home).filter(|_| !sys::is_root()) {
        Some(cache) => cache.join("boundstore"),
        None => "/var/cache/boundstore".into(),
    }
}
