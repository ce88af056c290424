//! File trees that stand for hosts with deployments: ostree's and bootc's
//! composefs backend's, with just the files that tell of them.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use boundstore::{
    name::Algorithm,
    repo::{NewRepo, Repo},
};
use composefs::{
    erofs::{
        format::FormatVersion,
        writer::{ValidatedFileSystem, mkfs_erofs_versioned},
    },
    fsverity::Sha512HashValue,
    tree::{Directory, FileSystem, Inode, LeafContent, RegularFile, Stat},
};
use serde_json::{Value, json};

use super::common::Scratch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Ostree,
    Composefs,
}

/// A host, its repository without fs-verity.
#[derive(Debug)]
pub struct Bootable {
    pub scratch: Scratch,
    pub backend: Backend,
    booted: Option<String>,
    soft_reboot: Option<String>,
}

impl Bootable {
    pub fn new(backend: Backend) -> Self {
        let host = Self {
            scratch: Scratch::new(),
            backend,
            booted: None,
            soft_reboot: None,
        };
        let new = NewRepo {
            algorithm: Algorithm::Sha512,
            insecure: true,
        };
        Repo::create(&host.repo(), new, Repo::LOCK_LIMIT).unwrap();
        host.write("home/.config/containers/policy.json", ACCEPT);
        host.write("root/run/boundstore/.keep", "");
        fs::create_dir_all(host.path("sysroot")).unwrap();
        host.tell_mounts();
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    pub fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A new file, as whoever replaces it makes.
        let new = path.with_extension("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, path).unwrap();
    }

    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn remove(&self, name: &str) {
        if self.has(name) {
            fs::remove_file(self.path(name)).unwrap();
        }
    }

    /// A deployment that binds `images`; `name` makes it another than others.
    pub fn deploy(&self, name: &str, images: &[&str]) -> String {
        let units: Vec<(String, String)> = images
            .iter()
            .enumerate()
            .map(|(at, image)| (format!("{at}.image"), format!("[Image]\nImage={image}\n")))
            .collect();
        self.deploy_units(name, &units)
    }

    /// As [`Bootable::deploy`], of units as they are.
    pub fn deploy_units(&self, name: &str, units: &[(String, String)]) -> String {
        match self.backend {
            Backend::Ostree => self.deploy_directory(name, units),
            Backend::Composefs => self.deploy_image(name, units),
        }
    }

    fn deploy_directory(&self, name: &str, units: &[(String, String)]) -> String {
        let checksum: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        let folder = format!("{checksum:0<64}.0");
        let rootfs = format!("sysroot/ostree/deploy/os/deploy/{folder}");
        self.write(&format!("{rootfs}/usr/lib/os-release"), name);
        for (file, text) in units {
            self.write(&format!("{rootfs}/{UNITS}/{file}"), text);
            let link = self.path(&format!("{rootfs}/{BINDINGS}/{file}"));
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(format!("/{UNITS}/{file}"), link).unwrap();
        }
        format!("os-{folder}")
    }

    fn deploy_image(&self, name: &str, units: &[(String, String)]) -> String {
        let stat = |mode| Stat {
            st_mode: mode,
            st_uid: 0,
            st_gid: 0,
            st_mtim_sec: 0,
            st_mtim_nsec: 0,
            xattrs: Default::default(),
        };
        let mut image = FileSystem::<Sha512HashValue>::new(stat(0o755));
        let mut unit_folder = Directory::new(stat(0o755));
        let mut bindings = Directory::new(stat(0o755));
        let release = (format!("release-{name}"), name.to_owned());
        for (file, text) in units.iter().chain([&release]) {
            let content = LeafContent::Regular(RegularFile::Inline(text.as_bytes().into()));
            let leaf = image.push_leaf(stat(0o644), content);
            unit_folder.insert(OsStr::new(file), Inode::leaf(leaf));
        }
        for (file, _) in units {
            let to = format!("/{UNITS}/{file}");
            let content = LeafContent::Symlink(OsStr::new(&to).into());
            let leaf = image.push_leaf(stat(0o777), content);
            bindings.insert(OsStr::new(file), Inode::leaf(leaf));
        }
        let mut rootfs = Directory::new(stat(0o755));
        let mut usr: Directory<Sha512HashValue> = Directory::new(stat(0o755));
        for (path, folder) in [(UNITS, unit_folder), (BINDINGS, bindings)] {
            let path: Vec<&str> = path.strip_prefix("usr/").unwrap().split('/').collect();
            graft(&mut usr, &path, folder, &stat(0o755));
        }
        rootfs.insert(OsStr::new("usr"), Inode::Directory(Box::new(usr)));
        image.root = rootfs;
        let valid = ValidatedFileSystem::new(image).unwrap();
        let bytes = mkfs_erofs_versioned(&valid, FormatVersion::V1);
        let repo = Repo::open(&self.repo(), Duration::from_secs(60)).unwrap();
        let id = repo.ensure_object(&bytes).unwrap().into_inner().to_string();
        repo.sync().unwrap();
        let origin = format!(
            "[origin]\ncontainer-image-reference=ostree-unverified-image:docker://os.test/{name}:1\n"
        );
        self.write(&format!("sysroot/state/deploy/{id}/{id}.origin"), origin);
        id
    }

    /// Lets `id` be what runs.
    pub fn boot(&mut self, id: &str) {
        self.booted = Some(id.to_owned());
        self.unstage();
        self.soft_reboot = None;
        match self.backend {
            Backend::Ostree => self.tell_backing("ostree-booted", id),
            Backend::Composefs => self.tell_mounts(),
        }
    }

    /// Queues a soft reboot to `id`, on what is really a mount.
    pub fn queue_soft_reboot(&mut self, id: &str) {
        self.soft_reboot = Some(id.to_owned());
        let next = self.path("root/run/nextroot");
        fs::create_dir_all(&next).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "next"])
            .arg(&next)
            .status();
        assert!(mounted.unwrap().success());
        self.write("root/run/nextroot/usr/lib/os-release", "next");
        match self.backend {
            Backend::Ostree => self.tell_backing("ostree/nextroot-booted", id),
            Backend::Composefs => self.tell_mounts(),
        }
    }

    fn tell_backing(&self, file: &str, id: &str) {
        let directory = fs::metadata(self.directory(id)).unwrap();
        let mut pair = directory.dev().to_le_bytes().to_vec();
        pair.extend(directory.ino().to_le_bytes());
        let dict = dict(&[("backing-root-device-inode", pair, "(tt)")]);
        self.write(&format!("root/run/{file}"), dict);
    }

    fn tell_mounts(&self) {
        let mut mounts = "1 0 0:1 / /proc rw - proc proc rw\n".to_owned();
        let roots = [("/", &self.booted), ("/run/nextroot", &self.soft_reboot)];
        for (target, id) in roots {
            if let (Backend::Composefs, Some(id)) = (self.backend, id) {
                mounts += &format!("2 1 0:2 / {target} ro - overlay composefs:{id} ro\n");
            }
        }
        let id = self.booted.as_deref().unwrap_or("none");
        let argument = match self.backend {
            Backend::Ostree => "ostree=/ostree/boot.0/os/1/0".to_owned(),
            Backend::Composefs => format!("composefs=?{id}"),
        };
        self.write("root/proc/self/mountinfo", mounts);
        self.write("root/proc/cmdline", argument);
    }

    /// An ostree deployment's directory.
    fn directory(&self, id: &str) -> PathBuf {
        let folder = id.strip_prefix("os-").unwrap();
        self.path(&format!("sysroot/ostree/deploy/os/deploy/{folder}"))
    }

    /// Stages `id` as ostree and bootc do, with `--download-only` if `locked`.
    pub fn stage(&self, id: &str, locked: bool) {
        match self.backend {
            Backend::Ostree => {
                let name = id.strip_prefix("os-").unwrap();
                let text = |text: &str| [text.as_bytes(), b"\0"].concat();
                let target = dict(&[
                    ("name", text(name), "s"),
                    ("bootcsum", text("aa"), "s"),
                    ("osname", text("os"), "s"),
                ]);
                let mut staged = vec![("target", target, "a{sv}")];
                if locked {
                    staged.push(("locked", vec![1], "b"));
                }
                self.write("root/run/ostree/staged-deployment", dict(&staged));
                self.remove("root/run/ostree/staged-deployment-locked");
            }
            Backend::Composefs => {
                let staged = json!({ "depl_id": id, "finalization_locked": locked });
                let text = staged.to_string();
                self.write("root/run/composefs/staged-deployment", text);
            }
        }
    }

    pub fn unstage(&self) {
        self.remove("root/run/ostree/staged-deployment");
        self.remove("root/run/ostree/staged-deployment-locked");
        self.remove("root/run/composefs/staged-deployment");
    }

    /// Locks or unlocks as an administrator does.
    pub fn set_locked(&self, id: &str, locked: bool) {
        match (self.backend, locked) {
            (Backend::Composefs, _) => self.stage(id, locked),
            (Backend::Ostree, true) => self.write("root/run/ostree/staged-deployment-locked", ""),
            (Backend::Ostree, false) => self.stage(id, false),
        }
    }

    /// Whether the staged deployment is held back, as ostree and bootc see it.
    pub fn is_locked(&self) -> bool {
        match self.backend {
            Backend::Ostree => {
                let staged = fs::read(self.path("root/run/ostree/staged-deployment")).unwrap();
                let flag = staged.windows(6).any(|bytes| bytes == b"locked");
                flag || self.has("root/run/ostree/staged-deployment-locked")
            }
            Backend::Composefs => {
                let path = self.path("root/run/composefs/staged-deployment");
                let staged: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
                staged["finalization_locked"].as_bool().unwrap()
            }
        }
    }

    /// A call of the built binary on this host, its arguments split at blanks.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boundstore"));
        command
            .arg("--json")
            .arg("--host-root")
            .arg(self.path("root"))
            .arg("--sysroot")
            .arg(self.path("sysroot"))
            .arg("--repo")
            .arg(self.repo())
            .arg("--allow-missing-verity")
            .args(args.split_whitespace())
            .env_remove("XDG_CONFIG_HOME")
            .env("HOME", self.path("home"));
        command
    }

    /// A call that must exit with `code`; its document, if there is one, and
    /// what it said.
    #[track_caller]
    pub fn exits(&self, code: i32, args: &str) -> (Value, String) {
        let output = self.command(args).output().unwrap();
        judge(code, args, &output)
    }
}

