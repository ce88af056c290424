//! What `make install` puts where, and what systemd makes of it.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// Every file, with its mode; folders are 0755.
const FILES: [(&str, u32); 15] = [
    ("bin/boundstore", 0o755),
    ("lib/boundstore/config.toml", 0o644),
    ("lib/containers/storage/overlay-images/images.lock", 0o644),
    ("lib/containers/storage/overlay-layers/layers.lock", 0o644),
    ("lib/containers/storage/overlay/l/", 0o755),
    ("lib/containers/storage/vfs-images/images.lock", 0o644),
    ("lib/containers/storage/vfs-layers/layers.lock", 0o644),
    ("lib/systemd/system-generators/boundstore-generator", 0o755),
    ("lib/systemd/system/boundstore-gc.service", 0o644),
    ("lib/systemd/system/boundstore-gc.timer", 0o644),
    ("lib/systemd/system/boundstore-guard.path", 0o644),
    ("lib/systemd/system/boundstore-guard.service", 0o644),
    ("lib/systemd/system/boundstore-mount.service", 0o644),
    ("lib/systemd/system/boundstore-veto.service", 0o644),
    ("share/containers/storage.conf.d/50-boundstore.conf", 0o644),
];

/// Installs the binary under test instead of a release build.
fn install(destination: &Path, prefix: &Path) {
    let output = Command::new("make")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["install", "CARGO=true"])
        .arg(format!("BINARY={}", env!("CARGO_BIN_EXE_boundstore")))
        .arg(format!("DESTDIR={}", destination.display()))
        .arg(format!("PREFIX={}", prefix.display()))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

/// All files and empty folders below `folder`, with their modes.
fn found(folder: &Path, base: &Path, into: &mut BTreeMap<String, u32>) {
    let mut empty = true;
    for entry in fs::read_dir(folder).unwrap() {
        empty = false;
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_dir() {
            assert_eq!(mode, 0o755, "{}", path.display());
            found(&path, base, into);
        } else {
            let name = path.strip_prefix(base).unwrap().to_str().unwrap();
            into.insert(name.to_owned(), mode);
        }
    }
    if empty {
        let name = folder.strip_prefix(base).unwrap().to_str().unwrap();
        into.insert(format!("{name}/"), 0o755);
    }
}

#[test]
fn a_destination_has_exactly_the_files() {
    let scratch = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // Twice: an image is built on one that has boundstore.
    for _ in 0..2 {
        install(scratch.path(), Path::new("/usr"));
    }
    let mut files = BTreeMap::new();
    let usr = scratch.path().join("usr");
    found(&usr, &usr, &mut files);
    let wanted = FILES.map(|(name, mode)| (name.to_owned(), mode));
    assert_eq!(files, BTreeMap::from(wanted));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    for (name, _) in FILES.iter().filter(|(name, _)| name.contains("systemd")) {
        let text = fs::read_to_string(usr.join(name)).unwrap();
        let program = "/usr/bin/boundstore ";
        let starts_none = name.ends_with(".path") || name.ends_with(".timer");
        assert!(text.contains(program) || starts_none, "{name}");
    }
}

#[test]
fn systemd_takes_every_unit() {
    let scratch = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // The programs that units start are looked for: so they are there.
    let prefix = scratch.path().join("usr");
    install(Path::new(""), &prefix);
    let units = FILES.iter().filter(|(name, _)| name.contains("/system/"));
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(units.map(|(name, _)| prefix.join(name)))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    // Before 254 systemd does not know these two, and goes on without.
    let later = ["'RestartSteps'", "'RestartMaxDelaySec'"];
    let complaints: Vec<&str> = stderr
        .lines()
        .filter(|line| !later.iter().any(|key| line.contains(key)))
        .collect();
    assert_eq!(complaints, Vec::<&str>::new());
}

/// A booted system as its generators see it.
struct Boot(TempDir);

impl Boot {
    fn new(command_line: &str, root_source: &str) -> Self {
        let boot = Self(TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        let mounts = format!(
            "21 1 0:20 / /proc rw - proc proc rw\n\
             25 1 0:30 / / ro,relatime shared:1 - overlay {root_source} ro\n"
        );
        boot.write("proc/cmdline", command_line);
        boot.write("proc/self/mountinfo", &mounts);
        install(Path::new(""), &boot.path("usr"));
        boot
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Runs the installed generator; the links it made.
    fn generate(&self) -> (Output, Vec<String>) {
        let folder = self.path("normal");
        let _none_yet = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let generator = "usr/lib/systemd/system-generators/boundstore-generator";
        let output = Command::new(self.path(generator))
            .args([&folder, &self.path("early"), &self.path("late")])
            .arg("--host-root")
            .arg(self.0.path())
            .output()
            .unwrap();
        let mut links = BTreeMap::new();
        found(&folder, &folder, &mut links);
        let links = links.into_keys().filter(|name| name != "/").collect();
        (output, links)
    }
}

#[test]
fn a_host_with_deployments_gets_its_units() {
    for (command_line, source) in [
        ("root=/dev/vda3 ostree=/ostree/boot.0/os/1/0", "composefs"),
        ("composefs=ab quiet", "composefs:ab"),
        ("after a soft reboot", "transient:composefs=ab"),
    ] {
        let boot = Boot::new(command_line, source);
        let (output, links) = boot.generate();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
        let wanted = [
            "basic.target.wants/boundstore-veto.service",
            "local-fs.target.wants/boundstore-mount.service",
            "multi-user.target.wants/boundstore-guard.service",
            "paths.target.wants/boundstore-guard.path",
            "timers.target.wants/boundstore-gc.timer",
        ];
        assert_eq!(links, wanted, "{command_line}");
        for link in links {
            let target = fs::read_link(boot.path("normal").join(&link)).unwrap();
            assert_eq!(target.file_name(), Path::new(&link).file_name());
            let installed = target.strip_prefix("/").unwrap();
            assert!(boot.path(installed.to_str().unwrap()).is_file());
        }
    }
}

#[test]
fn other_hosts_get_none() {
    let boot = Boot::new("root=/dev/vda3 composefs=ab", "/dev/vda3");
    let (output, links) = boot.generate();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(links, Vec::<String>::new());
}

#[test]
fn the_configuration_decides_whether_a_boot_can_fail() {
    let boot = Boot::new("ostree=/ostree/boot.0/os/1/0", "composefs");
    let file = "etc/boundstore/config.toml";
    boot.write(file, "[boot]\non-failure = \"fail-boot\"\n");
    let (output, links) = boot.generate();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        links[1],
        "local-fs.target.requires/boundstore-mount.service"
    );

    // A broken file takes no unit away, and is told.
    boot.write(file, "[boot]\non-failure = \"never\"\n");
    let (output, links) = boot.generate();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("config.toml:2: "), "{stderr}");
    assert_eq!(links[1], "local-fs.target.wants/boundstore-mount.service");
}
