//! Nothing hangs without limit: locks, files that are none, sources, readers
//! and programs that do not answer. The table is docs/limits.md.
//!
//! Whatever runs here has a limit of its own: what hangs fails.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/bootable.rs"]
mod bootable;
mod common;
#[path = "common/layout.rs"]
mod layout;
#[path = "common/stalled.rs"]
mod stalled;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use bootable::{Backend, Bootable};
use boundstore::{
    deployment::{ExposeError, Mounter, PrimaryStore},
    name::Algorithm,
    repo::{Collector, NewRepo, Repo, RepoError, RepoView},
    sys::output_within,
};
use common::{Scratch, boundstore::Boundstore, describe, mounts_below, ready};
use composefs::{fsverity::Sha512HashValue, repository::Repository};
use layout::{LayerBlob, Layout, content, tar};
use rustix::fs::{FlockOperation, Mode, flock, mkfifoat};
use stalled::{StalledFile, StalledRegistry};

/// What takes longer hangs. The limits that are tried here are a second or two.
const HANGS: Duration = Duration::from_secs(90);
const SHORT: Duration = Duration::from_millis(300);

/// Runs a command that must come to an end.
#[track_caller]
fn ends(command: &mut Command) -> Output {
    let output = output_within(command, HANGS).unwrap();
    output.unwrap_or_else(|| panic!("hangs: {command:?}"))
}

/// Runs a command that must end with `code`, and say all of `words`.
#[track_caller]
fn ends_with(code: i32, words: &[&str], command: &mut Command) {
    let output = ends(command);
    let told = describe(command, &output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(
        words.iter().all(|word| told.contains(word)),
        "{words:?}: {told}"
    );
    assert!(!told.contains("panicked"), "{told}");
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < HANGS, "never: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// A repository with the set of `d`, of one image in a layout of several layers.
struct Synced {
    boundstore: Boundstore,
    layout: Layout,
    scratch: Scratch,
}

impl Synced {
    fn new() -> Self {
        let scratch = Scratch::new();
        let boundstore = Boundstore::new(&scratch, "repo");
        let mut layout = Layout::new(&scratch.join("layout"));
        let layer = |seed| LayerBlob::plain(&tar(&[("data", &content(seed, 5000))]));
        layout.image("one", &[layer(1)]);
        let many: Vec<_> = (2..80).map(layer).collect();
        layout.image("many", &many);
        let synced = Self {
            boundstore,
            layout,
            scratch,
        };
        synced.boundstore.ok(&synced.sync("d", "one"));
        synced
    }

    fn sync(&self, deployment: &str, reference: &str) -> String {
        let image = self.layout.arg("localhost/app:1", reference);
        self.boundstore.sync_args(deployment, &[image])
    }

    fn repo(&self) -> &Path {
        self.boundstore.repo()
    }

    fn lock(&self, how: FlockOperation) -> File {
        let dir = File::open(self.repo()).unwrap();
        flock(&dir, how).unwrap();
        dir
    }

    fn can_be_locked(&self, how: FlockOperation) -> bool {
        flock(File::open(self.repo()).unwrap(), how).is_ok()
    }
}

/// The crate's handle, in this process.
fn crate_repo(repo: &Path) -> Repository<Sha512HashValue> {
    Repository::open_path(File::open("/").unwrap(), repo).unwrap()
}

const REPO: &str = "BOUNDSTORE_TEST_REPO";
const DO: &str = "BOUNDSTORE_TEST_DO";

/// This test binary again, as a process that uses the crate.
fn with_the_crate(what: &str, repo: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_crate_in_a_process", "--nocapture"]);
    command.env(REPO, repo).env(DO, what);
    command
}

#[test]
fn the_crate_in_a_process() {
    let Some(repo) = std::env::var_os(REPO).map(PathBuf::from) else {
        let synced = Synced::new();
        ends_with(0, &["done"], &mut with_the_crate("open", synced.repo()));
        return;
    };
    let first = crate_repo(&repo);
    match std::env::var(DO).unwrap().as_str() {
        "open" => {}
        "gc" => drop(first.gc(&[]).unwrap()),
        "gc beside a second handle" => {
            let _second = crate_repo(&repo);
            println!("both are open");
            first.gc(&[]).unwrap();
        }
        other => panic!("{other}"),
    }
    println!("done");
}

/// A child that is ended with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(quiet.spawn().unwrap())
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The trap: the crate's open has no limit. Ours have, and who only reads has
/// nothing to wait for.
#[test]
fn behind_a_gc_the_crates_open_waits_for_ever_and_ours_does_not() {
    let synced = Synced::new();
    let gc = synced.lock(FlockOperation::NonBlockingLockExclusive);
    let mut open = Running::start(&mut with_the_crate("open", synced.repo()));
    let call = |args: &str| synced.boundstore.command(args);
    for args in ["status", "images", "du", "verify --deep", "gc --dry-run"] {
        ends_with(0, &[], &mut call(args));
    }
    let busy = ["locked by a garbage collection for over 1 s", "try again"];
    for args in [
        format!("{} --wait 1", synced.sync("new", "many")),
        "remove --deployment d --wait 1".into(),
        "gc --wait 1".into(),
    ] {
        let begun = Instant::now();
        ends_with(4, &busy, &mut call(&args));
        assert!(begun.elapsed() >= Duration::from_secs(1), "{args}");
    }
    let new = NewRepo {
        algorithm: Algorithm::Sha512,
        insecure: true,
    };
    let created = Repo::create(synced.repo(), new, SHORT);
    assert!(
        matches!(created, Err(RepoError::Busy { .. })),
        "{created:?}"
    );
    assert!(open.runs(), "the crate's open has a limit: ours may go");
    drop(gc);
    wait_until("the crate's open returns", || !open.runs());
    ends_with(0, &[], &mut call("remove --deployment d"));
}

/// The trap: a gc beside a second handle of the same process waits for itself.
/// Ours gives up.
#[test]
fn two_handles_and_a_gc_lock_themselves_out() {
    let synced = Synced::new();
    let mut command = with_the_crate("gc beside a second handle", synced.repo());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "both are open"));
    let mut locked_out = Running(child);
    sleep(Duration::from_secs(1));
    assert!(locked_out.runs(), "the crate's gc has a limit: ours may go");
    drop(locked_out);

    let held = Repo::open(synced.repo(), SHORT).unwrap();
    let begun = Instant::now();
    let refused = Collector::open(synced.repo(), SHORT);
    assert!(
        matches!(refused, Err(RepoError::InUse { .. })),
        "{refused:?}"
    );
    assert!(begun.elapsed() < HANGS);
    drop(held);
    Collector::open(synced.repo(), SHORT).unwrap();
}

