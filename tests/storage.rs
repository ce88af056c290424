//! Filesystems that become full, turn read-only or disappear under a sync: the
//! set that a deployment had stays, mounted and whole, and what was brought so
//! far is not brought again.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use common::{
    Scratch, battery, describe, fixtures, image::Image, output, podman::Podman, ready,
    registry::Registry, text,
};
use layout::{LayerBlob, Layout, tar};
use serde_json::Value;

const OLD: &str = "localhost/old:1";
const NEW: &str = "localhost/new:1";
/// Layers of the image [`NEW`].
const LAYERS: usize = 4;

/// A repository on a small disk of its own, with the mounted set of `d`.
struct Disk {
    scratch: Scratch,
    layout: Layout,
    /// Below `disk`.
    repo: &'static str,
}

impl Disk {
    fn new(options: &str) -> Self {
        Self::on("1g", &format!("mkfs.ext4 -q -b 4096 {options}"))
    }

    /// A disk whose image may take so much, as tmpfs counts.
    fn on(room: &str, mkfs: &str) -> Self {
        let scratch = Scratch::new();
        let layout = Layout::new(&scratch.join("layout"));
        let disk = Self {
            scratch,
            layout,
            repo: "repo",
        };
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={room}"), "below"]);
        text(mount.arg(disk.scratch.dir("below")));
        let image = disk.path("below/image");
        let size = if mkfs.contains("btrfs") { 256 } else { 96 };
        let file = fs::File::create(&image).unwrap();
        file.set_len(size << 20).unwrap();
        let mut words = mkfs.split_whitespace();
        let mut make = Command::new(words.next().unwrap());
        text(make.args(words).arg(&image));
        disk.mount_disk();
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        fs::write(disk.path("policy.json"), policy).unwrap();
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn mount_disk(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(self.path("below/image"));
        text(mount.arg(self.scratch.dir("disk")));
    }

    fn repo(&self) -> PathBuf {
        self.path("disk").join(self.repo)
    }

    fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boundstore"));
        command.args(["--json", "--allow-missing-verity", "--sysroot"]);
        command
            .arg(self.scratch.dir("host"))
            .arg("--repo")
            .arg(self.repo());
        command.args(args.split_whitespace());
        command
    }

    #[track_caller]
    fn ok(&self, args: &str) -> Value {
        serde_json::from_str(&text(&mut self.command(args))).unwrap()
    }

    fn sync_args(&self, image: &str) -> String {
        let [policy, spool] = ["policy.json", "spool"].map(|name| self.path(name));
        let (policy, spool) = (policy.display(), spool.display());
        format!(
            "sync --deployment d --retry-for 0 --no-tls-verify --policy {policy} --spool {spool} \
             --image {image}"
        )
    }

    /// Gives `d` its old set and mounts it.
    fn with_old_set(&mut self) -> String {
        let image = LayerBlob::gzip(&tar(&[("old", &noise(1, 50_000))]));
        self.layout.image("old", &[image]);
        self.ok(&self.sync_args(&self.layout.arg(OLD, "old")));
        let store = self.scratch.dir("store");
        self.ok(&format!("mount --deployment d {}", store.display()));
        self.set()
    }

    /// An image whose layers unpack to much more than their blobs.
    fn new_image(&mut self, bytes: usize) -> String {
        let layer = |layer: usize| {
            let content = |file: usize| {
                let name = format!("{layer}-{file}");
                let mut content = name.clone().into_bytes();
                content.resize(bytes, b'.');
                (name, content)
            };
            // The first is done soon, however many are imported at once.
            let files = (0..if layer == 0 { 4 } else { 40 }).map(content);
            let files: Vec<(String, Vec<u8>)> = files.collect();
            let files = files
                .iter()
                .map(|(name, bytes)| (name.as_str(), &bytes[..]));
            LayerBlob::gzip(&tar(&files.collect::<Vec<_>>()))
        };
        let layers: Vec<LayerBlob> = (0..LAYERS).map(layer).collect();
        self.layout.image("new", &layers);
        self.sync_args(&self.layout.arg(NEW, "new"))
    }

    /// The set that the deployment's ref names.
    fn set(&self) -> String {
        let link = self.repo().join("streams/refs/boundstore/deployments/d");
        fs::read_link(link).unwrap().display().to_string()
    }

