//! One table of situations for all backends, each a host of files.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::*;

/// A host that is but a folder.
struct FakeHost {
    dir: TempDir,
    backend: Backend,
}

const BACKENDS: [Backend; 2] = [Backend::Ostree, Backend::Composefs];

impl FakeHost {
    fn new(backend: Backend) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sysroot")).unwrap();
        Self { dir, backend }
    }

    fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(below)
    }

    fn write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn paths(&self) -> HostPaths {
        HostPaths {
            root: self.path(""),
            sysroot: self.path("sysroot"),
            repo: self.path("sysroot/composefs"),
        }
    }

    fn host(&self) -> Box<dyn Host> {
        let host = detect(&self.paths()).unwrap().expect("a host");
        assert_eq!(host.backend(), self.backend);
        host
    }

    fn staged_file(&self) -> &'static str {
        match self.backend {
            Backend::Ostree => "run/ostree/staged-deployment",
            Backend::Composefs => "run/composefs/staged-deployment",
        }
    }

    /// The folder of a deployment.
    fn folder(&self, id: &DeploymentId) -> PathBuf {
        match self.backend {
            Backend::Ostree => {
                let (stateroot, name) = id.as_str().rsplit_once('-').unwrap();
                format!("sysroot/ostree/deploy/{stateroot}/deploy/{name}").into()
            }
            Backend::Composefs => format!("sysroot/state/deploy/{id}").into(),
        }
    }

    /// A deployment that is there; `number` makes its id.
    fn deploy(&self, number: u8) -> DeploymentId {
        self.deploy_of("os", number)
    }

    fn deploy_of(&self, stateroot: &str, number: u8) -> DeploymentId {
        let id: DeploymentId = match self.backend {
            Backend::Ostree => format!("{stateroot}-{}.0", hex(number, 32)),
            Backend::Composefs => hex(number, 64),
        }
        .parse()
        .unwrap();
        fs::create_dir_all(self.path(self.folder(&id)).join("etc")).unwrap();
        id
    }

    /// The boot menu, what boots by default first.
    fn menu(&self, ids: &[&DeploymentId]) {
        let _none_yet = fs::remove_dir_all(self.path("boot/loader/entries"));
        for (at, id) in ids.iter().enumerate() {
            let rank = ids.len() - at;
            let (name, options) = match self.backend {
                Backend::Ostree => {
                    let (stateroot, name) = id.as_str().rsplit_once('-').unwrap();
                    let link = format!("/ostree/boot.0/{stateroot}/{}/{rank}", hex(9, 32));
                    let path = self.path(format!("sysroot{link}"));
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    let _none_yet = fs::remove_file(&path);
                    symlink(format!("../../../deploy/{stateroot}/deploy/{name}"), path).unwrap();
                    (format!("ostree-{rank}-os.conf"), format!("ostree={link}"))
                }
                Backend::Composefs => (format!("bootc_os-{rank}.conf"), format!("composefs=?{id}")),
            };
            let text = format!("title OS\nversion {rank}\nlinux /vmlinuz\noptions rw {options}\n");
            self.write(format!("boot/loader/entries/{name}"), text);
        }
    }

    fn boot(&self, id: &DeploymentId) {
        match self.backend {
            Backend::Ostree => self.write("run/ostree-booted", self.backing(id)),
            Backend::Composefs => self.mounts(&[("/", &format!("composefs:{id}"))]),
        }
    }

    fn soft_reboot_to(&self, booted: &DeploymentId, id: &DeploymentId) {
        match self.backend {
            Backend::Ostree => self.write("run/ostree/nextroot-booted", self.backing(id)),
            Backend::Composefs => self.mounts(&[
                ("/", &format!("composefs:{booted}")),
                ("/run/nextroot", &format!("transient:composefs={id}")),
            ]),
        }
    }

    fn mounts(&self, mounts: &[(&str, &str)]) {
        let line = |(target, source): &(&str, &str)| {
            format!("30 1 0:27 / {target} ro,relatime - overlay {source} ro\n")
        };
        let under = line(&("/", "rootfs"));
        let text: String = mounts.iter().map(line).collect();
        self.write("proc/self/mountinfo", under + &text);
    }

    fn backing(&self, id: &DeploymentId) -> Vec<u8> {
        let metadata = fs::metadata(self.path(self.folder(id))).unwrap();
        let pair = [metadata.dev(), metadata.ino()]
            .map(u64::to_ne_bytes)
            .concat();
        gvariant_dict(&[
            ("composefs", vec![1], "b"),
            ("backing-root-device-inode", pair, "(tt)"),
        ])
    }

    fn stage(&self, id: &DeploymentId, held: bool) {
        let bytes = match self.backend {
            Backend::Ostree => {
                let (stateroot, name) = id.as_str().rsplit_once('-').unwrap();
                let text = |text: &str| [text.as_bytes(), b"\0"].concat();
                let target = gvariant_dict(&[
                    ("name", text(name), "s"),
                    ("osname", text(stateroot), "s"),
                    ("bootcsum", text(&hex(9, 32)), "s"),
                ]);
                let kargs = text(&"x".repeat(300));
                let mut values = vec![("target", target, "a{sv}"), ("odd", kargs, "s")];
                if held {
                    values.push(("locked", vec![1], "b"));
                }
                gvariant_dict(&values)
            }
            Backend::Composefs => format!(
                r#"{{"depl_id":"{id}","finalization_locked":{held},"more":[1,{{"x":null}}]}}"#
            )
            .into_bytes(),
        };
        self.write(self.staged_file(), bytes);
    }
}