/// The document and the messages of a call that must have exited with `code`.
#[track_caller]
pub fn judge(code: i32, args: &str, output: &Output) -> (Value, String) {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let found = output.status.code();
    assert_eq!(found, Some(code), "{args}\n{stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let document = serde_json::from_str(&stdout).unwrap_or(Value::Null);
    if let Some(verb) = args.strip_prefix("guard ").filter(|_| document.is_object()) {
        assert_valid(&format!("guard-{verb}"), &document);
    }
    (document, stderr)
}

/// Against the schema of this name.
#[track_caller]
pub fn assert_valid(name: &str, document: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{name}.v1.json"));
    let schema = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = schema
        .iter_errors(document)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{document}: {errors:?}");
}

const ACCEPT: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
const UNITS: &str = "usr/share/containers/systemd";
const BINDINGS: &str = "usr/lib/bootc/bound-images.d";

/// Puts `folder` at `path` below `parent`.
fn graft(
    parent: &mut Directory<Sha512HashValue>,
    path: &[&str],
    folder: Directory<Sha512HashValue>,
    stat: &Stat,
) {
    let (name, rest) = path.split_first().unwrap();
    let name = OsStr::new(name);
    if rest.is_empty() {
        parent.insert(name, Inode::Directory(Box::new(folder)));
        return;
    }
    if parent.get_directory(name).is_err() {
        let between = Directory::new(stat.clone());
        parent.insert(name, Inode::Directory(Box::new(between)));
    }
    graft(parent.get_directory_mut(name).unwrap(), rest, folder, stat);
}

/// GVariant's `a{sv}`, little endian: each entry is key, value and type, and
/// the ends of what has no fixed size stand last.
fn dict(entries: &[(&str, Vec<u8>, &str)]) -> Vec<u8> {
    let align = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(8), 0);
    let mut all = Vec::new();
    let mut ends = Vec::new();
    for (key, value, kind) in entries {
        align(&mut all);
        let start = all.len();
        all.extend(key.as_bytes());
        all.push(0);
        let key_end = all.len() - start;
        align(&mut all);
        all.extend(value);
        all.push(0);
        all.extend(kind.as_bytes());
        let size = all.len() - start;
        if size + 1 < 256 {
            all.push(u8::try_from(key_end).unwrap());
        } else {
            all.extend(u16::try_from(key_end).unwrap().to_le_bytes());
        }
        ends.push(u16::try_from(all.len()).unwrap());
    }
    let small = all.len() + ends.len() < 256;
    for end in ends {
        if small {
            all.push(u8::try_from(end).unwrap());
        } else {
            all.extend(end.to_le_bytes());
        }
    }
    all
}

/// What is mounted at a place of the host.
pub fn is_mounted(path: &Path) -> bool {
    !super::common::mounts_below(path).is_empty()
}
