//! Finding out what this kernel can, each by doing it. Probes are checks too:
//! what a kernel has of a later one, it must have of an earlier one.

use std::{
    fs::{self, File},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{CWD, Mode, OFlags, open},
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};

use crate::{
    capability::{
        Capabilities,
        Capability::{self, *},
        YES,
    },
    check::{Check, Expected, is},
    errno,
    fixture::{
        composefs::Composefs,
        mounts::{self, Opt, mount_at, new_mount, outcome},
        overlay, selinux, tamper,
        user_namespace::UserNamespace,
        xattrs,
    },
    guest::Guest,
    sys,
};

/// The section's name.
pub const SECTION: &str = "capability";

/// In the order in which kernels got them, where that is known. The names are
/// those of the variants.
#[rustfmt::skip]
pub const PROBES: &[(Capability, Check)] = &[
    (FsVerity, Check { name: "fs_verity", row: "fs-verity on ext4 with 4 KiB blocks", observe: fs_verity, expect: |_| Expected::Anything }),
    (ErofsFromLoop, Check { name: "erofs_from_loop", row: "EROFS from a loop device", observe: |guest| erofs(guest, true), expect: |_| is(YES) }),
    (DataInLower, Check { name: "data_in_lower", row: "overlay `lowerdir=a:b`, data in b", observe: |guest| overlay(guest, Form::Colon, &[METACOPY]), expect: |_| is(YES) }),
    (DataOnly, Check { name: "data_only", row: "overlay `lowerdir=a::b`", observe: |guest| overlay(guest, Form::Colons, &[METACOPY]), expect: |can| before(can, &[VerityRequire, DatadirPlus]) }),
    (VerityRequire, Check { name: "verity_require", row: "overlay `verity=require`", observe: |guest| overlay(guest, Form::Colon, &[METACOPY, Opt::Text("verity", "require")]), expect: |can| before(can, &[DatadirPlus]) }),
    (DatadirPlus, Check { name: "datadir_plus", row: "overlay `lowerdir+`, `datadir+`", observe: |guest| overlay(guest, Form::Plus, &[METACOPY]), expect: |can| before(can, &[ErofsFromFile, LayersByHandle]) }),
    (XattrEscapes, Check { name: "xattr_escapes", row: "`trusted.overlay.*` set on an overlay, stored escaped", observe: xattr_escapes, expect: |can| before(can, &[DatadirPlus, XattrWhiteouts]) }),
    (XattrWhiteouts, Check { name: "xattr_whiteouts", row: "a file with `overlay.whiteout` in a folder with `opaque=x` hides", observe: xattr_whiteouts, expect: |can| before(can, &[ErofsFromFile]) }),
    (ErofsFromFile, Check { name: "erofs_from_file", row: "EROFS from a file", observe: |guest| erofs(guest, false), expect: |_| Expected::Anything }),
    (LayersByHandle, Check { name: "layers_by_handle", row: "overlay layers by handle (O_PATH)", observe: layers_by_handle, expect: |can| before(can, &[DataWithoutMetacopy]) }),
    (DetachedLayers, Check { name: "detached_layers", row: "overlay layers from a mount attached nowhere", observe: detached_layers, expect: |_| Expected::Anything }),
    (DataWithoutMetacopy, Check { name: "data_without_metacopy", row: "overlay `datadir+` without `metacopy=on`", observe: |guest| overlay(guest, Form::Plus, &[]), expect: |_| Expected::Anything }),
    (OverlayTmpfile, Check { name: "overlay_tmpfile", row: "`O_TMPFILE` on an overlay", observe: overlay_tmpfile, expect: |can| before(can, &[DataOnly]) }),
    (MountBeneath, Check { name: "mount_beneath", row: "a mount attached beneath another", observe: mount_beneath, expect: |can| before(can, &[DatadirPlus]) }),
    (IdmapExt4, Check { name: "idmap_ext4", row: "idmapped mount of ext4", observe: |guest| idmap_path(&guest.folder("dir")?), expect: |_| is(YES) }),
    (IdmapErofs, Check { name: "idmap_erofs", row: "idmapped mount of EROFS", observe: idmap_erofs, expect: |_| is(YES) }),
    (IdmapTmpfs, Check { name: "idmap_tmpfs", row: "idmapped mount of tmpfs", observe: |_| idmap(&new_mount("tmpfs", &[])?), expect: |can| before(can, &[DataOnly]) }),
    // The day this changes, `--userns` on a mounted set can work: docs say it cannot.
    (IdmapOverlay, Check { name: "idmap_overlay", row: "idmapped mount of an overlay", observe: idmap_overlay, expect: |_| is("EINVAL") }),
    (Selinux, Check { name: "selinux", row: "SELinux, asked for at boot", observe: |_| filesystem("selinuxfs"), expect: |_| Expected::Anything }),
    (SelinuxMprotect, Check { name: "selinux_mprotect", row: "SELinux judges `mprotect` on an overlay by the overlay's label", observe: selinux_mprotect, expect: |_| Expected::Anything }),
    (Xfs, Check { name: "xfs", row: "XFS", observe: |_| filesystem("xfs"), expect: |_| Expected::Anything }),
    (Btrfs, Check { name: "btrfs", row: "Btrfs", observe: |_| filesystem("btrfs"), expect: |_| Expected::Anything }),
];