/// `bytes` bytes of a digest.
fn hex(number: u8, bytes: usize) -> String {
    format!("{number:02x}").repeat(bytes)
}

/// A dictionary `a{sv}` as GLib writes it, of less than 64 KiB.
fn gvariant_dict(values: &[(&str, Vec<u8>, &str)]) -> Vec<u8> {
    let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(8), 0);
    let offsets = |bytes: &mut Vec<u8>, ends: &[usize]| {
        let wide = bytes.len() + ends.len() > 255;
        for end in ends {
            let end = u16::try_from(*end).unwrap().to_le_bytes();
            bytes.extend(&end[..if wide { 2 } else { 1 }]);
        }
    };
    let (mut dict, mut ends) = (Vec::new(), Vec::new());
    for (key, data, kind) in values {
        let mut entry = [key.as_bytes(), b"\0"].concat();
        let end = entry.len();
        pad(&mut entry);
        entry.extend([&data[..], b"\0", kind.as_bytes()].concat());
        offsets(&mut entry, &[end]);
        pad(&mut dict);
        dict.extend(entry);
        ends.push(dict.len());
    }
    offsets(&mut dict, &ends);
    dict
}

/// The deployments in order, each with its roles.
fn told(host: &dyn Host) -> Vec<(DeploymentId, String)> {
    let roles = |deployment: Deployment| {
        let roles = [
            (deployment.booted, "booted"),
            (deployment.staged, "staged"),
            (deployment.rollback, "rollback"),
            (deployment.pinned, "pinned"),
            (deployment.soft_reboot_target, "next"),
            (deployment.finalization_locked, "locked"),
        ];
        let held = roles.iter().filter(|(held, _)| *held);
        let held: Vec<&str> = held.map(|(_, role)| *role).collect();
        (deployment.id, held.join(" "))
    };
    let all = host.deployments().unwrap();
    // Each role that is told by itself is told the same.
    let of = |has: fn(&Deployment) -> bool| all.iter().find(|one| has(one));
    let id = |one: &Deployment| one.id.clone();
    assert_eq!(host.booted().unwrap(), of(|one| one.booted).map(id));
    let next = of(|one| one.soft_reboot_target).map(id);
    assert_eq!(host.soft_reboot_target().unwrap(), next);
    let staged = of(|one| one.staged).map(|one| Staged {
        id: one.id.clone(),
        finalization_locked: one.finalization_locked,
    });
    assert_eq!(host.staged().unwrap(), staged);
    all.into_iter().map(roles).collect()
}

fn roles(of: &[(&DeploymentId, &str)]) -> Vec<(DeploymentId, String)> {
    of.iter()
        .map(|(id, roles)| ((*id).clone(), (*roles).to_owned()))
        .collect()
}

