//! Mounting by file handles, with the fallbacks older kernels need
//! (kernel-matrix page, section 4).

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
        fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    },
};

use super::{DirLock, failpoint::failpoint, file::proc_path, loop_device, mount_table};
use crate::error::{Doing, PathError};

/// Why a mount failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A step of the new mount API failed.
    #[error("mount {filesystem}: {step} failed{}", messages(.kernel))]
    Step {
        /// `erofs`, `overlay`, `tmpfs`
        filesystem: &'static str,
        /// Which call, with its option.
        step: String,
        /// What the kernel said in the handle's message queue.
        kernel: Vec<String>,
        /// The error number.
        source: std::io::Error,
    },
    /// This kernel cannot require fs-verity of an overlay's data.
    #[error(
        "this kernel's overlayfs has no verity=require (Linux 6.6 has): \
         --allow-missing-verity mounts without the kernel's checks"
    )]
    NoVerityRequire(#[source] std::io::Error),
    /// A file could not be prepared.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The mount point is busy.
    #[error("{} is in use: stop what uses it, or give --lazy to detach it now and free it when the last user is gone", .0.display())]
    Busy(PathBuf),
}

fn messages(kernel: &[String]) -> String {
    if kernel.is_empty() {
        String::new()
    } else {
        format!(" (kernel: {})", kernel.join("; "))
    }
}

/// A filesystem being configured, its messages read where a step fails.
struct Context {
    fd: OwnedFd,
    filesystem: &'static str,
}

impl Context {
    fn open(filesystem: &'static str) -> Result<Self, MountError> {
        let fd =
            fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| MountError::Step {
                filesystem,
                step: "fsopen".into(),
                kernel: Vec::new(),
                source: errno.into(),
            })?;
        Ok(Self { fd, filesystem })
    }

    fn step<T>(&self, step: impl Into<String>, result: Result<T, Errno>) -> Result<T, MountError> {
        result.map_err(|errno| MountError::Step {
            filesystem: self.filesystem,
            step: step.into(),
            kernel: self.messages(),
            source: errno.into(),
        })
    }

    fn set(&self, key: &str, value: &str) -> Result<(), MountError> {
        self.step(
            format!("option {key}={value}"),
            fsconfig_set_string(&self.fd, key, value),
        )
    }

    fn flag(&self, key: &str) -> Result<(), MountError> {
        self.step(format!("option {key}"), fsconfig_set_flag(&self.fd, key))
    }

    fn mount(&self, attributes: MountAttrFlags) -> Result<OwnedFd, MountError> {
        self.step("creating it", fsconfig_create(&self.fd))?;
        let mounted = fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attributes);
        self.step("fsmount", mounted)
    }

    fn messages(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let Ok(fd) = self.fd.try_clone() else {
            return lines;
        };
        let mut file = File::from(fd);
        let mut buffer = [0; 8192];
        // Each read takes one message; ENODATA ends the queue.
        while let Ok(length) = file.read(&mut buffer) {
            if length == 0 || lines.len() > 32 {
                break;
            }
            lines.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
        }
        lines
    }
}

/// Mounts an EROFS image, detached: from the file itself, or where the kernel
/// cannot do that (before Linux 6.12, or a file on a stacked filesystem)
/// through a loop device.
///
/// # Errors
/// The step that failed and what the kernel said.
pub fn mount_erofs(image: &File, force_loop: bool) -> Result<OwnedFd, MountError> {
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mount = |source: &str| -> Result<OwnedFd, MountError> {
        let context = Context::open("erofs")?;
        context.flag("ro")?;
        context.set("source", source)?;
        context.mount(attributes)
    };
    if !force_loop {
        match mount(&proc_path(image)) {
            Err(MountError::Step { source, .. })
                if source.raw_os_error() == Some(Errno::NOTBLK.raw_os_error()) => {}
            other => return other,
        }
    }
    let (_device, path) = loop_device::attach(image)?;
    mount(&path.to_string_lossy())
}

/// What an overlay of EROFS metadata over data objects is made of.
#[derive(Debug)]
pub struct Overlay<'a> {
    /// A detached EROFS mount.
    pub metadata: BorrowedFd<'a>,
    /// The directory of objects, on a filesystem that is no overlay itself.
    pub objects: BorrowedFd<'a>,
    /// Whether the kernel must check each object's fs-verity digest.
    pub require_verity: bool,
    /// The mount's source, as the mount table will show it.
    pub source: String,
    /// A mount option `context=..` for SELinux.
    pub context: Option<String>,
    /// A directory of ours for the moment in which the metadata needs a path.
    pub run_dir: &'a Path,
}

impl Overlay<'_> {
    /// The same, but that the kernel need not check anything.
    fn unchecked(&self) -> Overlay<'_> {
        Overlay {
            require_verity: false,
            source: self.source.clone(),
            context: self.context.clone(),
            ..*self
        }
    }
}

/// Mounts a data-only overlay, detached and read-only.
///
/// Tries `lowerdir+`/`datadir+` (Linux 6.8), `lowerdir=a::b` (6.5), and where
/// verity is not required `lowerdir=a:b` (6.1).
///
/// # Errors
/// The step that failed and what the kernel said, of the first form tried.
pub fn mount_overlay(overlay: &Overlay<'_>) -> Result<OwnedFd, MountError> {
    // Kernels before 6.15 take no layer from a detached mount: it needs a
    // path for the moment. The overlay holds on to it by itself afterwards.
    let folder = overlay.run_dir.join("stage");
    let stage = folder.join("metadata");
    std::fs::create_dir_all(&stage).doing("create", &stage)?;
    let alone = DirLock::exclusive(&folder, STAGE_LIMIT)?;
    let busy = || std::io::Error::from(std::io::ErrorKind::WouldBlock);
    let _alone = alone.ok_or_else(busy).doing("lock", &folder)?;
    // What one that was killed has left there.
    while is_mount_point(&stage)? {
        unmount(&stage, Unmount::Lazy)?;
    }
    attach(overlay.metadata, &stage)?;
    let mounted = mount_overlay_forms(overlay, &stage);
    let detached = unmount(&stage, Unmount::Lazy);
    let mounted = mounted?;
    detached?;
    Ok(mounted)
}