/// The trap: the crate's handle keeps the exclusive lock of a gc that failed.
/// Ours is gone by then.
#[test]
fn a_failed_gc_leaves_nobody_locked_out() {
    let synced = Synced::new();
    // No link: no gc can tell what it keeps.
    fs::write(synced.repo().join("streams/stray"), "").unwrap();
    let shared = FlockOperation::NonBlockingLockShared;
    let handle = crate_repo(synced.repo());
    assert!(handle.gc(&[]).is_err());
    assert!(
        !synced.can_be_locked(shared),
        "the crate lets it go: ours may keep its handle"
    );
    drop(handle);
    assert!(synced.can_be_locked(shared));

    let collector = Collector::open(synced.repo(), SHORT).unwrap();
    assert!(!synced.can_be_locked(shared));
    assert!(collector.collect().is_err());
    assert!(synced.can_be_locked(shared));
    ends_with(1, &["stray"], &mut synced.boundstore.command("gc"));
    ends_with(
        0,
        &[],
        &mut synced.boundstore.command(&synced.sync("new", "many")),
    );
}

/// The trap: who holds the shared lock holds the host's gc up. A sync does not,
/// as long as it waits for the network.
#[test]
fn a_sync_that_waits_for_the_network_holds_up_nobody() {
    if !ready(&["skopeo"]) {
        return;
    }
    let synced = Synced::new();
    for stalls_at in ["/v2/", "/blobs/"] {
        let layer = tar(&[("data", &content(9, 300_000))]);
        let registry = StalledRegistry::start(&synced.scratch, stalls_at, &layer);
        let image = [format!(
            "localhost/far:1=docker://{}/far:1",
            registry.address
        )];
        let sync = synced.boundstore.sync_args("far", &image);
        let mut waiting = Running::start(
            &mut synced
                .boundstore
                .command(&format!("{sync} --no-tls-verify")),
        );
        wait_until("the registry is asked", || registry.stalls());
        ends_with(0, &["done"], &mut with_the_crate("gc", synced.repo()));
        ends_with(0, &[], &mut synced.boundstore.command("gc --wait 1"));
        assert!(waiting.runs(), "it did not wait at {stalls_at}");
    }
}