#[test]
fn each_deployment_has_its_roles() {
    for backend in BACKENDS {
        let fake = FakeHost::new(backend);
        let [a, b, c, left] = [1, 2, 3, 4].map(|number| fake.deploy(number));
        fake.menu(&[&a, &b]);
        fake.boot(&a);
        let host = fake.host();
        let (old, other) = ((&b, "rollback"), [(&c, ""), (&left, "")]);
        let plain = roles(&[(&a, "booted"), old, other[0], other[1]]);
        assert_eq!(told(&*host), plain, "nothing staged, {backend:?}");

        fake.stage(&c, false);
        let staged = roles(&[(&c, "staged"), (&a, "booted"), old, other[1]]);
        assert_eq!(told(&*host), staged, "{backend:?}");
        fake.stage(&c, true);
        assert_eq!(told(&*host)[0].1, "staged locked", "{backend:?}");

        fake.soft_reboot_to(&a, &b);
        assert_eq!(told(&*host)[2].1, "rollback next", "{backend:?}");
        fake.soft_reboot_to(&a, &c);
        assert_eq!(told(&*host)[0].1, "staged next locked", "{backend:?}");

        // After a rollback the other one is the default.
        fs::remove_file(fake.path(fake.staged_file())).unwrap();
        fake.menu(&[&b, &a]);
        let second = if backend == Backend::Ostree {
            ""
        } else {
            "rollback"
        };
        assert_eq!(told(&*host)[..2], roles(&[(&b, second), (&a, "booted")]));
    }
}

#[test]
fn what_is_broken_elsewhere_hides_neither_what_runs_nor_what_comes() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let odd = Path::new(OsStr::from_bytes(b"x\xff"));
    for backend in BACKENDS {
        let fake = FakeHost::new(backend);
        let [a, b, c] = [1, 2, 3].map(|number| fake.deploy(number));
        fake.menu(&[&a, &b]);
        fake.boot(&a);
        fake.soft_reboot_to(&a, &c);
        fake.stage(&b, false);
        match backend {
            Backend::Ostree => {
                let old = format!("sysroot/ostree/deploy/old/deploy/{}.0", hex(7, 32));
                fs::create_dir_all(fake.path(&old)).unwrap();
                fake.write(format!("{old}.origin"), "garbage");
                fs::create_dir(fake.path("sysroot/ostree/deploy").join(odd)).unwrap();
                let file = "sysroot/ostree/deploy/file/deploy";
                fake.write(file, "");
                fake.write("boot/loader/entries/ostree-9-old.conf", "title x\n");
            }
            Backend::Composefs => {
                fs::create_dir_all(fake.path("sysroot/state/deploy").join(odd)).unwrap();
            }
        }
        let host = fake.host();
        assert!(host.deployments().is_err(), "{backend:?}");
        assert_eq!(host.booted().unwrap(), Some(a));
        assert_eq!(host.staged().unwrap().unwrap().id, b);
        assert_eq!(host.soft_reboot_target().unwrap(), Some(c));
        assert!(
            host.set_finalization_locked(&b, true, &mut |_| Ok(()), &|| true)
                .is_ok()
        );
        assert!(host.staged().unwrap().unwrap().finalization_locked);
        let opened = host.open_root(&b).map(drop);
        assert!(!matches!(opened, Err(HostError::Malformed { .. })));
    }
}

#[test]
fn without_a_boot_partition_nothing_is_lost() {
    for backend in BACKENDS {
        let fake = FakeHost::new(backend);
        let [a, b] = [1, 2].map(|number| fake.deploy(number));
        assert_eq!(told(&*fake.host()), roles(&[(&a, ""), (&b, "")]));
        fake.boot(&b);
        let booted = told(&*fake.host()).into_iter().find(|(id, _)| *id == b);
        assert_eq!(booted.unwrap().1, "booted", "{backend:?}");
    }
}

#[test]
fn only_the_staged_deployment_is_locked() {
    for backend in BACKENDS {
        let fake = FakeHost::new(backend);
        let [a, b, c] = [1, 2, 3].map(|number| fake.deploy(number));
        fake.menu(&[&a]);
        fake.boot(&a);
        let host = fake.host();
        let not_staged = |id: &DeploymentId, locked| {
            let refused = host.set_finalization_locked(id, locked, &mut |_| Ok(()), &|| true);
            assert!(matches!(refused, Err(HostError::NotStaged(named)) if named == *id));
        };
        not_staged(&b, true);
        fake.stage(&b, false);
        let mut before = false;
        for locked in [true, true, false, false, true] {
            let changed = host
                .set_finalization_locked(&b, locked, &mut |_| Ok(()), &|| true)
                .unwrap();
            assert_eq!(changed, locked != before);
            before = locked;
            let expected = if locked { "staged locked" } else { "staged" };
            assert_eq!(told(&*host)[0], (b.clone(), expected.to_owned()));
        }
        // Another is staged under us.
        fake.stage(&c, false);
        let before = fs::read(fake.path(fake.staged_file())).unwrap();
        not_staged(&b, true);
        not_staged(&b, false);
        assert_eq!(fs::read(fake.path(fake.staged_file())).unwrap(), before);
        let folder = fake.path(fake.staged_file());
        let left = fs::read_dir(folder.parent().unwrap()).unwrap();
        let left = left.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with('.')
        });
        assert_eq!(left.count(), 0, "a temporary file is left");
    }
}

