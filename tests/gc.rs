//! `gc`: what goes, what stays, and that nothing is ever gone that somebody
//! needs. The judges are composefs's own gc and fsck.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/host.rs"]
mod host;
#[path = "common/layout.rs"]
mod layout;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use common::{
    Scratch, battery, boundstore::Boundstore, fixtures, image::Image, podman::Podman, ready,
};
use composefs::{
    fsverity::Sha512HashValue,
    generic_tree::{Inode, LeafContent, Stat},
    repository::Repository,
    tree::{FileSystem, RegularFile},
};
use host::Host;
use layout::{LayerBlob, Layout, content, tar};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

const BOOT: &str = "11111111-2222-3333-4444-555555555555";

/// A repository, and the files of a host that has deployments of ostree's.
struct OnHost {
    host: Host,
    /// Makes this test's files its own: a mount on this machine, of whatever
    /// repository, keeps a set image of the same digest.
    seed: u8,
}

impl OnHost {
    fn new(seed: u8) -> Self {
        let host = Host::new();
        fs::create_dir_all(host.path("sysroot/ostree/deploy/default/deploy")).unwrap();
        let on = Self { host, seed };
        on.boot(BOOT);
        on
    }

    fn boot(&self, id: &str) {
        let folder = self.host.path("proc/sys/kernel/random");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("boot_id"), format!("{id}\n")).unwrap();
        // What reboot does to /run.
        let _none = fs::remove_dir_all(self.host.path("run"));
    }

    fn folder(&self, number: u8) -> PathBuf {
        let checksum = format!("{number:02x}").repeat(32);
        let folder = format!("sysroot/ostree/deploy/default/deploy/{checksum}.0");
        self.host.path(&folder)
    }

    /// Deploys; the deployment's id.
    fn deploy(&self, number: u8) -> String {
        let folder = self.folder(number);
        fs::create_dir_all(&folder).unwrap();
        format!("default-{}", folder.file_name().unwrap().to_str().unwrap())
    }

    fn undeploy(&self, number: u8) {
        fs::remove_dir(self.folder(number)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let sysroot = self.host.path("sysroot");
        let mut command = self.host.command(&[]);
        command.arg("--host-root").arg(self.host.dir.path());
        command.arg("--sysroot").arg(sysroot).args(args);
        command
    }

    #[track_caller]
    fn exits(&self, code: i32, args: &[&str]) -> Output {
        let output = self.command(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        output
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> Value {
        serde_json::from_slice(&self.exits(0, args).stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, code: i32, args: &[&str], words: &[&str]) {
        let output = self.exits(code, args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "{word:?} is not in: {stderr}");
        }
    }

    /// Syncs an image of a layer that all share and one of its own.
    #[track_caller]
    fn sync(&self, id: &str, version: u8) -> Value {
        let mut layout = Layout::new(&self.host.path(&format!("layout-{version}")));
        let base = tar(&[
            ("etc/", b""),
            ("etc/name", &content(self.seed, 3000)),
            ("hello", &content(self.seed, 70_000)),
        ]);
        let own = content(self.seed.wrapping_add(version), 5000);
        let top = tar(&[("data", &own), ("small", b"tiny")]);
        layout.image("v", &[LayerBlob::gzip(&base), LayerBlob::plain(&top)]);
        let image = layout.arg("localhost/app:1", "v");
        self.ok(&["sync", "--deployment", id, "--image", &image])
    }

    /// A collection, foretold by a dry run and followed by fsck.
    #[track_caller]
    fn gc(&self) -> Value {
        let before = self.files();
        let foretold = self.ok(&["gc", "--dry-run"]);
        assert_eq!(self.files(), before, "a dry run wrote something");
        let mut done = self.ok(&["gc"]);
        assert_eq!(done["dry_run"], false);
        done["dry_run"] = true.into();
        assert_eq!(done, foretold);
        self.host.fsck();
        done
    }

    /// All files of the repository, and what symlinks say.
    fn files(&self) -> BTreeMap<PathBuf, PathBuf> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.host.path("repo")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else {
                    let link = fs::read_link(&path).unwrap_or_default();
                    found.insert(path, link);
                }
            }
        }
        found
    }

    fn refs(&self) -> PathBuf {
        self.host.path("repo/streams/refs/boundstore")
    }
}