/// Also under the lock: nobody reads what the sync says.
#[test]
fn a_sync_whose_words_nobody_reads_ends() {
    let synced = Synced::new();
    let (reads, writes) = rustix::pipe::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writes, 4096).unwrap();
    let sync = synced.sync("many", "many");
    let mut command = synced
        .boundstore
        .command(&format!("{sync} --progress json --stuck-after 2"));
    let mut child = Running(
        command
            .stderr(writes)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    drop(command);
    holds_up_the_gc_and_ends(&synced, &mut child);
    ends_with(0, &[], &mut synced.boundstore.command(&sync));
    drop(reads);
}

/// Also under the lock: the disk that the image is on does not answer.
#[test]
fn a_sync_from_a_disk_that_does_not_answer_ends() {
    if !ready(&["python3"]) {
        return;
    }
    let synced = Synced::new();
    let archive = synced.scratch.join("archive.tar");
    let mut far = Layout::new(&synced.scratch.join("far"));
    let layer = LayerBlob::plain(&tar(&[("data", &vec![7; 3 << 20])]));
    far.image("far", std::slice::from_ref(&layer));
    // The layer last: all that is read without the lock comes before.
    let blobs = fs::read_dir(far.path.join("blobs/sha256")).unwrap();
    let mut files: Vec<PathBuf> = blobs.map(|blob| blob.unwrap().path()).collect();
    files.sort_by_key(|file| file.metadata().unwrap().len());
    files.splice(
        0..0,
        ["oci-layout", "index.json"].map(|file| far.path.join(file)),
    );
    let mut archived = tar::Builder::new(File::create(&archive).unwrap());
    for file in files {
        let name = file.strip_prefix(&far.path).unwrap();
        archived.append_path_with_name(&file, name).unwrap();
    }
    archived.into_inner().unwrap();
    let Some(stalled) = StalledFile::mount(&synced.scratch, &archive, 1 << 20) else {
        return;
    };
    let image = [format!(
        "localhost/far:1=oci-archive:{}",
        stalled.path.display()
    )];
    let sync = synced.boundstore.sync_args("far", &image);
    let mut command = synced
        .boundstore
        .command(&format!("{sync} --stuck-after 2"));
    let mut child = Running(command.stdout(Stdio::null()).spawn().unwrap());
    holds_up_the_gc_and_ends(&synced, &mut child);
}

/// The sync must hold the lock, then end by itself as one that may be tried
/// again; and who has waited for it goes on.
#[track_caller]
fn holds_up_the_gc_and_ends(synced: &Synced, sync: &mut Running) {
    wait_until("the sync has the lock", || {
        !synced.can_be_locked(FlockOperation::NonBlockingLockExclusive)
    });
    ends_with(0, &["done"], &mut with_the_crate("gc", synced.repo()));
    let mut status = None;
    let begun = Instant::now();
    while status.is_none() {
        assert!(begun.elapsed() < HANGS, "the sync goes on");
        sleep(Duration::from_millis(20));
        status = sync.0.try_wait().unwrap();
    }
    assert_eq!(status.unwrap().code(), Some(4));
    ends_with(0, &[], &mut synced.boundstore.command("verify --deep"));
}