/// Every probe with its id.
pub fn all() -> impl Iterator<Item = (Capability, String, &'static Check)> {
    let id = |check: &Check| format!("{SECTION}::{}", check.name);
    PROBES
        .iter()
        .map(move |(capability, check)| (*capability, id(check), check))
}

/// A kernel that has any of the later ones must have this one.
fn before(can: &Capabilities, later: &[Capability]) -> Expected {
    if later.iter().any(|later| can.has(*later)) {
        is(YES)
    } else {
        Expected::Anything
    }
}

const METACOPY: Opt<'static> = Opt::Text("metacopy", "on");

fn yes() -> Result<String> {
    Ok(YES.to_owned())
}

fn refused(error: impl Into<std::io::Error>) -> Result<String> {
    Ok(errno::name(error))
}

fn fs_verity(guest: &Guest) -> Result<String> {
    let path = guest.path("file");
    fs::write(&path, vec![7; 10_000])?;
    let file = File::open(&path)?;
    if let Err(error) = sys::enable_verity(&file) {
        return refused(error);
    }
    // Some kernels say yes to what they do not do.
    tamper::flip(&path, 5000)?;
    match fs::read(&path) {
        Ok(_) => Ok("on, but a changed block is read".into()),
        Err(_) => yes(),
    }
}

fn erofs(guest: &Guest, through_loop: bool) -> Result<String> {
    let composefs = Composefs::insecure(guest)?;
    if through_loop {
        composefs.mount_metadata(true)?;
        return yes();
    }
    let image = composefs.image();
    let options = [
        Opt::Flag("ro"),
        Opt::Text("source", &image.to_string_lossy()),
    ];
    Ok(outcome(new_mount("erofs", &options)))
}

/// How an overlay is told its layers.
#[derive(Debug, Clone, Copy)]
enum Form {
    Colon,
    Colons,
    Plus,
}

/// The metadata at a path, and the objects, by names short enough for an option.
fn layers(guest: &Guest) -> Result<(PathBuf, PathBuf)> {
    let composefs = Composefs::insecure(guest)?;
    let metadata = guest.path("meta");
    mounts::attach(&composefs.mount_metadata(true)?, &metadata)?;
    Ok((metadata, composefs.objects()))
}

fn overlay(guest: &Guest, form: Form, options: &[Opt<'_>]) -> Result<String> {
    let (metadata, objects) = layers(guest)?;
    let (metadata, objects) = (metadata.to_string_lossy(), objects.to_string_lossy());
    let colon = format!("{metadata}:{objects}");
    let colons = format!("{metadata}::{objects}");
    let told: &[Opt<'_>] = match form {
        Form::Colon => &[Opt::Text("lowerdir", &colon)],
        Form::Colons => &[Opt::Text("lowerdir", &colons)],
        Form::Plus => &[
            Opt::Text("lowerdir+", &metadata),
            Opt::Text("datadir+", &objects),
        ],
    };
    Ok(outcome(new_mount(
        "overlay",
        &[&[Opt::Flag("ro")], options, told].concat(),
    )))
}

fn layers_by_handle(guest: &Guest) -> Result<String> {
    let (metadata, objects) = layers(guest)?;
    let handle = |path: &Path| open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let (metadata, objects) = (handle(&metadata)?, handle(&objects)?);
    let layers = [
        METACOPY,
        Opt::Handle("lowerdir+", metadata.as_fd()),
        Opt::Handle("datadir+", objects.as_fd()),
    ];
    Ok(outcome(new_mount("overlay", &layers)))
}

fn detached_layers(guest: &Guest) -> Result<String> {
    let composefs = Composefs::insecure(guest)?;
    let metadata = composefs.mount_metadata(true)?;
    let metadata = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&metadata)
    );
    let objects = composefs.objects();
    let lower = format!("{metadata}:{}", objects.display());
    Ok(outcome(new_mount(
        "overlay",
        &[METACOPY, Opt::Text("lowerdir", &lower)],
    )))
}

