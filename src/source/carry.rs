//! Whole layouts to and from registries, by skopeo.

use std::{path::Path, time::Duration};

use super::{
    Layout, SkopeoOptions, SourceError,
    credentials::Credentials,
    skopeo::{Judge, Skopeo, runtime},
};
use crate::name::ImageName;

/// The slowest that a copy may be, in bytes a second, before it is given up.
const SLOWEST: u64 = 32 << 10;
/// How long a copy may take whose size nobody knows before.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// Pushes the only thing that is in the layout at `folder`, an index with all
/// that it lists, as `to`; `bytes` is its size. The layout is the caller's own:
/// no policy is asked.
///
/// # Errors
/// [`SourceError`].
pub fn push_layout(
    options: &SkopeoOptions,
    folder: &Path,
    to: &ImageName,
    bytes: u64,
) -> Result<(), SourceError> {
    let limit = options.idle + Duration::from_secs(bytes / SLOWEST);
    let from = format!("oci:{}", folder.display());
    let to = format!("docker://{to}");
    copy(options, &from, &to, Judge::Nobody, limit, None)
}

/// Fetches what `from` names, an index with all that it lists, into a new layout
/// at `folder`, if the policy accepts each of the manifests.
///
/// # Errors
/// [`SourceError`].
pub fn fetch_layout(
    options: &SkopeoOptions,
    from: &ImageName,
    folder: &Path,
) -> Result<Layout, SourceError> {
    let to = format!("oci:{}", folder.display());
    let from = format!("docker://{from}");
    copy(options, &from, &to, Judge::Policy, LONGEST, Some(folder))?;
    Layout::open_dir(folder, None)
}

fn copy(
    options: &SkopeoOptions,
    from: &str,
    to: &str,
    judge: Judge,
    limit: Duration,
    growing: Option<&Path>,
) -> Result<(), SourceError> {
    let skopeo = Skopeo {
        options,
        tls_verify: options.tls_verify,
        credentials: Credentials::choose(options.auth_files.iter())?,
    };
    let runtime = runtime()?;
    let copied = runtime.block_on(skopeo.copy(from, to, judge, limit, growing));
    runtime.shutdown_background();
    copied
}