/// Where a file is expected there is a fifo, whose reader would wait for ever.
#[test]
fn a_fifo_is_no_file() {
    let synced = Synced::new();
    let scratch = &synced.scratch;
    let fifo = |path: PathBuf| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _before = fs::remove_file(&path);
        mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        path
    };
    let plain = fifo(scratch.join("fifo"));
    let plain = plain.display();
    let one = synced.sync("new", "one");
    let boundstore = &synced.boundstore;
    for source in ["oci-archive", "docker-archive"] {
        let image = [format!("localhost/app:1={source}:{plain}")];
        let sync = boundstore.sync_args("new", &image);
        ends_with(1, &["regular file"], &mut boundstore.command(&sync));
    }
    for option in ["--policy", "--authfile"] {
        let docker = format!(
            "sync --deployment new --spool {}/spool --image 127.0.0.1:1/x:1 {option} {plain} --retry-for 0",
            scratch.path().display()
        );
        let local = format!(
            "sync --deployment new --image localhost/app:1=oci:{}:one {option} {plain}",
            synced.layout.path.display()
        );
        let (code, args) = match option {
            "--policy" => (5, local),
            _ => (1, docker),
        };
        ends_with(code, &["regular file"], &mut boundstore.command(&args));
    }
    // An index, a blob.
    let mut broken = Layout::new(&scratch.join("broken"));
    broken.image("v", &[LayerBlob::plain(&tar(&[("x", &content(99, 4000))]))]);
    let sync = boundstore.sync_args("new", &[broken.arg("localhost/app:1", "v")]);
    let manifest = fs::read_to_string(broken.path.join("index.json")).unwrap();
    let hex = manifest.split("sha256:").nth(1).unwrap()[..64].to_owned();
    for file in [format!("blobs/sha256/{hex}"), "index.json".into()] {
        let path = fifo(broken.path.join(&file));
        let name = path.file_name().unwrap().to_str().unwrap();
        ends_with(1, &[name, "regular file"], &mut boundstore.command(&sync));
    }
    // A deployment's unit.
    let root = scratch.dir("root");
    fifo(root.join("usr/lib/bootc/bound-images.d/app.image"));
    let scan = format!("sync --deployment new --root {}", root.display());
    ends_with(1, &["app.image"], &mut boundstore.command(&scan));
    // Files of the host: what is said of them differs, but it is said.
    let host = scratch.dir("host");
    let of_host = |args: &str| {
        let mut command = boundstore.command(args);
        command.arg("--host-root").arg(&host);
        command
    };
    let config = fifo(host.join("etc/boundstore/config.toml"));
    let target = scratch.dir("target");
    let mount = format!("mount --deployment d --no-fallback {}", target.display());
    ends_with(1, &["config.toml"], &mut of_host(&mount));
    boundstore.umount(&target);
    fs::remove_file(config).unwrap();
    let veto = fifo(host.join("var/lib/boundstore/last-veto.json"));
    ends_with(3, &["last-veto.json"], &mut of_host("status"));
    fs::remove_file(veto).unwrap();
    let storage = fifo(scratch.join("storage.conf"));
    let mut kept = boundstore.command(&format!("{one} --keep-layers referenced"));
    ends_with(
        1,
        &["storage.conf"],
        kept.env("CONTAINERS_STORAGE_CONF", &storage),
    );
    // podman's own store.
    fs::remove_file(&storage).unwrap();
    let store = scratch.join("primary");
    fs::write(
        &storage,
        format!("[storage]\ngraphroot = \"{}\"\n", store.display()),
    )
    .unwrap();
    for file in ["layers.json", "layers.lock"] {
        let list = fifo(store.join("overlay-layers").join(file));
        ends_with(1, &[file], kept.env("CONTAINERS_STORAGE_CONF", &storage));
        fs::remove_file(list).unwrap();
    }
    // The repository's own description, and the repository itself.
    fifo(synced.repo().join("meta.json"));
    for args in ["status", "images", "verify", "gc", "du"] {
        ends_with(1, &[], &mut boundstore.command(args));
    }
    let mut none = Command::new(env!("CARGO_BIN_EXE_boundstore"));
    none.args(["--repo", &plain.to_string(), "status"]);
    ends_with(1, &["fifo"], &mut none);
}