    /// Layers that an unfinished sync keeps.
    fn partial(&self) -> usize {
        let folder = self.repo().join("streams/refs/boundstore/partial");
        fs::read_dir(folder).map_or(0, Iterator::count)
    }

    /// `d` has this set, whole; it is what is mounted, and can be read.
    #[track_caller]
    fn still_has(&self, set: &str) {
        assert_eq!(self.set(), set);
        self.ok("verify --deep");
        self.can_be_read();
    }

    #[track_caller]
    fn can_be_read(&self) {
        fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        let mut find = Command::new("find");
        find.arg(self.path("store/overlay")).args([
            "-name",
            "old",
            "-exec",
            "sha256sum",
            "{}",
            "+",
        ]);
        let found = text(&mut find);
        let expected = layout::sha256(&noise(1, 50_000));
        let expected = expected.trim_start_matches("sha256:");
        assert!(found.starts_with(expected), "{found}");
    }

    /// A sync that must fail, and name `path` and all of `words`.
    #[track_caller]
    fn fails(&self, args: &str, path: &Path, words: &[&str]) -> String {
        let output = output(&mut self.command(args));
        failed(&self.command(args), &output, path, words);
        describe(&self.command(args), &output)
    }

    /// Runs a sync and stops it when `seen`; then does something; then lets it go on.
    #[track_caller]
    fn interrupted(&self, args: &str, seen: impl Fn() -> bool, then: impl FnOnce()) -> Output {
        let child = piped(&mut self.command(args));
        wait_until(seen);
        signal(&child, "-STOP");
        then();
        signal(&child, "-CONT");
        child.wait_with_output().unwrap()
    }

    /// A sync in whose midst something happens: layers and image get their names,
    /// publishing has not begun.
    #[track_caller]
    fn before_publishing(&self, args: &str, then: impl FnOnce()) -> Output {
        let mut command = self.command(args);
        let child = piped(command.env("BOUNDSTORE_FAILPOINT", "stop:fsync:2"));
        let state = format!("/proc/{}/stat", child.id());
        wait_until(|| fs::read_to_string(&state).unwrap().contains(") T "));
        assert_eq!(self.partial(), LAYERS + 1);
        then();
        signal(&child, "-CONT");
        child.wait_with_output().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for name in ["store", "disk", "below"] {
            let _ = Command::new("umount")
                .arg("-l")
                .arg(self.path(name))
                .output();
        }
    }
}

#[track_caller]
fn failed(command: &Command, output: &Output, path: &Path, words: &[&str]) {
    let said = describe(command, output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&path.display().to_string()), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// Bytes that do not get smaller.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

const FULL: &[&str] = &["is full", "free some", "sync again", "the set it had"];

const DAMAGED: &[&str] = &["kernel's messages", "sync again", "the set it had"];

fn piped(command: &mut Command) -> Child {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    child.spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    text(Command::new("kill").args([name, &child.id().to_string()]));
}

#[track_caller]
fn wait_until(seen: impl Fn() -> bool) {
    let begun = Instant::now();
    while !seen() {
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(60), "nothing was seen");
        sleep(Duration::from_millis(1));
    }
}

/// Fills a filesystem up to some room.
fn fill(folder: &Path, leave: u64) -> PathBuf {
    let filler = folder.join("filler");
    let free = text(Command::new("stat").args(["-f", "-c", "%a %S"]).arg(folder));
    let mut numbers = free.split_whitespace().map(|n| n.parse::<u64>().unwrap());
    let free = numbers.next().unwrap() * numbers.next().unwrap();
    let mut size = free.saturating_sub(leave);
    // The filler's own list of blocks takes some, too.
    loop {
        let mut fallocate = Command::new("fallocate");
        fallocate.args(["-l", &size.to_string()]).arg(&filler);
        if output(&mut fallocate).status.success() {
            break;
        }
        size = size.checked_sub(4096).expect("nothing can be allocated");
    }
    filler
}