#[test]
fn what_others_wrote_into_the_staged_file_stays() {
    let fake = FakeHost::new(Backend::Composefs);
    let id = fake.deploy(1);
    fake.boot(&id);
    fake.stage(&id, false);
    fake.host()
        .set_finalization_locked(&id, true, &mut |_| Ok(()), &|| true)
        .unwrap();
    let text = fs::read_to_string(fake.path(fake.staged_file())).unwrap();
    let expected =
        format!(r#"{{"depl_id":"{id}","finalization_locked":true,"more":[1,{{"x":null}}]}}"#);
    assert_eq!(text, expected);
}

#[test]
fn what_ostree_holds_back_itself_is_not_let() {
    let fake = FakeHost::new(Backend::Ostree);
    let id = fake.deploy(1);
    fake.stage(&id, true);
    let refused = fake
        .host()
        .set_finalization_locked(&id, false, &mut |_| Ok(()), &|| true);
    assert!(matches!(refused, Err(HostError::HeldByOwner(_))));
}

#[test]
fn a_staged_file_that_is_not_understood_is_an_error() {
    for backend in BACKENDS {
        let fake = FakeHost::new(backend);
        let id = fake.deploy(1);
        fake.boot(&id);
        let path = fake.path(fake.staged_file());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(fake.path("secret"), "{}").unwrap();
        let unstaged = fake.deploy(2);
        let huge = fs::File::create(fake.path("huge")).unwrap();
        huge.set_len(1 << 30).unwrap();
        let gone = DeploymentId::clone(&unstaged);
        let hostile: [(&str, &dyn Fn()); 8] = [
            ("garbage", &|| fs::write(&path, b"\x7f\0\xff").unwrap()),
            ("text", &|| fs::write(&path, "depl_id: x").unwrap()),
            ("too long", &|| {
                let file = fs::File::create(&path).unwrap();
                file.set_len(1 << 30).unwrap();
            }),
            ("a directory", &|| fs::create_dir(&path).unwrap()),
            ("a link out", &|| {
                symlink("../../../../secret", &path).unwrap();
            }),
            ("a link to a device", &|| {
                symlink("/dev/zero", &path).unwrap();
            }),
            ("a fifo", &|| {
                let made = Command::new("mkfifo").arg(&path).status().unwrap();
                assert!(made.success());
            }),
            ("of the wrong types", &|| match backend {
                Backend::Ostree => {
                    let target = ("target", vec![1], "b");
                    fs::write(&path, gvariant_dict(&[target])).unwrap();
                }
                Backend::Composefs => {
                    let text = format!(r#"{{"depl_id":"{gone}","finalization_locked":"no"}}"#);
                    fs::write(&path, text).unwrap();
                }
            }),
        ];
        for (what, make) in hostile {
            make();
            let host = fake.host();
            for failed in [
                host.deployments().map(drop),
                host.staged().map(drop),
                host.set_finalization_locked(&id, true, &mut |_| Ok(()), &|| true)
                    .map(drop),
            ] {
                let error = failed.expect_err(what);
                let named = matches!(&error, HostError::Malformed { path, .. }
                    if path.ends_with(fake.staged_file()));
                assert!(named, "{what}: {error}");
            }
            let _removed = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
        }
    }
}

#[test]
fn an_ostree_root_is_opened_and_none_outside() {
    let fake = FakeHost::new(Backend::Ostree);
    let [id, out] = [1, 2].map(|number| fake.deploy(number));
    fs::write(fake.path(fake.folder(&id)).join("etc/name"), "v1").unwrap();
    fs::remove_dir_all(fake.path(fake.folder(&out))).unwrap();
    symlink("/etc", fake.path(fake.folder(&out))).unwrap();
    let host = fake.host();
    let root = host.open_root(&id).unwrap();
    let text =
        crate::sys::read_in_root(std::os::fd::AsFd::as_fd(&root), Path::new("etc/name"), 100);
    assert_eq!(text.unwrap(), b"v1");
    for id in [
        out,
        "os-by-hand".parse().unwrap(),
        hex(1, 64).parse().unwrap(),
    ] {
        let opened = host.open_root(&id);
        assert!(matches!(opened, Err(HostError::Unknown(_))), "{id}");
    }
}

#[test]
fn pins_and_stateroots_of_ostree() {
    let fake = FakeHost::new(Backend::Ostree);
    let a = fake.deploy(1);
    let other = fake.deploy_of("other-os", 2);
    let b = fake.deploy(3);
    let origin = "[origin]\nrefspec=os/x\n\n[libostree-transient]\npinned=true\n";
    fake.write(format!("{}.origin", fake.folder(&other).display()), origin);
    fake.menu(&[&a, &other, &b]);
    fake.boot(&a);
    let expected = roles(&[(&a, "booted"), (&other, "pinned"), (&b, "rollback")]);
    assert_eq!(told(&*fake.host()), expected);
    // What the menu names must be there.
    fs::remove_dir_all(fake.path(fake.folder(&b))).unwrap();
    let error = fake.host().deployments().unwrap_err().to_string();
    assert!(error.contains("ostree-1-os.conf"), "{error}");
}

#[test]
fn ostree_before_it_told_what_directory_runs() {
    let fake = FakeHost::new(Backend::Ostree);
    let id = fake.deploy(1);
    fake.write("run/ostree-booted", "");
    assert_eq!(told(&*fake.host()), roles(&[(&id, "")]));
    // The root of the running system is the deployment's directory itself.
    let paths = HostPaths {
        root: fake.path(fake.folder(&id)),
        ..fake.paths()
    };
    fs::create_dir(paths.root.join("run")).unwrap();
    fs::write(paths.root.join("run/ostree-booted"), "").unwrap();
    let host = detect(&paths).unwrap().unwrap();
    assert_eq!(told(&*host), roles(&[(&id, "booted")]));
}

#[test]
fn menus_of_unified_kernel_images() {
    let fake = FakeHost::new(Backend::Composefs);
    let [a, b] = [1, 2].map(|number| fake.deploy(number));
    fake.mounts(&[("/", &format!("transient:composefs={a}"))]);
    let entry = |id: &DeploymentId, key: &str| {
        format!("version 1\nsort-key {key}\nuki /EFI/Linux/bootc/bootc_composefs-{id}.efi\n")
    };
    // By name the first would be last.
    fake.write("efi/loader/entries/x-2.conf", entry(&b, "bootc-os-1"));
    fake.write("efi/loader/entries/x-1.conf", entry(&a, "bootc-os-0"));
    fake.write("efi/loader/entries/windows.conf", "efi /EFI/windows.efi\n");
    let expected = roles(&[(&b, "rollback"), (&a, "booted")]);
    assert_eq!(told(&*fake.host()), expected);
    let loader: Vec<u8> = "systemd-boot 257".bytes().flat_map(|b| [b, 0]).collect();
    fake.write(
        "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
        [&[7, 0, 0, 0], &loader[..]].concat(),
    );
    let expected = roles(&[(&a, "booted"), (&b, "rollback")]);
    assert_eq!(told(&*fake.host()), expected);
    // GRUB's menu comes first.
    let chain = |id| {
        format!(
            "menuentry \"OS\" {{\n  insmod chain\n  chainloader /EFI/Linux/bootc/bootc_composefs-{id}.efi\n}}\n"
        )
    };
    fake.write("boot/grub2/user.cfg", chain(&b) + &chain(&a));
    assert_eq!(
        told(&*fake.host()),
        roles(&[(&b, "rollback"), (&a, "booted")])
    );
}

#[test]
fn other_hosts_have_none() {
    let fake = FakeHost::new(Backend::Ostree);
    assert!(detect(&fake.paths()).unwrap().is_none());
    fake.mounts(&[("/", "/dev/vda2")]);
    assert!(detect(&fake.paths()).unwrap().is_none());
    let nowhere = HostPaths {
        root: fake.path("none"),
        sysroot: fake.path("none"),
        repo: fake.path("none"),
    };
    assert!(detect(&nowhere).unwrap().is_none());
}

#[test]
fn what_runs_tells_the_backend() {
    // Moved from ostree, whose deployments are there still.
    let fake = FakeHost::new(Backend::Composefs);
    fs::create_dir_all(fake.path("sysroot/ostree/deploy/os/deploy")).unwrap();
    let id = fake.deploy(1);
    fake.boot(&id);
    let host = fake.host();
    assert!(host.is_own(&id));
    let foreign = format!("os-{}.0", hex(1, 32)).parse().unwrap();
    assert!(!host.is_own(&foreign));
    assert!(!host.is_own(&"by-hand".parse().unwrap()));
}
