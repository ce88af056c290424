//! SELinux enforced: what the mount option `context=` does for a set, and what
//! it does not. A container's domain may read, execute and relocate
//! `container_ro_file_t`, as container-selinux lets it, and may do anything with
//! its own `container_file_t`; objects have the label of files that nobody has
//! labelled, of which containers may do nothing.
//!
//! Left out: a mount before any policy is loaded, as only an initramfs could
//! make it, and the policies of distributions.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Result;
use boundstore::deployment::Mounter;

use crate::{
    capability::{
        Capabilities,
        Capability::{Selinux, SelinuxMprotect},
    },
    check::{Check, Expected, either},
    errno,
    fixture::{
        composefs::Composefs,
        container::Container,
        mounts::Opt,
        reading,
        selinux::{self, CONTAINER, CONTAINER_FILES, IMAGE, RELOCATED, enforced, in_domain},
        store::Store,
    },
    guest::Guest,
};

#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    Check { name: "without_context", row: "a set mounted without `context=`: labels; a container reads, executes", observe: without_context, expect: |can| on(can, "unlabeled_t:s0; EACCES at stat; EACCES") },
    Check { name: "context", row: "a set mounted with `context=`: labels; a container reads, executes", observe: context, expect: |can| on(can, "container_ro_file_t:s0; read; executed") },
    Check { name: "command", row: "`boundstore mount`: labels in the store; a container reads", observe: command, expect: |can| on(can, "exit 0; container_ro_file_t:s0; read") },
    Check { name: "command_asks_policy", row: ".. where the host's matchpathcon says `usr_t`", observe: command_asks_policy, expect: |can| on(can, "exit 0; usr_t:s0; EACCES at stat") },
    Check { name: "command_with_unknown_label", row: ".. where it says a type that the kernel's policy has not", observe: command_with_unknown_label, expect: |can| on(can, "exit 1: context=") },
    Check { name: "empty_store", row: "labels of the empty store", observe: empty_store, expect: |can| on(can, "tmpfs_t:s0") },
    Check { name: "set_written", row: "a container writes to a set, changes a label", observe: set_written, expect: |can| on(can, "EROFS; EROFS") },
    Check { name: "container", row: "a container's overlay with a `context=` of its own: labels; it reads, executes, writes", observe: container, expect: |can| on(can, "container_file_t:s0:c1,c2; read; executed; written") },
    Check { name: "other_container", row: ".. used by a container of other categories", observe: other_container, expect: |can| on(can, "EACCES at stat; EACCES; EACCES") },
    // The root is that of the upper folder, which nobody has labelled here.
    Check { name: "container_without_context", row: "a container's overlay without `context=`", observe: container_without_context, expect: |can| on(can, "container_ro_file_t:s0 unlabeled_t:s0; read; executed; EACCES") },
    Check { name: "relocation", row: "a container relocates a file of a set: mprotect after mmap", observe: relocation, expect: |can| relocation_expected(can, RELOCATED) },
    Check { name: "relocation_in_container", row: ".. of a set below its overlay", observe: relocation_in_container, expect: |can| relocation_expected(can, RELOCATED) },
    Check { name: "relocation_of_labelled_object", row: ".. where the object itself is `container_ro_file_t`", observe: relocation_of_labelled_object, expect: |can| on(can, RELOCATED) },
    Check { name: "mounter_may_read", row: "a set mounted by a domain that may read objects: a container reads, executes", observe: |guest| mounted_by(guest, "reader_t", |set| used(&set.path(""))), expect: |can| on(can, "read; EACCES") },
    Check { name: "mounter_may_execute", row: ".. by one that may map and execute them, too", observe: |guest| mounted_by(guest, "runner_t", |set| used(&set.path(""))), expect: |can| on(can, "read; executed") },
    Check { name: "relocation_mounter_may_read", row: "a set mounted by a domain that may read objects: a container relocates", observe: |guest| relocated_by(guest, "reader_t"), expect: |can| relocation_expected(can, "readable EACCES at mmap, executable EACCES at mmap, modified and executable EACCES at mmap") },
    Check { name: "relocation_mounter_may_execute", row: ".. by one that may map and execute them, too", observe: |guest| relocated_by(guest, "runner_t"), expect: |can| relocation_expected(can, "readable yes, executable yes, modified and executable EACCES") },
];

/// What is expected where there is SELinux.
fn on(can: &Capabilities, observed: &'static str) -> Expected {
    either(can.has(Selinux), observed, selinux::NONE)
}

/// The object's label counts, on kernels that ask for it at mprotect.
fn relocation_expected(can: &Capabilities, otherwise: &'static str) -> Expected {
    if can.has(SelinuxMprotect) {
        on(can, otherwise)
    } else {
        on(
            can,
            "readable EACCES, executable EACCES, modified and executable EACCES",
        )
    }
}

/// All labels of a tree.
fn labels(root: &Path) -> Result<String> {
    let mut labels = vec![selinux::label(root)];
    for (path, _) in reading::walk(root)? {
        labels.push(selinux::label(&path));
    }
    labels.sort();
    labels.dedup();
    Ok(labels.join(" "))
}

/// What a container can do with the files of a [`Composefs`].
fn used(root: &Path) -> Result<String> {
    in_domain(CONTAINER, || {
        let read = reading::read(&root.join("file"), &Composefs::content());
        Ok(format!(
            "{read}; {}",
            selinux::execute(&root.join("program"))
        ))
    })
}

fn written(file: &Path) -> String {
    let write = || {
        OpenOptions::new()
            .append(true)
            .open(file)?
            .write_all(b"more")
    };
    match write() {
        Ok(()) => "written".into(),
        Err(error) => errno::name(error),
    }
}

