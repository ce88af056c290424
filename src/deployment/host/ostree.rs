//! The deployments of an ostree host, as libostree's `ostree-sysroot.c` loads
//! them.
//!
//! ```text
//! SYSROOT/ostree/deploy/<stateroot>/deploy/<checksum>.<serial>           its root
//! SYSROOT/ostree/deploy/<stateroot>/deploy/<checksum>.<serial>.origin
//! boot/loader/entries/ostree-*.conf    the boot menu, by ostree=/ostree/boot.N/..
//! run/ostree/staged-deployment         the staged one
//! run/ostree/staged-deployment-locked  it is held back
//! run/ostree-booted                    what directory runs
//! run/ostree/nextroot-booted           what directory a soft reboot goes to
//! ```
//! A directory without a boot entry is listed too, last and without a role:
//! `/boot` may not be mounted, and ostree, not we, decides when it goes.

use std::{
    fmt,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{
    Backend, Deployment, Host, HostError, HostPaths, Note, Staged,
    boot_entry::BootEntry,
    folder::{DirIdentity, Folder},
    gvariant::{Dict, NotVariant},
};
use crate::{bound::parse_unit, repo::DeploymentId};

const STAGED: &str = "run/ostree/staged-deployment";
const LOCKED: &str = "run/ostree/staged-deployment-locked";
const BOOTED: &str = "run/ostree-booted";
const NEXT_ROOT: &str = "run/ostree/nextroot-booted";
const DEPLOY: &str = "ostree/deploy";
const ENTRIES: &str = "boot/loader/entries";

/// What is read of a file: ostree's have some hundred bytes, the staged one
/// with long kernel arguments some thousand.
const MAX_BYTES: u64 = 1 << 20;

/// An ostree host.
#[derive(Debug)]
pub(super) struct OstreeHost {
    root: Folder,
    sysroot: Folder,
}

/// A deployment's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    stateroot: String,
    /// `<checksum>.<serial>`
    folder: String,
}

impl OstreeHost {
    /// The host, where ostree booted it.
    pub(super) fn booted(paths: &HostPaths) -> Result<Option<Self>, HostError> {
        let Some(host) = Self::open(paths)? else {
            return Ok(None);
        };
        Ok(host.root.has(BOOTED)?.then_some(host))
    }

    /// The host, where its sysroot has state of ostree deployments.
    pub(super) fn installed(paths: &HostPaths) -> Result<Option<Self>, HostError> {
        let Some(host) = Self::open(paths)? else {
            return Ok(None);
        };
        Ok(host.sysroot.has(DEPLOY)?.then_some(host))
    }

    fn open(paths: &HostPaths) -> Result<Option<Self>, HostError> {
        let folders = (Folder::open(&paths.root)?, Folder::open(&paths.sysroot)?);
        let (Some(root), Some(sysroot)) = folders else {
            return Ok(None);
        };
        Ok(Some(Self { root, sysroot }))
    }

