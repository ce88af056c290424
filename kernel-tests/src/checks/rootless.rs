//! Users without privileges, and root of a user namespace (100000 outside):
//! `kernel-matrix`, section g. A set is mounted by the host's root; everybody may
//! read it, though only root may enter the repository.
//!
//! Left out: overlays of such users with `metacopy` or data-only layers, which
//! neither podman nor boundstore makes; overlays without `userxattr`, which
//! podman makes on no kernel that has it; EROFS through a loop device, whose
//! nodes belong to the host's root; podman itself, which `vm` runs elsewhere.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    capability::Capability::DatadirPlus,
    check::{Check, either, is},
    errno,
    fixture::{
        composefs::Composefs,
        container::{Container, owners, use_as_root},
        layout::{LayerBlob, Layout, tar},
        mounts::{self, Opt, mount_at, new_mount, outcome},
        reading,
        store::Store,
        user_namespace::{FIRST, UserNamespace, as_user},
        xattrs,
    },
    guest::Guest,
};

#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    Check { name: "read_by_a_user", row: "a mounted store read by another user", observe: read_by_a_user, expect: |_| is(READABLE) },
    Check { name: "read_by_a_namespaces_root", row: ".. by root of a user namespace", observe: read_by_a_namespaces_root, expect: |_| is(READABLE) },
    Check { name: "objects_by_a_user", row: "the object itself, read by another user; by root of a user namespace", observe: objects_by_a_user, expect: |_| is("0700; EACCES; EACCES") },
    Check { name: "locks", row: "the store's lock files opened by another user: to read; to write", observe: locks, expect: |_| is("yes; EROFS") },
    Check { name: "unmapped_owners", row: "owners in a set, seen from a user namespace", observe: unmapped_owners, expect: |_| is("65534:65534 65534:65534") },
    Check { name: "mount_command", row: "`boundstore mount` as root of a user namespace", observe: mount_command, expect: |_| is("exit 1: Permission denied") },
    Check { name: "erofs", row: "EROFS from a file, mounted in a user namespace", observe: erofs, expect: |_| is("EPERM at create") },
    Check { name: "trusted_overlay", row: "an overlay of root's EROFS and objects, mounted in a user namespace; read", observe: trusted_overlay, expect: |can| either(can.has(DatadirPlus), "EPERM at create", "OTHER BYTES READ") },
    Check { name: "container", row: "a container's overlay (userxattr) of a user namespace on a set", observe: container, expect: |_| is("65534:65534 65534:65534; read; append EACCES, chown EPERM") },
    Check { name: "container_on_store", row: ".. on a store whose image deleted a file and emptied a folder", observe: container_on_store, expect: |_| is("data dir etc; new") },
    Check { name: "nothing_for_overlays", row: "whiteouts and overlay attributes in that store", observe: nothing_for_overlays, expect: |_| is("none") },
    Check { name: "container_on_idmapped_set", row: "a container's overlay (userxattr) of a user namespace on a set over EROFS that root idmapped", observe: container_on_idmapped_set, expect: |_| is("0:0 1000:1000; read; changed") },
];

const READABLE: &str = "read";
/// A user of the host.
const USER: u32 = 1000;

fn store(guest: &Guest) -> Result<Store> {
    let store = Store::secure(guest)?.with_options(&["--allow-missing-verity"]);
    store.mount()?;
    Ok(store)
}

/// Of an image whose second layer deletes a file and empties a folder.
fn store_of_deletions(guest: &Guest) -> Result<Store> {
    let mut layout = Layout::new(&guest.path("layout"));
    let base = tar(&[
        ("etc/", b""),
        ("gone", b"1"),
        ("dir/", b""),
        ("dir/old", b"1"),
    ]);
    let top = tar(&[
        (".wh.gone", b""),
        ("dir/.wh..wh..opq", b""),
        ("dir/new", b"2"),
        ("data", &Store::data()),
    ]);
    layout.image("v1", &[LayerBlob::plain(&base), LayerBlob::plain(&top)]);
    let repo = guest.path("repo");
    let store = Store::unsynced(guest, &repo, &["--allow-missing-verity"])?;
    let image = layout.arg("localhost/app:1", "v1");
    let said = store.run(&["sync", "--deployment", "d", "--image", &image])?;
    ensure!(said.status == 0, "sync: {}", said.stderr);
    store.mount()?;
    Ok(store)
}

fn read_by_a_user(guest: &Guest) -> Result<String> {
    let file = store(guest)?.file()?;
    as_user(USER, || Ok(reading::read(&file, &Store::data())))
}

fn read_by_a_namespaces_root(guest: &Guest) -> Result<String> {
    let file = store(guest)?.file()?;
    UserNamespace::new()?.run(|| Ok(reading::read(&file, &Store::data())))
}