fn reasons(verdicts: &Value) -> Vec<&str> {
    let verdicts = verdicts.as_array().unwrap().iter();
    verdicts.map(|v| v["reason"].as_str().unwrap()).collect()
}

/// What bootc and others have in a repository: streams and images, with a ref
/// and without.
fn add_foreign(host: &Host) -> BTreeSet<PathBuf> {
    let repo = Arc::new(host.crate_repo());
    let before = host.objects();
    let stat = |mode| Stat {
        st_mode: mode,
        st_uid: 0,
        st_gid: 0,
        st_mtim_sec: 0,
        st_mtim_nsec: 0,
        xattrs: BTreeMap::new(),
    };
    for name in [None, Some("theirs")] {
        let bytes = content(name.map_or(200, |_| 201), 4000);
        let object = repo.ensure_object(&bytes).unwrap();
        let mut tree = FileSystem::<Sha512HashValue>::new(stat(0o755));
        let file = LeafContent::Regular(RegularFile::External(object.clone(), 4000));
        let leaf = tree.push_leaf(stat(0o644), file);
        tree.root.insert(OsStr::new("file"), Inode::leaf(leaf));
        tree.commit_image(&repo, name).unwrap();
        let mut stream = repo.create_stream(7).unwrap();
        let bytes = content(name.map_or(210, |_| 211), 4000);
        stream.write_external(&bytes).unwrap();
        let id = format!("oci-layer-{}", name.unwrap_or("loose"));
        repo.write_stream(stream, &id, name).unwrap();
    }
    host.objects().difference(&before).cloned().collect()
}

#[test]
fn undeploying_frees_exactly_its_own() {
    let on = OnHost::new(10);
    let (one, two) = (on.deploy(1), on.deploy(2));
    on.sync(&one, 1);
    on.sync("by-hand", 3);
    let foreign = add_foreign(&on.host);
    assert!(foreign.len() >= 8, "{foreign:?}");
    let before = on.files();
    on.sync(&two, 2);
    let with_two = on.files();

    let nothing = on.gc();
    assert_eq!(nothing["objects"], 0, "{nothing}");
    assert_eq!(nothing["collected_by"], "boundstore");
    assert_eq!(
        reasons(&nothing["stays"]),
        ["Manual", "Deployment", "Deployment"]
    );
    assert_eq!(on.files(), with_two);

    on.undeploy(2);
    let collected = on.gc();
    assert_eq!(reasons(&collected["goes"]), ["Gone"]);
    let path = format!("boundstore/deployments/{two}");
    assert_eq!(collected["goes"][0]["ref"], path.as_str());
    assert_eq!(on.files(), before, "not exactly what two had");
    let bytes: u64 = collected["bytes"].as_u64().unwrap();
    assert!(bytes > 5000, "{collected}");
    for id in [&one, "by-hand"] {
        on.ok(&["verify", "--deep", "--deployment", id]);
    }

    // All ours gone: what is left is theirs.
    on.ok(&["remove", "--deployment", "by-hand"]);
    on.ok(&["remove", "--deployment", &one]);
    on.gc();
    assert_eq!(on.host.objects(), foreign);
    let ours = |path: &&PathBuf| path.to_string_lossy().contains("streams/boundstore-");
    assert_eq!(on.files().keys().find(ours), None);
}