#[test]
fn a_full_disk_loses_nothing_wherever_it_fills_up() {
    if !ready(&["mkfs.ext4", "fallocate", "mount"]) {
        return;
    }
    let mut disk = Disk::new("-m 0");
    let old = disk.with_old_set();
    let args = disk.new_image(20_000);
    let (mut failures, mut estimated) = (0, 0);
    // From none at all to enough: in the first object, in a stream, in the set
    // image, in the pin.
    let mut leave = 0;
    loop {
        let filler = fill(&disk.path("disk"), leave);
        let mut command = disk.command(&args);
        let done = output(&mut command);
        if done.status.success() {
            break;
        }
        failures += 1;
        if describe(&command, &done).contains("have at least") {
            estimated += 1;
        } else {
            failed(&command, &done, &disk.repo(), FULL);
        }
        disk.still_has(&old);
        // It need not be mounted yet to be mounted now.
        disk.ok("status");
        fs::remove_file(filler).unwrap();
        leave += 16 << 10;
    }
    println!("{failures} full disks, {estimated} of them foreseen");
    assert!(failures > estimated + 8, "{failures} {estimated}");
    disk.ok("verify --deep");
    assert_ne!(disk.set(), old);
    assert_eq!(disk.partial(), 0);
    disk.can_be_read();
}

#[test]
fn a_disk_that_is_full_in_the_midst_of_a_large_file_is_what_is_told() {
    if !ready(&["mkfs.ext4", "fallocate", "mount"]) {
        return;
    }
    let mut disk = Disk::new("-m 0");
    let old = disk.with_old_set();
    // Much longer than what is held in memory, and than what waits to be written.
    let large = vec![b'.'; 48 << 20];
    let files: [(&str, &[u8]); 2] = [("large", &large), ("after", b"it")];
    disk.layout.image("new", &[LayerBlob::gzip(&tar(&files))]);
    let args = disk.sync_args(&disk.layout.arg(NEW, "new"));
    let filler = fill(&disk.path("disk"), 16 << 20);
    disk.fails(&args, &disk.repo(), FULL);
    disk.still_has(&old);
    fs::remove_file(filler).unwrap();
    disk.ok(&args);
    disk.ok("verify --deep");
}

#[test]
fn what_was_brought_before_the_disk_was_full_is_not_brought_again() {
    if !ready(&["mkfs.ext4", "fallocate", "mount"]) {
        return;
    }
    let mut disk = Disk::new("-m 0");
    let old = disk.with_old_set();
    let args = disk.new_image(20_000);
    let filler = fill(&disk.path("disk"), 1500 << 10);
    disk.fails(&args, &disk.repo(), FULL);
    disk.still_has(&old);
    let kept = disk.partial();
    assert!((1..LAYERS).contains(&kept), "{kept}");
    fs::remove_file(filler).unwrap();
    let synced = disk.ok(&args);
    assert_eq!(synced["layers_reused"], kept, "{synced}");
    assert_eq!(synced["layers_imported"], LAYERS - kept, "{synced}");
    disk.ok("verify --deep");
}

/// Rendering goes on while the layers get their names, and takes room meanwhile.
#[test]
fn layers_are_kept_where_there_is_no_room_for_the_set_image() {
    if !ready(&["mkfs.ext4", "fallocate", "mount"]) {
        return;
    }
    let mut disk = Disk::new("-m 0");
    let old = disk.with_old_set();
    let mut rendered = 0;
    for leave in (20..60).map(|step| step * (160 << 10)) {
        // Each file is in the set image, in the trees of all layers from its own on.
        let layers = (0..LAYERS).map(|layer| {
            let name = |file: usize| format!("{leave}-{layer}-{file}");
            let names: Vec<String> = (0..1500).map(name).collect();
            let files = names.iter().map(|name| (name.as_str(), name.as_bytes()));
            LayerBlob::gzip(&tar(&files.collect::<Vec<_>>()))
        });
        let tag = format!("new-{leave}");
        disk.layout.image(&tag, &layers.collect::<Vec<_>>());
        let args = disk.sync_args(&disk.layout.arg(NEW, &tag));
        let before = disk.partial();
        let filler = fill(&disk.path("disk"), leave);
        let mut command = disk.command(&args);
        let done = output(&mut command);
        if done.status.success() {
            break;
        }
        let said = describe(&command, &done);
        let kept = disk.partial() - before;
        let in_import = said.contains("have at least") || said.contains("1, layer");
        if !in_import {
            assert_eq!(kept, LAYERS + 1, "{said}");
            rendered += 1;
        }
        disk.still_has(&old);
        fs::remove_file(filler).unwrap();
    }
    assert!(rendered > 2, "{rendered}");
}