    /// In the order of the boot menu, so many, then those without an entry.
    fn names(&self) -> Result<(Vec<Name>, usize), HostError> {
        let mut names = Vec::new();
        for entry in self.boot_entries()? {
            let name = self.of_entry(&entry)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let menu = names.len();
        for stateroot in self.sysroot.names(DEPLOY)? {
            let folder = format!("{DEPLOY}/{stateroot}/deploy");
            for folder in self.sysroot.names(&folder)? {
                if !is_deploy_name(&folder) {
                    continue;
                }
                let name = Name {
                    stateroot: stateroot.clone(),
                    folder,
                };
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Ok((names, menu))
    }

    fn boot_entries(&self) -> Result<Vec<BootEntry>, HostError> {
        let folder = if self.root.has("boot/loader")? {
            &self.root
        } else {
            &self.sysroot
        };
        let mut entries = Vec::new();
        for file in folder.names(ENTRIES)? {
            if !file.starts_with("ostree-") || !file.ends_with(".conf") {
                continue;
            }
            if let Some(text) = folder.text(format!("{ENTRIES}/{file}"), MAX_BYTES)? {
                entries.push(BootEntry::parse(&file, &text));
            }
        }
        entries.sort_by(BootEntry::by_version);
        Ok(entries)
    }

    /// The deployment that an entry boots: its argument `ostree=` is the path
    /// of a link in the sysroot.
    fn of_entry(&self, entry: &BootEntry) -> Result<Name, HostError> {
        let file = Path::new(ENTRIES).join(&entry.file);
        let broken = |found| self.root.malformed(&file, found);
        let argument = entry
            .argument("ostree")
            .ok_or_else(|| broken("it has no argument ostree=".into()))?;
        let parts: Vec<&str> = argument.split('/').collect();
        let ["", "ostree", boot, stateroot, _checksum, serial] = parts[..] else {
            return Err(broken(format!("ostree={argument} is no boot link")));
        };
        if !matches!(boot, "boot.0" | "boot.1") || !is_number(serial) {
            return Err(broken(format!("ostree={argument} is no boot link")));
        }
        let link = self.sysroot.link(Path::new(&argument[1..]))?;
        let folder = link
            .as_deref()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str())
            .filter(|name| is_deploy_name(name))
            .ok_or_else(|| broken(format!("ostree={argument} links to no deployment")))?;
        let name = Name {
            stateroot: stateroot.to_owned(),
            folder: folder.to_owned(),
        };
        self.existing(name, &self.root, &file)
    }

    /// `name`, if there is such a directory.
    fn existing(&self, name: Name, said: &Folder, by: &Path) -> Result<Name, HostError> {
        match self.sysroot.dir(name.path())? {
            Some(_) => Ok(name),
            None => {
                let missing = self.sysroot.path(name.path());
                let found = format!("it names a deployment without {}", missing.display());
                Err(said.malformed(by, found))
            }
        }
    }

    /// The staged deployment, and whether whoever staged it holds it back.
    fn staged_name(&self) -> Result<Option<(Name, bool)>, HostError> {
        let Some(bytes) = self.root.read(STAGED, MAX_BYTES)? else {
            return Ok(None);
        };
        let broken = |found: String| self.root.malformed(STAGED, found);
        let staged = parse_staged(&bytes).map_err(|error| broken(error.to_string()))?;
        let Some(staged) = staged else {
            return Ok(None);
        };
        if !is_deploy_name(&staged.name) || !is_plain_name(&staged.stateroot) {
            let found = format!("{}/{} is no deployment", staged.stateroot, staged.name);
            return Err(broken(found));
        }
        let name = Name {
            stateroot: staged.stateroot,
            folder: staged.name,
        };
        let name = self.existing(name, &self.root, Path::new(STAGED))?;
        Ok(Some((name, staged.locked)))
    }

    /// The directory that a file of ostree's names by device and inode; `/`
    /// itself where it names none (ostree before 2022.8).
    fn backing(&self, file: &str) -> Result<Option<DirIdentity>, HostError> {
        let Some(bytes) = self.root.read(file, MAX_BYTES)? else {
            return Ok(None);
        };
        let value = Dict::new(&bytes)
            .get("backing-root-device-inode")
            .and_then(|value| value.map(|value| value.pair()).transpose())
            .map_err(|error| self.root.malformed(file, error.to_string()))?;
        match value {
            Some((device, inode)) => Ok(Some(DirIdentity { device, inode })),
            None => Ok(Some(self.root.identity()?)),
        }
    }

    /// The deployment whose directory a file of ostree's names, looked for in
    /// the directories alone. One that cannot be opened is not it.
    fn backed(&self, file: &str) -> Result<Option<DeploymentId>, HostError> {
        let Some(wanted) = self.backing(file)? else {
            return Ok(None);
        };
        for stateroot in self.sysroot.utf8_names(DEPLOY)? {
            let folders = self
                .sysroot
                .utf8_names(format!("{DEPLOY}/{stateroot}/deploy"));
            let folders = folders.unwrap_or_default().into_iter();
            for folder in folders.filter(|name| is_deploy_name(name)) {
                let name = Name {
                    stateroot: stateroot.clone(),
                    folder,
                };
                let Ok(Some(dir)) = self.sysroot.dir(name.path()) else {
                    continue;
                };
                if dir.identity()? == wanted {
                    return Ok(Some(name.id(&self.sysroot)?));
                }
            }
        }
        Ok(None)
    }

    fn is_pinned(&self, name: &Name) -> Result<bool, HostError> {
        let path = format!("{}.origin", name.path().display());
        let Some(bytes) = self.sysroot.read(&path, MAX_BYTES)? else {
            return Ok(false);
        };
        let origin = parse_unit(&bytes).map_err(|error| {
            let found = format!("{error}: {}", error.fault);
            self.sysroot.malformed(&path, found)
        })?;
        let pinned = origin.last("libostree-transient", "pinned");
        Ok(pinned.is_some_and(|pinned| matches!(pinned.value.as_str(), "true" | "1")))
    }
}

impl Host for OstreeHost {
    fn backend(&self) -> Backend {
        Backend::Ostree
    }

    fn deployments(&self) -> Result<Vec<Deployment>, HostError> {
        let staged = self.staged_name()?;
        let (mut names, mut menu) = self.names()?;
        if let Some((staged, _)) = &staged {
            let in_menu = names[..menu].contains(staged);
            names.retain(|name| name != staged);
            names.insert(0, staged.clone());
            menu += usize::from(!in_menu);
        }
        let booted = self.backing(BOOTED)?;
        let next = self.backing(NEXT_ROOT)?;
        let lock_file = self.root.has(LOCKED)?;
        let mut deployments = Vec::new();
        for name in &names {
            let found = self.sysroot.dir(name.path())?;
            let identity = found.map(|dir| dir.identity()).transpose()?;
            let is_staged = staged.as_ref().filter(|(staged, _)| staged == name);
            deployments.push(Deployment {
                id: name.id(&self.sysroot)?,
                booted: identity.is_some() && identity == booted,
                staged: is_staged.is_some(),
                rollback: false,
                pinned: self.is_pinned(name)?,
                soft_reboot_target: identity.is_some() && identity == next,
                finalization_locked: is_staged.is_some_and(|(_, held)| *held || lock_file),
            });
        }
        // The next in the menu after the booted one, of the same stateroot
        // (ostree_sysroot_query_deployments_for).
        if let Some(at) = deployments.iter().position(|d| d.booted) {
            let behind = names.iter().enumerate().take(menu).skip(at + 1);
            let mut same = behind.filter(|(_, name)| name.stateroot == names[at].stateroot);
            if let Some((rollback, _)) = same.next() {
                deployments[rollback].rollback = true;
            }
        }
        Ok(deployments)
    }

    fn booted(&self) -> Result<Option<DeploymentId>, HostError> {
        self.backed(BOOTED)
    }

    fn staged(&self) -> Result<Option<Staged>, HostError> {
        let Some((name, held)) = self.staged_name()? else {
            return Ok(None);
        };
        Ok(Some(Staged {
            id: name.id(&self.sysroot)?,
            finalization_locked: held || self.root.has(LOCKED)?,
        }))
    }

    fn soft_reboot_target(&self) -> Result<Option<DeploymentId>, HostError> {
        self.backed(NEXT_ROOT)
    }

    fn open_root(&self, id: &DeploymentId) -> Result<OwnedFd, HostError> {
        let unknown = || HostError::Unknown(id.clone());
        let name: Name = id.as_str().parse().map_err(|()| unknown())?;
        let dir = self.sysroot.dir(name.path())?.ok_or_else(unknown)?;
        Ok(dir.into_fd())
    }

    fn set_finalization_locked(
        &self,
        id: &DeploymentId,
        locked: bool,
        note: Note<'_>,
        still: &dyn Fn() -> bool,
    ) -> Result<bool, HostError> {
        let (staged, held) = self
            .staged_name()?
            .ok_or_else(|| HostError::NotStaged(id.clone()))?;
        if staged.id(&self.sysroot)? != *id {
            return Err(HostError::NotStaged(id.clone()));
        }
        match (locked, held) {
            (true, true) => Ok(false),
            _ if !still() => Ok(false),
            (true, false) => self.root.create_file(LOCKED, note),
            (false, true) => Err(HostError::HeldByOwner(id.clone())),
            (false, false) => self.root.remove_file(LOCKED),
        }
    }

    fn is_own(&self, id: &DeploymentId) -> bool {
        id.as_str().parse::<Name>().is_ok()
    }
}

impl Name {
    fn path(&self) -> PathBuf {
        let Self { stateroot, folder } = self;
        format!("{DEPLOY}/{stateroot}/deploy/{folder}").into()
    }

    fn id(&self, sysroot: &Folder) -> Result<DeploymentId, HostError> {
        let id = self.to_string().parse();
        id.map_err(|error: crate::repo::DeploymentIdError| {
            sysroot.malformed(self.path(), error.to_string())
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stateroot, self.folder)
    }
}

impl FromStr for Name {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (stateroot, folder) = text.rsplit_once('-').ok_or(())?;
        if !is_deploy_name(folder) || !is_plain_name(stateroot) {
            return Err(());
        }
        Ok(Self {
            stateroot: stateroot.to_owned(),
            folder: folder.to_owned(),
        })
    }
}

/// `<checksum>.<serial>`
fn is_deploy_name(name: &str) -> bool {
    let Some((checksum, serial)) = name.split_once('.') else {
        return false;
    };
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    checksum.len() == 64 && checksum.bytes().all(hex) && is_number(serial)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A name that stays in its folder.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// What `/run/ostree/staged-deployment` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedFile {
    /// `<checksum>.<serial>`, unchecked.
    pub name: String,
    /// The stateroot, unchecked.
    pub stateroot: String,
    /// Whether whoever staged it holds it back (ostree 2023.8).
    pub locked: bool,
}

/// Reads the bytes of `/run/ostree/staged-deployment`, as ostree's
/// `serialize_deployment_to_variant` writes them; nothing where they name no
/// target. They may be anything: no text in the result is checked.
///
/// # Errors
/// [`NotVariant`] for what is none of ostree's.
pub fn parse_staged(bytes: &[u8]) -> Result<Option<StagedFile>, NotVariant> {
    let staged = Dict::new(bytes);
    let Some(target) = staged.get("target")? else {
        return Ok(None);
    };
    let target = target.dict()?;
    let text = |key| match target.get(key)? {
        Some(value) => Ok(value.string()?.to_owned()),
        None => Err(NotVariant("string")),
    };
    Ok(Some(StagedFile {
        name: text("name")?,
        stateroot: text("osname")?,
        locked: match staged.get("locked")? {
            Some(locked) => locked.boolean()?,
            None => false,
        },
    }))
}