fn objects_by_a_user(guest: &Guest) -> Result<String> {
    let object = store(guest)?.object();
    let mode = fs::metadata(guest.path("repo"))?.permissions().mode() & 0o7777;
    let open = || {
        Ok(match File::open(&object) {
            Ok(_) => "OPENED".into(),
            Err(error) => errno::name(error),
        })
    };
    let user = as_user(USER, open)?;
    let root = UserNamespace::new()?.run(open)?;
    Ok(format!("{mode:04o}; {user}; {root}"))
}

/// podman takes a read lock on each of them.
fn locks(guest: &Guest) -> Result<String> {
    let store = store(guest)?;
    let open = |options: &OpenOptions| {
        for lock in ["overlay-images/images.lock", "overlay-layers/layers.lock"] {
            if let Err(error) = options.open(store.target().join(lock)) {
                return errno::name(error);
            }
        }
        "yes".to_owned()
    };
    as_user(USER, || {
        let read = open(OpenOptions::new().read(true));
        Ok(format!(
            "{read}; {}",
            open(OpenOptions::new().read(true).write(true))
        ))
    })
}

fn unmapped_owners(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    composefs.mount()?;
    UserNamespace::new()?.run(|| Ok(owners(&composefs.path(""))))
}

fn mount_command(guest: &Guest) -> Result<String> {
    let store = Store::secure(guest)?;
    UserNamespace::new()?.run(|| Ok(store.mount()?.outcome(&["Permission denied"])))
}

fn erofs(guest: &Guest) -> Result<String> {
    // Where everybody may read it.
    let image = guest.path("image");
    fs::copy(Composefs::insecure(guest)?.image(), &image)?;
    let source = image.to_string_lossy().into_owned();
    UserNamespace::new()?.run(|| {
        let options = [Opt::Flag("ro"), Opt::Text("source", &source)];
        Ok(outcome(new_mount("erofs", &options)))
    })
}

/// Such a root sees no `trusted.*`: where it may mount, files are holes.
fn trusted_overlay(guest: &Guest) -> Result<String> {
    let composefs = Composefs::insecure(guest)?;
    let metadata = guest.path("meta");
    mounts::attach(&composefs.mount_metadata(false)?, &metadata)?;
    let repo = composefs.objects();
    let repo = repo.parent().context("the objects are in no folder")?;
    fs::set_permissions(repo, fs::Permissions::from_mode(0o755))?;
    let target = guest.folder("merged")?;
    let layers = format!("{}:{}", metadata.display(), composefs.objects().display());
    UserNamespace::new()?.run(|| {
        let options = [
            Opt::Flag("ro"),
            Opt::Text("metacopy", "on"),
            Opt::Text("redirect_dir", "on"),
            Opt::Text("lowerdir", &layers),
        ];
        Ok(match mount_at("overlay", &options, &target) {
            Ok(()) => reading::read(&target.join("file"), &Composefs::content()),
            Err(refused) => refused.to_string(),
        })
    })
}

/// Runs `work` where a container of a user namespace is mounted.
fn in_container(
    guest: &Guest,
    lower: &Path,
    namespace: &UserNamespace,
    work: impl FnOnce(&Path) -> Result<String>,
) -> Result<String> {
    let container = Container::new(guest, lower, FIRST)?;
    namespace.run(|| match container.mount(&[Opt::Flag("userxattr")]) {
        Ok(()) => work(&container.root),
        Err(refused) => Ok(refused.to_string()),
    })
}

fn container(guest: &Guest) -> Result<String> {
    let composefs = Composefs::secure(guest)?;
    composefs.mount()?;
    let work = |root: &Path| Ok(use_as_root(root));
    in_container(guest, &composefs.path(""), &UserNamespace::new()?, work)
}

fn container_on_store(guest: &Guest) -> Result<String> {
    let file = store_of_deletions(guest)?.file()?;
    let rootfs = file.parent().context("the file is in no folder")?;
    in_container(guest, rootfs, &UserNamespace::new()?, |root| {
        Ok(format!(
            "{}; {}",
            reading::list(root),
            reading::list(&root.join("dir"))
        ))
    })
}

fn nothing_for_overlays(guest: &Guest) -> Result<String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    let store = store_of_deletions(guest)?;
    let mut found = Vec::new();
    for (path, _) in reading::walk(store.target())? {
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
            found.push(format!("whiteout {}", path.display()));
        }
        let mut names = xattrs::names(&path)?;
        names.retain(|name| name.contains(".overlay."));
        found.extend(
            names
                .iter()
                .map(|name| format!("{name} of {}", path.display())),
        );
    }
    if found.is_empty() {
        found.push("none".into());
    }
    Ok(found.join(", "))
}

fn container_on_idmapped_set(guest: &Guest) -> Result<String> {
    let namespace = UserNamespace::new()?;
    let composefs = Composefs::secure(guest)?;
    composefs.mount_idmapped(&namespace)?;
    let work = |root: &Path| Ok(use_as_root(root));
    in_container(guest, &composefs.path(""), &namespace, work)
}