#[test]
fn others_gc_and_ours_agree_on_what_was_mounted() {
    let on = OnHost::new(20);
    let (one, two) = (on.deploy(1), on.deploy(2));
    on.sync(&one, 1);
    let before = on.host.objects();
    let set = on.sync(&two, 2)["set_image"].as_str().unwrap().to_owned();
    let store = on.host.path("store");
    fs::create_dir(&store).unwrap();
    let target = store.to_str().unwrap();
    on.ok(&["mount", "--deployment", &two, target]);
    assert!(
        on.host
            .path(&format!("run/boundstore/mounted/{set}"))
            .is_file()
    );
    on.ok(&["umount", target]);

    on.undeploy(2);
    let with_two = on.host.objects();
    let kept = on.gc();
    assert_eq!(reasons(&kept["goes"]), ["Gone"]);
    assert_eq!(kept["kept"], json!([set]));
    assert_eq!(on.host.objects(), with_two);
    assert_eq!(on.host.gc(), 0, "the crate's gc");
    let again = on.gc();
    assert_eq!(reasons(&again["stays"]), ["Deployment", "MountedSinceBoot"]);
    assert_eq!(again["kept"], json!([]));

    on.boot("99999999-2222-3333-4444-555555555555");
    let freed = on.gc();
    assert_eq!(reasons(&freed["goes"]), ["EarlierBoot"]);
    assert_eq!(on.host.objects(), before);
}

/// A set that another replaces, or whose deployment is removed, while it is
/// mounted: its files outlive any gc.
#[test]
fn a_mounted_set_outlives_its_ref() {
    let on = OnHost::new(30);
    on.deploy(1);
    on.sync("d", 1);
    let store = on.host.path("store");
    fs::create_dir(&store).unwrap();
    let target = store.to_str().unwrap();
    on.ok(&["mount", "--deployment", "d", target]);
    let mounted = Mounted(&store);
    let read = || {
        let found = Command::new("grep")
            .args(["-r", "-c", "", target])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        found.unwrap().code()
    };
    let collect = || {
        on.host.gc();
        on.gc();
        drop_caches();
    };
    // 0: there were lines, 1: there were none, 2: a file could not be read.
    assert_eq!(read(), Some(0));
    on.sync("d", 2);
    collect();
    assert_eq!(read(), Some(0), "after another set took its place");
    on.ok(&["remove", "--deployment", "d"]);
    collect();
    assert_eq!(read(), Some(0), "after remove");
    assert_eq!(fs::read_dir(on.refs().join("mounted")).unwrap().count(), 1);
    drop(mounted);
    on.boot("99999999-2222-3333-4444-555555555555");
    on.gc();
    assert!(on.host.objects().is_empty());
}

struct Mounted<'p>(&'p Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
}

#[test]
fn a_sync_that_holds_the_lock_is_waited_for_with_a_limit() {
    let on = OnHost::new(40);
    on.deploy(1);
    on.sync("d", 1);
    on.ok(&["remove", "--deployment", "d"]);
    let before = on.files();
    let sync = File::open(on.host.path("repo")).unwrap();
    flock(&sync, FlockOperation::LockShared).unwrap();
    let begun = Instant::now();
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| on.fails(4, &["gc", "--wait", "2"], &["is in use"]));
        thread::sleep(Duration::from_secs(1));
        // Nobody else has to wait meanwhile.
        let other = File::open(on.host.path("repo")).unwrap();
        let held = flock(&other, FlockOperation::NonBlockingLockShared);
        waiting.join().unwrap();
        held
    });
    waiting.unwrap();
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(on.files(), before);
    drop(sync);
    on.gc();
    assert!(on.host.objects().is_empty());
}