/// Another mount holds the lock: this one gives up, and the empty store, without
/// which podman fails, comes all the same.
#[test]
fn a_mount_waits_for_another_with_a_limit() {
    if !ready(&["mount"]) {
        return;
    }
    let synced = Synced::new();
    let run_dir = synced.scratch.dir("run");
    let mounter = Mounter {
        run_dir: run_dir.clone(),
        allow_missing_verity: true,
        context: None,
        lock_limit: SHORT,
    };
    let other = File::open(&run_dir).unwrap();
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    let target = synced.scratch.dir("target");
    let view = RepoView::open(synced.repo()).unwrap();
    let id = "d".parse().unwrap();
    let busy = |error: &ExposeError| matches!(error, ExposeError::Busy { .. });
    let refused = mounter.mount(&view, &id, None, &target).unwrap_err();
    assert!(busy(&refused), "{refused}");
    assert!(busy(&mounter.umount(&target, false).unwrap_err()));
    assert!(mounts_below(&target).is_empty());
    assert!(busy(&mounter.mount_empty(&target).unwrap_err()));
    // A host without any store is a host without podman.
    assert!(mounter.stand_in(&target).unwrap());
    drop(other);
    mounter.mount(&view, &id, None, &target).unwrap();
    mounter.umount(&target, false).unwrap();
    assert!(mounts_below(&target).is_empty());
}

/// Another sync has the spool.
#[test]
fn a_spool_is_waited_for_with_a_limit() {
    if !ready(&["skopeo"]) {
        return;
    }
    let synced = Synced::new();
    let layer = tar(&[("data", &content(9, 3000))]);
    let registry = StalledRegistry::start(&synced.scratch, "nowhere", &layer);
    let image = [format!(
        "localhost/far:1=docker://{}/far:1",
        registry.address
    )];
    let sync = synced.boundstore.sync_args("far", &image) + " --no-tls-verify";
    let spool = synced.scratch.dir("repo-host/spool");
    let other = File::open(&spool).unwrap();
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    let mut command = synced.boundstore.command(&format!("{sync} --retry-for 1"));
    ends_with(4, &["spool"], &mut command);
    drop(other);
    ends_with(0, &[], &mut synced.boundstore.command(&sync));
}

/// A writer keeps podman's own store.
#[test]
fn podmans_own_store_is_waited_for_with_a_limit() {
    if !ready(&["python3"]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.dir("var/lib/containers/storage/overlay-layers");
    fs::write(store.join("layers.lock"), "").unwrap();
    let hold = "import fcntl, sys\nfile = open(sys.argv[1], 'r+')\n\
        fcntl.lockf(file, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()\n";
    let mut holder = Command::new("python3")
        .args(["-c", hold])
        .arg(store.join("layers.lock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "held\n");
    let refused = PrimaryStore::read(scratch.path(), None, SHORT).unwrap_err();
    assert!(refused.is_busy(), "{refused}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    PrimaryStore::read(scratch.path(), None, SHORT).unwrap();
}

/// The guard's sync asks a registry that says nothing.
#[test]
fn the_guard_ends_a_sync_that_hangs() {
    if !ready(&["skopeo"]) {
        return;
    }
    let mut host = Bootable::new(Backend::Ostree);
    let (v1, v2) = (
        host.deploy("v1", &[]),
        host.deploy("v2", &["registry.test/app:1"]),
    );
    host.boot(&v1);
    let registry = StalledRegistry::start(&host.scratch, "/v2/", &[]);
    let line = format!(
        "[[registry]]\nprefix = \"registry.test\"\nlocation = \"{}\"\ninsecure = true\n",
        registry.address
    );
    host.write("home/.config/containers/registries.conf", line);
    host.write(
        "root/etc/boundstore/config.toml",
        "[guard]\nsync-timeout = \"2s\"\n",
    );
    host.stage(&v2, false);
    ends_with(4, &["sync-timeout"], &mut host.command("guard stage"));
    assert!(registry.stalls(), "the registry was not asked");
    assert!(host.is_locked());
}