/// A writable overlay of two lower folders, `one` over `two`.
fn two_lowers(guest: &Guest, prepare: impl Fn(&Path, &Path) -> Result<()>) -> Result<PathBuf> {
    let (one, two) = (guest.folder("one")?, guest.folder("two")?);
    prepare(&one, &two)?;
    Ok(overlay::container(guest, "merged", &[&one, &two], &[])??)
}

fn xattr_escapes(guest: &Guest) -> Result<String> {
    let merged = two_lowers(guest, |_, _| Ok(()))?;
    let file = merged.join("file");
    fs::write(&file, "")?;
    match xattrs::set(&file, "trusted.overlay.any", b"value") {
        Ok(()) => yes(),
        Err(errno) => refused(errno),
    }
}

fn xattr_whiteouts(guest: &Guest) -> Result<String> {
    let merged = two_lowers(guest, |one, two| {
        for folder in [one, two] {
            fs::create_dir(folder.join("dir"))?;
            fs::write(folder.join("dir/gone"), "")?;
        }
        xattrs::set(&one.join("dir"), "trusted.overlay.opaque", b"x")?;
        Ok(xattrs::set(
            &one.join("dir/gone"),
            "trusted.overlay.whiteout",
            b"",
        )?)
    })?;
    match fs::read_dir(merged.join("dir"))?.count() {
        0 => yes(),
        _ => Ok("the file is seen".into()),
    }
}

fn overlay_tmpfile(guest: &Guest) -> Result<String> {
    let merged = two_lowers(guest, |_, _| Ok(()))?;
    match open(merged, OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR) {
        Ok(_) => yes(),
        Err(errno) => refused(errno),
    }
}

fn mount_beneath(guest: &Guest) -> Result<String> {
    let target = guest.folder("target")?;
    mount_at("tmpfs", &[], &target)?;
    let below = match new_mount("tmpfs", &[]) {
        Ok(mount) => mount,
        Err(refused) => return Ok(outcome::<()>(Err(refused))),
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_BENEATH;
    match move_mount(&below, "", CWD, &target, flags) {
        Ok(()) => yes(),
        Err(errno) => refused(errno),
    }
}

fn idmap(mount: &OwnedFd) -> Result<String> {
    let namespace = UserNamespace::new()?;
    match sys::idmap(mount, &namespace.file) {
        Ok(()) => yes(),
        Err(error) => refused(error),
    }
}

/// Of a copy of the mount that a path is on.
fn idmap_path(path: &Path) -> Result<String> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    idmap(&open_tree(CWD, path, flags).context("open_tree")?)
}

fn idmap_erofs(guest: &Guest) -> Result<String> {
    idmap(&Composefs::insecure(guest)?.mount_metadata(false)?)
}

fn idmap_overlay(guest: &Guest) -> Result<String> {
    idmap(&Composefs::insecure(guest)?.mount_detached()?)
}

/// Whether a container may protect a private mapping of a file that only the
/// overlay labels as its own.
fn selinux_mprotect(guest: &Guest) -> Result<String> {
    if !selinux::start()? {
        return Ok(selinux::NONE.into());
    }
    let (lower, empty) = (guest.folder("lower")?, guest.folder("empty")?);
    fs::write(lower.join("file"), [0; 4096])?;
    let target = guest.folder("merged")?;
    let layers = format!("{}:{}", lower.display(), empty.display());
    let options = [
        Opt::Text("lowerdir", &layers),
        Opt::Text("context", selinux::IMAGE),
    ];
    mount_at("overlay", &options, &target)?;
    let steps = selinux::in_domain(selinux::CONTAINER, || {
        selinux::relocate(&target.join("file"))
    })?;
    Ok(if steps == selinux::RELOCATED {
        YES.into()
    } else {
        steps
    })
}

fn filesystem(name: &str) -> Result<String> {
    let known = fs::read_to_string("/proc/filesystems").context("read /proc/filesystems")?;
    if known
        .lines()
        .any(|line| line.split_whitespace().last() == Some(name))
    {
        return yes();
    }
    Ok("no".into())
}