#[test]
fn what_an_unfinished_sync_brought_is_kept_for_a_week() {
    let on = OnHost::new(50);
    on.deploy(1);
    on.sync("d", 1);
    let mut layout = Layout::new(&on.host.path("layout"));
    let good = LayerBlob::gzip(&tar(&[("good", &content(51, 5000))]));
    let bad = LayerBlob {
        diff_id: layout::sha256(b"another"),
        ..LayerBlob::gzip(&tar(&[("bad", &content(52, 5000))]))
    };
    layout.image("bad", &[good, bad]);
    let image = layout.arg("localhost/bad:1", "bad");
    let before = on.host.objects();
    on.fails(1, &["sync", "--deployment", "e", "--image", &image], &[]);
    let partial = on.host.partial();
    assert_eq!(partial.len(), 1);
    let kept = on.gc();
    assert_eq!(reasons(&kept["stays"]), ["Manual", "Unfinished"]);
    assert!(on.host.objects().len() > before.len());
    let mut touch = Command::new("touch");
    touch.args(["-h", "-d", "8 days ago"]).arg(&partial[0]);
    assert!(touch.status().unwrap().success());
    let freed = on.gc();
    assert_eq!(reasons(&freed["goes"]), ["Abandoned"]);
    assert_eq!(on.host.objects(), before);
}

#[test]
fn an_interrupted_gc_is_finished_by_the_next() {
    let on = OnHost::new(60);
    on.deploy(1);
    on.sync("stays", 1);
    let before = on.files();
    for turn in 0..6 {
        for version in 2..8 {
            on.sync(&format!("v{version}"), version);
        }
        for version in 2..8 {
            on.ok(&["remove", "--deployment", &format!("v{version}")]);
        }
        let mut gc = on.command(&["gc"]);
        let mut gc = gc.stdout(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(4 * turn));
        gc.kill().unwrap();
        gc.wait().unwrap();
        // No ref or stream without what it names, whenever it was killed.
        on.host.fsck();
        on.ok(&["verify", "--deep", "--deployment", "stays"]);
        on.gc();
        assert_eq!(on.files(), before);
    }
}

