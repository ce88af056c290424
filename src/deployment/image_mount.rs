//! Mounting an EROFS image of the repository over its objects, detached.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use crate::{
    name::ObjectId,
    repo::{RepoError, RepoView},
    sys::{self, MountError, Overlay},
};

/// How an image is to be mounted.
#[derive(Debug)]
pub(super) struct ImageMount<'a> {
    /// The mount's source, as the mount table will show it.
    pub(super) source: String,
    /// Whether it may be mounted where the kernel cannot check what is read.
    pub(super) allow_missing_verity: bool,
    /// The `context=` mount option, where SELinux is on.
    pub(super) context: Option<String>,
    /// A directory of ours below `/run`.
    pub(super) run_dir: &'a Path,
}

/// Why an image was not mounted.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageMountError {
    #[error(transparent)]
    Repo(#[from] RepoError),
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// `EINVAL`, the same number on every architecture.
const EINVAL: i32 = 22;

impl ImageMount<'_> {
    /// The detached mount of `image`, and whether the kernel checks what is
    /// read from it.
    pub(super) fn mount(
        &self,
        view: &RepoView,
        image: &ObjectId,
    ) -> Result<(OwnedFd, bool), ImageMountError> {
        let image = view.open_object(image)?;
        let objects = view.objects_dir().map_err(RepoError::from)?;
        // A mount that was attached for an overlay cannot be attached again:
        // each try needs its own.
        let overlay = |through_loop, require_verity| {
            let metadata = sys::mount_erofs(&image, through_loop)?;
            let mount = sys::mount_overlay(&Overlay {
                metadata: metadata.as_fd(),
                objects: objects.as_fd(),
                require_verity,
                source: self.source.clone(),
                context: self.context.clone(),
                run_dir: self.run_dir,
            })?;
            Ok((mount, require_verity))
        };
        let checked = |through_loop| match overlay(through_loop, view.is_secure()) {
            Err(MountError::NoVerityRequire(_)) if self.allow_missing_verity => {
                overlay(through_loop, false)
            }
            other => other,
        };
        match checked(false) {
            // Some stable kernels count a file-backed EROFS as one level of
            // stacking too many; over a loop device it is not counted.
            Err(MountError::Step {
                filesystem: "overlay",
                source,
                ..
            }) if source.raw_os_error() == Some(EINVAL) => Ok(checked(true)?),
            other => Ok(other?),
        }
    }
}