#[test]
fn a_disk_that_can_hold_no_more_files_is_full() {
    if !ready(&["mkfs.ext4", "mount"]) {
        return;
    }
    let mut disk = Disk::new("-m 0 -N 400");
    let old = disk.with_old_set();
    let args = disk.new_image(20_000);
    let room = disk.scratch.dir("disk/files");
    let mut count = 0;
    while fs::write(room.join(count.to_string()), "").is_ok() {
        count += 1;
    }
    for last in 0..count.min(12) {
        fs::remove_file(room.join(last.to_string())).unwrap();
    }
    let words = [FULL, &["files are free"]].concat();
    disk.fails(&args, &disk.repo(), &words);
    disk.still_has(&old);
    fs::remove_dir_all(room).unwrap();
    disk.ok(&args);
    disk.ok("verify --deep");
}

/// As ext4 does with `errors=remount-ro` when it finds damage.
#[test]
fn a_disk_that_turns_read_only_in_the_middle() {
    if !ready(&["mkfs.ext4", "mount"]) {
        return;
    }
    let mut disk = Disk::new("-m 0 -e remount-ro");
    let old = disk.with_old_set();
    let args = disk.new_image(300_000);
    let abort = || {
        let mut mount = Command::new("mount");
        text(mount.args(["-o", "remount,abort"]).arg(disk.path("disk")));
    };
    let synced = disk.before_publishing(&args, abort);
    // What was on its way to the disk just then failed with EIO.
    let said = describe(&disk.command(&args), &synced);
    assert_eq!(synced.status.code(), Some(1), "{said}");
    let eio = said.contains("Input/output error");
    assert!(eio || said.contains("is read-only"), "{said}");
    disk.still_has(&old);
    // Nor does a sync from the start get anywhere: it is read-only, and what
    // never came to the disk makes a directory look damaged.
    disk.fails(&args, &disk.repo(), DAMAGED);
    disk.ok(&format!("umount {}", disk.path("store").display()));
    text(Command::new("umount").arg(disk.path("disk")));
    disk.mount_disk();
    assert_eq!(disk.set(), old);
    disk.ok("verify --deep");
    let synced = disk.ok(&args);
    assert!(synced["layers_reused"].as_u64() >= Some(1), "{synced}");
    disk.ok("verify --deep");
}

/// The disk below gives EIO wherever it has no block yet: its image lies on a
/// filesystem without room for another.
#[test]
fn a_disk_that_fails_in_the_middle() {
    if !ready(&["mkfs.ext4", "mount"]) {
        return;
    }
    let mut disk = Disk::on("24m", "mkfs.ext4 -q -b 4096 -m 0");
    let old = disk.with_old_set();
    let args = disk.new_image(20_000);
    let filler = fill(&disk.path("below"), 0);
    let said = disk.fails(&args, &disk.repo(), DAMAGED);
    // EIO, or read-only after that: which is a matter of when the kernel writes.
    let eio = said.contains("a disk fails or is damaged");
    assert!(eio || said.contains("is read-only"), "{said}");
    disk.can_be_read();
    // As the machine would after that: a disk that is well, mounted anew.
    fs::remove_file(filler).unwrap();
    disk.ok(&format!("umount {}", disk.path("store").display()));
    text(Command::new("umount").arg(disk.path("disk")));
    disk.mount_disk();
    assert_eq!(disk.set(), old);
    disk.ok("verify --deep --repair");
    disk.ok(&args);
    disk.ok("verify --deep");
}

/// A subvolume with a limit of its own.
#[test]
fn a_quota_that_is_used_up() {
    if !ready(&["mkfs.btrfs", "btrfs", "mount"]) {
        return;
    }
    let mut disk = Disk::on("400m", "mkfs.btrfs -q");
    let volume = disk.path("disk/volume");
    let btrfs = |args: &[&str]| text(Command::new("btrfs").args(args).arg(&volume));
    btrfs(&["subvolume", "create"]);
    btrfs(&["quota", "enable"]);
    disk.repo = "volume/repo";
    let old = disk.with_old_set();
    let args = disk.new_image(300_000);
    btrfs(&["qgroup", "limit", "4m"]);
    disk.fails(
        &args,
        &disk.repo(),
        &["quota", "raise it", "sync again", "the set it had"],
    );
    disk.still_has(&old);
    btrfs(&["qgroup", "limit", "none"]);
    disk.ok(&args);
    disk.ok("verify --deep");
}