#[test]
fn what_is_broken_is_told_and_nothing_is_lost() {
    let on = OnHost::new(70);
    let one = on.deploy(1);
    on.sync(&one, 1);
    let before = on.host.objects();
    let refs = on.refs();
    for (path, target) in [
        ("deployments/dangling", "../../../boundstore-set-v1-00"),
        ("deployments/nothing", "../../../.."),
        ("deployments/refs", "../../../refs"),
        ("mounted/stray", "../../../none"),
        ("partial/dangling", "../../../none"),
    ] {
        let path = refs.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
    let odd = refs.join("deployments").join(OsStr::from_bytes(b"\xff"));
    symlink(format!("../../../{}", pin_of(&on, &one)), &odd).unwrap();
    // Not understood, and with it no gc of this repository works.
    let plan = on.ok(&["gc", "--dry-run"]);
    assert_eq!(
        reasons(&plan["goes"]),
        ["Broken", "Broken", "Broken", "Broken"]
    );
    assert_eq!(
        reasons(&plan["stays"]),
        ["Deployment", "Unknown", "Unknown"]
    );
    on.fails(1, &["gc"], &["collect the garbage"]);
    assert_eq!(on.host.objects(), before);
    fs::remove_file(refs.join("mounted/stray")).unwrap();
    let collected = on.gc();
    assert_eq!(reasons(&collected["stays"]), ["Deployment", "Unknown"]);
    assert_eq!(on.host.objects(), before);
    assert!(odd.is_symlink());

    fs::write(refs.join("deployments/file"), "").unwrap();
    let words = ["streams/refs/boundstore/deployments/file"];
    on.fails(1, &["gc"], &words);
    on.fails(1, &["gc", "--dry-run"], &words);
    assert_eq!(on.host.objects(), before);
}

fn pin_of(on: &OnHost, id: &str) -> String {
    let link = fs::read_link(on.refs().join("deployments").join(id)).unwrap();
    link.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_host_that_cannot_be_told_loses_nothing() {
    let on = OnHost::new(80);
    let gone = on.deploy(1);
    on.sync(&gone, 1);
    on.undeploy(1);
    let before = on.files();
    for args in [&["gc"][..], &["gc", "--dry-run"]] {
        on.fails(1, args, &["nothing is collected", "no deployment at all"]);
    }
    on.deploy(2);
    let staged = on.host.path("run/ostree/staged-deployment");
    fs::create_dir_all(staged.parent().unwrap()).unwrap();
    fs::write(&staged, "garbage").unwrap();
    for args in [&["gc"][..], &["gc", "--dry-run"]] {
        on.fails(1, args, &["nothing is collected", "staged-deployment"]);
    }
    assert_eq!(on.files(), before);
    fs::remove_file(staged).unwrap();
    assert_eq!(reasons(&on.gc()["goes"]), ["Gone"]);
}

/// Where the host boots from the repository, its objects are bootc's to collect.
#[test]
fn a_composefs_host_keeps_its_objects() {
    let host = Host::new();
    let on = OnHost { host, seed: 90 };
    on.boot(BOOT);
    fs::create_dir_all(on.host.path("sysroot")).unwrap();
    symlink("../repo", on.host.path("sysroot/composefs")).unwrap();
    let ids = ["a1", "b2"].map(|byte| byte.repeat(64));
    // Not deployments of the host yet, so that no root is looked for.
    for id in &ids {
        on.sync(id, id.as_bytes()[0]);
    }
    for id in &ids {
        let folder = on.host.path(&format!("sysroot/state/deploy/{id}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{id}.origin")), "[origin]\n").unwrap();
    }
    fs::remove_dir_all(on.host.path(&format!("sysroot/state/deploy/{}", ids[1]))).unwrap();
    let objects = on.host.objects();
    let collected = on.gc();
    assert_eq!(collected["collected_by"], "host");
    assert_eq!(collected["objects"], Value::Null);
    assert_eq!(reasons(&collected["goes"]), ["Gone"]);
    assert_eq!(reasons(&collected["stays"]), ["Deployment"]);
    assert_eq!(on.host.objects(), objects, "left to the host");
    assert!(on.host.gc() > 0, "and the host's gc takes them");
    on.ok(&["verify", "--deep", "--deployment", &ids[0]]);
}

/// A container goes on reading whatever becomes of its set: another takes its
/// place, ours and the crate's gc run, the deployment's set is removed.
#[test]
fn a_container_reads_on() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let boundstore = Boundstore::new(&scratch, "repo");
    let name = "localhost/app:1";
    let image = |version| {
        let source = Image::read(&fixtures().join("app"), version).source();
        [format!("{name}={source}")]
    };
    boundstore.sync("d", &image("v1"));
    let store = scratch.join("store");
    boundstore.mount("d", &store);
    let podman = Podman::new(scratch.join("podman"), Some(&store));
    // Nothing is read before, so that nothing is in a cache.
    let script = "echo ready; cat >/dev/null; \
        find / -xdev -type f -exec cat {} + | wc -c && cat /app/version && \
        cd /app && sha256sum --check --quiet SHA256SUMS && wc -l <SHA256SUMS";
    let mut container = podman.start("", name, script);
    let crates_gc = || {
        let root = File::open("/").unwrap();
        let repo = Repository::<Sha512HashValue>::open_path(root, boundstore.repo()).unwrap();
        repo.gc(&[]).unwrap();
    };
    boundstore.sync("d", &image("v2"));
    boundstore.mount("d", &store);
    assert_eq!(podman.run("--rm", name, "cat /app/version"), "v2\n");
    for change in ["gc", "remove --deployment d", "gc"] {
        boundstore.ok(change);
        crates_gc();
        drop_caches();
    }
    let (succeeded, said) = container.end();
    assert!(succeeded, "{said}");
    let said: Vec<&str> = said.lines().collect();
    let [bytes, "v1", files] = said[..] else {
        panic!("{said:?}");
    };
    // The image has some 200 MB, and lists its own files.
    assert!(bytes.parse::<u64>().unwrap() > 50_000_000, "{bytes}");
    assert!(files.parse::<u32>().unwrap() > 200, "{files}");
    // What is mounted since is another set, which nobody has removed either.
    assert_eq!(podman.run("--rm", name, "cat /app/version"), "v2\n");
    boundstore.umount(&store);
}