/// How long another overlay is waited for; one takes milliseconds.
const STAGE_LIMIT: Duration = Duration::from_secs(30);

fn is_mount_point(path: &Path) -> Result<bool, PathError> {
    let path = path.canonicalize().doing("resolve", path)?;
    Ok(mount_table()?.iter().any(|mount| mount.target == path))
}

/// Tells a context which layers to take, in one of the forms.
type Layers<'a> = dyn Fn(&Context) -> Result<(), MountError> + 'a;

fn mount_overlay_forms(overlay: &Overlay<'_>, metadata: &Path) -> Result<OwnedFd, MountError> {
    let metadata = metadata.to_string_lossy();
    let objects = proc_path(&overlay.objects);
    let forms: [&Layers<'_>; 3] = [
        &|context| {
            context.set("lowerdir+", &metadata)?;
            context.set("datadir+", &objects)
        },
        &|context| context.set("lowerdir", &format!("{metadata}::{objects}")),
        &|context| context.set("lowerdir", &format!("{metadata}:{objects}")),
    ];
    let usable = if overlay.require_verity { 2 } else { 3 };
    let mut first = None;
    for form in &forms[..usable] {
        match try_overlay(overlay, form) {
            Err(error @ MountError::Step { .. }) => first = first.or(Some(error)),
            other => return other,
        }
    }
    match first {
        Some(MountError::Step { step, source, .. }) if step.starts_with("option verity") => {
            Err(MountError::NoVerityRequire(source))
        }
        // Overlayfs of Linux before 6.5 takes any option and names none when
        // it refuses to be created: whether it was this one shows without it.
        Some(MountError::Step { source, .. })
            if overlay.require_verity
                && source.raw_os_error() == Some(Errno::INVAL.raw_os_error())
                && forms
                    .iter()
                    .any(|form| try_overlay(&overlay.unchecked(), form).is_ok()) =>
        {
            Err(MountError::NoVerityRequire(source))
        }
        Some(error) => Err(error),
        None => unreachable!("at least two forms are tried"),
    }
}

fn try_overlay(overlay: &Overlay<'_>, layers: &Layers<'_>) -> Result<OwnedFd, MountError> {
    let context = Context::open("overlay")?;
    context.flag("ro")?;
    context.set("source", &overlay.source)?;
    context.set("metacopy", "on")?;
    context.set("redirect_dir", "on")?;
    if overlay.require_verity {
        context.set("verity", "require")?;
    }
    if let Some(label) = &overlay.context {
        context.set("context", label)?;
    }
    layers(&context)?;
    context.mount(MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV)
}

/// Makes a small detached tmpfs, which `fill` fills, and then makes it read-only.
///
/// # Errors
/// Those of `fill`; the step that failed and what the kernel said.
pub fn mount_tmpfs(
    source: &str,
    fill: impl FnOnce(&OwnedFd) -> Result<(), PathError>,
) -> Result<OwnedFd, MountError> {
    let context = Context::open("tmpfs")?;
    context.set("source", source)?;
    context.set("mode", "0755")?;
    context.set("size", "1m")?;
    let mount = context.mount(MountAttrFlags::empty())?;
    fill(&mount)?;
    context.flag("ro")?;
    context.step("making it read-only", fsconfig_reconfigure(&context.fd))?;
    Ok(mount)
}

/// Attaches a detached mount at `target`.
///
/// # Errors
/// Whatever the kernel says.
pub fn attach(mount: impl AsFd, target: &Path) -> Result<(), MountError> {
    failpoint!("attach").doing("mount at", target)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount, "", rustix::fs::CWD, target, flags).doing("mount at", target)?)
}

/// Attaches a detached mount beneath the mount that is seen at `target`: nobody
/// sees it until that one is unmounted. Needs Linux 6.5.
///
/// # Errors
/// Whatever the kernel says: `EINVAL` also where it cannot beneath this mount,
/// such as the root of a namespace. The mount can be attached otherwise then.
pub fn attach_beneath(mount: impl AsFd, target: &Path) -> Result<(), MountError> {
    failpoint!("attach beneath").doing("mount beneath", target)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_BENEATH;
    Ok(move_mount(mount, "", rustix::fs::CWD, target, flags).doing("mount beneath", target)?)
}

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Only where nothing uses it.
    IfIdle,
    /// From the tree now, for good when its last user is gone.
    Lazy,
}

/// Unmounts what is seen at `target`.
///
/// # Errors
/// [`MountError::Busy`] where something uses it.
pub fn unmount(target: &Path, how: Unmount) -> Result<(), MountError> {
    failpoint!("unmount").doing("unmount", target)?;
    let flags = match how {
        Unmount::IfIdle => UnmountFlags::NOFOLLOW,
        Unmount::Lazy => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    match rustix::mount::unmount(target, flags) {
        Err(Errno::BUSY) => Err(MountError::Busy(target.to_owned())),
        other => Ok(other.doing("unmount", target)?),
    }
}