#[test]
fn a_repository_that_is_renamed_away_in_the_middle() {
    if !ready(&["mkfs.ext4", "mount"]) {
        return;
    }
    let mut disk = Disk::new("-m 0");
    let old = disk.with_old_set();
    let args = disk.new_image(300_000);
    let away = disk.path("disk/away");
    let rename = || fs::rename(disk.repo(), &away).unwrap();
    let synced = disk.before_publishing(&args, rename);
    // It goes on in what it has open, or says what it could not find: nothing
    // is begun anew in its place.
    let said = describe(&disk.command(&args), &synced);
    assert!(matches!(synced.status.code(), Some(0 | 1)), "{said}");
    assert!(!disk.repo().exists(), "{said}");
    disk.can_be_read();
    fs::rename(&away, disk.repo()).unwrap();
    // After the commit there is a look at it: that may be what fails.
    let late = said.contains(&format!("Error: stat {}\n", disk.repo().display()));
    let published = disk.set() != old;
    assert!(
        published == synced.status.success() || (published && late),
        "{said}"
    );
    disk.ok("verify --deep");
    let synced = disk.ok(&args);
    assert!(synced["layers_reused"].as_u64() >= Some(1), "{synced}");
    disk.ok("verify --deep");
}

#[test]
fn a_disk_that_is_unmounted_lazily_in_the_middle() {
    if !ready(&["mkfs.ext4", "mount"]) {
        return;
    }
    let mut disk = Disk::new("-m 0");
    let old = disk.with_old_set();
    let args = disk.new_image(300_000);
    let unmount = || {
        text(Command::new("umount").arg("-l").arg(disk.path("disk")));
    };
    let synced = disk.before_publishing(&args, unmount);
    let said = describe(&disk.command(&args), &synced);
    assert!(matches!(synced.status.code(), Some(0 | 1)), "{said}");
    // Nothing was written to what was below it.
    assert_eq!(
        fs::read_dir(disk.path("disk")).unwrap().count(),
        0,
        "{said}"
    );
    disk.can_be_read();
    disk.ok(&format!("umount {}", disk.path("store").display()));
    disk.mount_disk();
    assert_eq!(disk.set() == old, !synced.status.success(), "{said}");
    disk.ok("verify --deep");
    disk.ok(&args);
    disk.ok("verify --deep");
}

#[test]
fn a_spool_that_is_full_or_disappears() {
    if !ready(&["docker-registry", "skopeo", "mkfs.ext4", "mount"]) {
        return;
    }
    let mut disk = Disk::new("-m 0");
    let old = disk.with_old_set();
    let layers = [1, 2, 3].map(|seed| {
        let name = format!("file{seed}");
        LayerBlob::plain(&tar(&[(&name, &noise(seed, 3 << 20))]))
    });
    disk.layout.image("noise", &layers);
    let registry = Registry::start(&disk.scratch);
    registry.put(&Image::read(&disk.layout.path, "noise"), "noise:1");
    let args = disk.sync_args(&format!(
        "{0}/noise:1=docker://{0}/noise:1",
        registry.address
    ));
    let spool = disk.scratch.dir("spool");
    let mut mount = Command::new("mount");
    text(
        mount
            .args(["-t", "tmpfs", "-o", "size=4m", "spool"])
            .arg(&spool),
    );
    disk.fails(&args, &spool, FULL);
    disk.still_has(&old);
    text(
        Command::new("mount")
            .args(["-o", "remount,size=64m"])
            .arg(&spool),
    );
    // What is in it already is not fetched again.
    let mark = registry.mark();
    let whole = fs::read_dir(&spool).unwrap().count();
    println!("{whole} files in the spool");
    let away = disk.path("away");
    fs::create_dir(&away).unwrap();
    disk.ok(&args);
    let fetched = registry.fetched_since(mark);
    println!("fetched then: {fetched:?}");
    assert!(fetched.len() <= 4, "{fetched:?}");
    disk.ok("verify --deep");
    text(Command::new("umount").arg(&spool));
    // A folder that is taken away once a blob has begun.
    let more = LayerBlob::plain(&tar(&[("more", &noise(9, 30 << 20))]));
    disk.layout.image("more", &[more]);
    registry.put(&Image::read(&disk.layout.path, "more"), "more:1");
    let before = disk.set();
    let args = disk.sync_args(&format!("{0}/more:1=docker://{0}/more:1", registry.address));
    let begun = || fs::read_dir(&spool).is_ok_and(|entries| entries.count() > 0);
    let rename = || fs::rename(&spool, away.join("spool")).unwrap();
    // It is held open: the sync goes on in it, wherever it is.
    let synced = disk.interrupted(&args, begun, rename);
    let said = describe(&disk.command(&args), &synced);
    assert!(synced.status.success(), "{said}");
    assert_ne!(disk.set(), before);
    assert_eq!(fs::read_dir(away.join("spool")).unwrap().count(), 0);
    disk.ok("verify --deep");
    disk.ok(&args);
}