fn labels_and_use(composefs: &Composefs) -> Result<String> {
    composefs.mount()?;
    let root = composefs.path("");
    Ok(format!("{}; {}", labels(&root)?, used(&root)?))
}

fn without_context(guest: &Guest) -> Result<String> {
    enforced(guest, || labels_and_use(&Composefs::secure(guest)?))
}

fn context(guest: &Guest) -> Result<String> {
    enforced(guest, || {
        labels_and_use(&Composefs::secure(guest)?.with_context(IMAGE))
    })
}

fn mount_command(guest: &Guest) -> Result<String> {
    let store = Store::secure(guest)?.with_options(&["--allow-missing-verity"]);
    let said = store.mount()?;
    if said.status != 0 {
        return Ok(said.outcome(&["context="]));
    }
    let (labels, file) = (labels(store.target())?, store.file()?);
    let read = in_domain(CONTAINER, || Ok(reading::read(&file, &Store::data())))?;
    Ok(format!("exit 0; {labels}; {read}"))
}

fn command(guest: &Guest) -> Result<String> {
    enforced(guest, || mount_command(guest))
}

fn command_asks_policy(guest: &Guest) -> Result<String> {
    enforced(guest, || {
        selinux::install_matchpathcon("system_u:object_r:usr_t:s0")?;
        mount_command(guest)
    })
}

fn command_with_unknown_label(guest: &Guest) -> Result<String> {
    enforced(guest, || {
        selinux::install_matchpathcon("system_u:object_r:no_such_t:s0")?;
        mount_command(guest)
    })
}

fn empty_store(guest: &Guest) -> Result<String> {
    enforced(guest, || {
        let target = guest.folder("empty")?;
        let mounter = Mounter {
            run_dir: guest.folder("run")?,
            allow_missing_verity: false,
            context: None,
            lock_limit: Mounter::LOCK_LIMIT,
        };
        mounter.mount_empty(&target)?;
        labels(&target)
    })
}

/// A set with its label, mounted.
fn labelled(guest: &Guest) -> Result<Composefs> {
    let composefs = Composefs::secure(guest)?.with_context(IMAGE);
    composefs.mount()?;
    Ok(composefs)
}

fn set_written(guest: &Guest) -> Result<String> {
    enforced(guest, || {
        let file = labelled(guest)?.path("file");
        in_domain(CONTAINER, || {
            let relabelled = match selinux::set_label(&file, CONTAINER_FILES) {
                Ok(()) => "CHANGED".into(),
                Err(error) => reading::errno_of(&error),
            };
            Ok(format!("{}; {relabelled}", written(&file)))
        })
    })
}

/// A container on a labelled set.
fn container_root(guest: &Guest, options: &[Opt<'_>]) -> Result<PathBuf> {
    let container = Container::new(guest, &labelled(guest)?.path(""), 0)?;
    container.mount(options)?;
    Ok(container.root)
}

const PODMANS: Opt<'static> = Opt::Text("context", CONTAINER_FILES);

fn container(guest: &Guest) -> Result<String> {
    enforced(guest, || {
        let root = container_root(guest, &[PODMANS])?;
        let (labels, used) = (labels(&root)?, used(&root)?);
        let written = in_domain(CONTAINER, || Ok(written(&root.join("file"))))?;
        Ok(format!("{labels}; {used}; {written}"))
    })
}

fn other_container(guest: &Guest) -> Result<String> {
    enforced(guest, || {
        let root = container_root(guest, &[PODMANS])?;
        in_domain("system_u:system_r:container_t:s0:c3,c4", || {
            let read = reading::read(&root.join("file"), &Composefs::content());
            let executed = selinux::execute(&root.join("program"));
            Ok(format!(
                "{read}; {executed}; {}",
                written(&root.join("file"))
            ))
        })
    })
}

fn container_without_context(guest: &Guest) -> Result<String> {
    enforced(guest, || {
        let root = container_root(guest, &[])?;
        let (labels, used) = (labels(&root)?, used(&root)?);
        let written = in_domain(CONTAINER, || Ok(written(&root.join("file"))))?;
        Ok(format!("{labels}; {used}; {written}"))
    })
}

fn relocated(file: &Path) -> Result<String> {
    in_domain(CONTAINER, || selinux::relocate(file))
}

fn relocation(guest: &Guest) -> Result<String> {
    enforced(guest, || relocated(&labelled(guest)?.path("file")))
}

fn relocation_in_container(guest: &Guest) -> Result<String> {
    enforced(guest, || {
        relocated(&container_root(guest, &[PODMANS])?.join("file"))
    })
}

fn relocation_of_labelled_object(guest: &Guest) -> Result<String> {
    enforced(guest, || {
        let composefs = labelled(guest)?;
        selinux::set_label(&composefs.object(), IMAGE)?;
        relocated(&composefs.path("file"))
    })
}

/// What the overlay does below itself it does with the mounter's rights.
fn mounted_by(
    guest: &Guest,
    domain: &str,
    look: impl FnOnce(&Composefs) -> Result<String>,
) -> Result<String> {
    enforced(guest, || {
        let composefs = Composefs::secure(guest)?.with_context(IMAGE);
        let domain = format!("system_u:system_r:{domain}:s0-s0:c0.c4");
        in_domain(&domain, || {
            composefs.mount()?;
            Ok(String::new())
        })?;
        look(&composefs)
    })
}

fn relocated_by(guest: &Guest, domain: &str) -> Result<String> {
    mounted_by(guest, domain, |set| relocated(&set.path("file")))
}