/// That a set is mounted is noted there first, so that no gc takes it: without
/// the note podman gets the empty store.
#[test]
fn a_run_that_is_full() {
    if !ready(&["mkfs.ext4", "fallocate", "mount"]) {
        return;
    }
    let mut disk = Disk::new("-m 0");
    let old = disk.with_old_set();
    let (host, run, store) = (
        disk.path("host"),
        disk.scratch.dir("host/run"),
        disk.scratch.dir("second-store"),
    );
    let mut mount = Command::new("mount");
    text(
        mount
            .args(["-t", "tmpfs", "-o", "size=16k", "run"])
            .arg(&run),
    );
    let filler = fill(&run, 0);
    let boot_id = "proc/sys/kernel/random/boot_id";
    fs::create_dir_all(host.join(boot_id).parent().unwrap()).unwrap();
    fs::copy(Path::new("/").join(boot_id), host.join(boot_id)).unwrap();
    let on_host = |args: &str| format!("--host-root {} {args}", host.display());
    let mount = on_host(&format!("mount --deployment d {}", store.display()));
    disk.fails(&mount, &run, &["No space left", "an empty store stands in"]);
    assert!(store.join("overlay-images").exists());
    assert!(!store.join("overlay-images/images.json").exists());
    disk.still_has(&old);
    for args in ["status", "gc", "verify --deep"] {
        disk.ok(&on_host(args));
    }
    let sync = disk.new_image(20_000);
    disk.ok(&on_host(&sync));
    fs::remove_file(filler).unwrap();
    disk.ok(&mount);
    assert!(store.join("overlay-images/images.json").exists());
    disk.can_be_read();
    for folder in [store, run] {
        text(Command::new("umount").arg(folder));
    }
}

/// A container runs from the old set while its disk is full and read-only.
#[test]
fn podman_runs_from_the_old_set_all_the_while() {
    if !ready(battery::TOOLS) {
        return;
    }
    let mut disk = Disk::new("-m 0");
    let source = Image::read(&fixtures().join("app-small"), "v1").source();
    disk.ok(&disk.sync_args(&format!("{OLD}={source}")));
    let store = disk.scratch.dir("store");
    disk.ok(&format!("mount --deployment d {}", store.display()));
    let podman = Podman::new(disk.path("podman"), Some(&store));
    let runs = |when: &str| {
        assert_eq!(podman.images(), [(OLD.to_owned(), true)], "{when}");
        let said = podman.run("--rm", OLD, "/bin/sh /app/hello");
        assert_eq!(said, "hello from v1\n", "{when}");
    };
    runs("at first");
    let args = disk.new_image(20_000);
    let filler = fill(&disk.path("disk"), 1 << 20);
    disk.fails(&args, &disk.repo(), FULL);
    runs("on a full disk");
    fs::remove_file(filler).unwrap();
    text(
        Command::new("mount")
            .args(["-o", "remount,abort"])
            .arg(disk.path("disk")),
    );
    disk.fails(&args, &disk.repo(), &["is read-only"]);
    runs("on a read-only disk");
    disk.ok(&format!("umount {}", store.display()));
}
