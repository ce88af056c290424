//! Each durable step of each verb, killed before it and failed: what is there
//! then is the old state or the new one, and the verb run again goes on.
//!
//! The binary's debug build counts its durable steps (`sys::failpoint`). Each
//! scenario is traced once; by default the first and the last time that each
//! step is reached are tried, with `--include-ignored` nearly every one.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/bootable.rs"]
mod bootable;
mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use bootable::{Backend, Bootable};
use common::{image::Image, mounts_below, podman::Podman, ready, registry::Registry, text};
use composefs::{fsverity::Sha512HashValue, repository::Repository};
use layout::{LayerBlob, Layout, content, tar};
use serde_json::Value;

const SIGKILL: i32 = 9;
/// EIO, ENOSPC, EROFS
const ERRNOS: [i32; 3] = [5, 28, 30];

/// A host whose state can be put back.
struct Scene {
    host: Bootable,
    /// Below which podman sees the set of `stays`, all the while.
    store: PathBuf,
    podman: Podman,
    registry: Option<Registry>,
}

/// What a scenario is about.
struct Scenario {
    name: &'static str,
    /// The calls that lead to it, each of which must succeed.
    before: &'static [&'static str],
    /// The call that is killed.
    call: &'static str,
    /// What it exits with when nothing happens to it.
    exit: i32,
    /// Whether it is about what is mounted at `swapped`.
    mounts: bool,
    backend: Backend,
}

impl Scenario {
    const fn new(name: &'static str, before: &'static [&'static str], call: &'static str) -> Self {
        Self {
            name,
            before,
            call,
            exit: 0,
            mounts: false,
            backend: Backend::Ostree,
        }
    }
}

const SYNC_V1: &str = "sync --deployment d --image localhost/a:1=oci:LAYOUT:a1 \
                       --image localhost/b:1=oci:LAYOUT:b1";
const SYNC_V2: &str = "sync --deployment d --image localhost/a:1=oci:LAYOUT:a2 \
                       --image localhost/b:1=oci:LAYOUT:b1";
const MOUNT: &str = "mount --deployment d SWAPPED --no-fallback";

fn scenarios() -> Vec<Scenario> {
    let mounting = |scenario| Scenario {
        mounts: true,
        ..scenario
    };
    let mut all = vec![
        Scenario::new("first sync", &[], SYNC_V1),
        Scenario::new("changed sync", &[SYNC_V1], SYNC_V2),
        Scenario::new("sync again", &[SYNC_V1], SYNC_V1),
        Scenario::new("sync over torn objects", &[SYNC_V1, "TORN"], SYNC_V1),
        Scenario::new(
            "sync from a registry",
            &[],
            "sync --deployment d --image REGISTRY/a:1 --image REGISTRY/b:1 --no-tls-verify \
             --retry-for 0",
        ),
        Scenario::new("remove", &[SYNC_V1], "remove --deployment d"),
        Scenario::new("gc", &[SYNC_V1, "remove --deployment d"], "gc"),
        Scenario::new("gc after a change", &[SYNC_V1, SYNC_V2], "gc"),
        mounting(Scenario::new("mount", &[SYNC_V1], MOUNT)),
        mounting(Scenario::new("swap", &[SYNC_V1, MOUNT, SYNC_V2], MOUNT)),
        mounting(Scenario::new("umount", &[SYNC_V1, MOUNT], "umount SWAPPED")),
        mounting(Scenario {
            exit: 1,
            ..Scenario::new("stand in", &[], "mount --deployment d SWAPPED")
        }),
        mounting(Scenario::new(
            "sync of what is mounted",
            &[SYNC_V1, MOUNT],
            SYNC_V2,
        )),
    ];
    for backend in [Backend::Ostree, Backend::Composefs] {
        let staged = |name, before, call, exit| Scenario {
            exit,
            backend,
            ..Scenario::new(name, before, call)
        };
        all.push(staged("guard", &["STAGE"], "guard stage", 0));
        all.push(staged(
            "guard, no registry",
            &["STAGE", "AWAY"],
            "guard stage",
            4,
        ));
        all.push(staged("veto", &["STAGE", "AWAY"], "guard veto", 3));
    }
    all
}

/// What a scenario may leave, and nothing in between.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    /// The set of each deployment.
    sets: BTreeMap<String, String>,
    /// What is seen at `swapped`.
    mounted: Option<String>,
    /// Whether what is staged is held back.
    locked: Option<bool>,
}

/// What the whole suite saw.
#[derive(Debug, Default)]
struct Tally {
    rounds: usize,
    killed: usize,
    failed: usize,
    known: BTreeSet<String>,
    reached: BTreeSet<String>,
}

impl Scene {
    fn new(backend: Backend) -> Self {
        let mut host = Bootable::new(backend);
        let mut layout = Layout::new(&host.path("layout"));
        let base = LayerBlob::gzip(&tar(&[("etc/", b""), ("etc/base", &content(1, 70_000))]));
        for (name, seed) in [("a1", 2), ("a2", 3), ("b1", 4), ("stays", 5)] {
            // Longer than what is kept in memory before it is written.
            let large = content(seed, (1 << 20) + 70_000);
            let top = tar(&[("data", &content(seed, 9000)), ("large", &large)]);
            layout.image(name, &[base.clone(), LayerBlob::plain(&top)]);
        }
        let registry = Registry::start(&host.scratch);
        for (from, to) in [("a1", "a:1"), ("b1", "b:1")] {
            registry.put(&Image::read(&layout.path, from), to);
        }
        let app = format!("{}/a:1", registry.address);
        let (v1, v2) = (host.deploy("v1", &[]), host.deploy("v2", &[&app]));
        host.boot(&v1);
        fs::write(host.path("v2"), v2).unwrap();
        host.write(
            "home/.config/containers/registries.conf",
            format!(
                "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
                registry.address
            ),
        );
        let boot = "11111111-2222-3333-4444-555555555555";
        host.write("root/proc/sys/kernel/random/boot_id", boot);
        let store = host.scratch.dir("store");
        host.scratch.dir("swapped");
        let podman = Podman::new(host.path("podman"), Some(&store));
        let scene = Self {
            host,
            store,
            podman,
            registry: Some(registry),
        };
        let stays = "sync --deployment stays --image localhost/stays:1=oci:LAYOUT:stays";
        scene.ok(stays);
        scene.ok(&format!(
            "mount --deployment stays {}",
            scene.store.display()
        ));
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.host.path(name)
    }

    /// All that a call can change but what is mounted.
    const KEPT: [&str; 4] = ["repo", "root", "home", "spool"];

    fn save(&self) {
        for folder in Self::KEPT {
            copy(&self.path(folder), &self.path(&format!("saved-{folder}")));
        }
    }

    fn restore(&self, scenario: &Scenario) {
        while !mounts_below(&self.path("swapped")).is_empty() {
            text(Command::new("umount").arg("-l").arg(self.path("swapped")));
        }
        for folder in Self::KEPT {
            // The repository's folder itself is the place of locks and of a mount's objects.
            copy(&self.path(&format!("saved-{folder}")), &self.path(folder));
        }
        if scenario.mounts && scenario.before.contains(&MOUNT) {
            self.mount_again(scenario);
        }
    }

    /// The mount that was there when the state was saved.
    fn mount_again(&self, scenario: &Scenario) {
        let at = self.path("was-mounted");
        let set_image = fs::read_to_string(at).unwrap();
        let now = self.state().sets["d"].clone();
        if now == set_image {
            self.ok(MOUNT);
            return;
        }
        // The set that was mounted is no deployment's any more.
        assert_eq!(scenario.name, "swap");
        let deployments = self.path("repo/streams/refs/boundstore/deployments/d");
        let target = fs::read_link(&deployments).unwrap();
        fs::remove_file(&deployments).unwrap();
        let old = target.to_str().unwrap().replace(&now, &set_image);
        std::os::unix::fs::symlink(old, &deployments).unwrap();
        self.ok(MOUNT);
        fs::remove_file(&deployments).unwrap();
        std::os::unix::fs::symlink(target, &deployments).unwrap();
    }

    fn args(&self, call: &str) -> String {
        let registry = self.registry.as_ref().unwrap();
        let call = call
            .replace("LAYOUT", self.path("layout").to_str().unwrap())
            .replace("SWAPPED", self.path("swapped").to_str().unwrap())
            .replace("REGISTRY", &registry.address);
        match call.strip_prefix("sync ") {
            Some(rest) => format!("sync --spool {} {rest}", self.path("spool").display()),
            None => call,
        }
    }

    fn run(&self, call: &str, failpoint: &str) -> Output {
        let mut command = self.host.command(&self.args(call));
        if !failpoint.is_empty() {
            command.env("BOUNDSTORE_FAILPOINT", failpoint);
        }
        command.output().unwrap()
    }

    #[track_caller]
    fn ok(&self, call: &str) -> Value {
        self.host.exits(0, &self.args(call)).0
    }

    /// One of the calls that lead to a scenario.
    fn prepare(&self, call: &str) {
        let v2 = || fs::read_to_string(self.path("v2")).unwrap();
        match call {
            "STAGE" => self.host.stage(&v2(), false),
            "AWAY" => {
                self.host.write(
                    "home/.config/containers/registries.conf",
                    format!(
                        "[[registry]]\nprefix = \"{0}\"\nlocation = \"127.0.0.1:1\"\ninsecure = true\n",
                        self.registry.as_ref().unwrap().address
                    ),
                );
                let config = "[guard]\nsync-timeout = \"2s\"\n";
                self.host.write("root/etc/boundstore/config.toml", config);
            }
            // What a power cut can leave of objects without fs-verity.
            "TORN" => {
                let sizes = |path: PathBuf| (fs::metadata(&path).unwrap().len(), path);
                let objects = || files(&self.path("repo/objects")).into_iter().map(sizes);
                let before: BTreeSet<_> = objects().collect();
                self.ok("remove --deployment d");
                self.ok("gc");
                let after = objects().collect();
                let gone: Vec<_> = before.difference(&after).collect();
                for (_, path) in gone.into_iter().rev().take(3) {
                    fs::write(path, "").unwrap();
                }
            }
            call => {
                self.ok(call);
            }
        }
        if call == MOUNT {
            let set_image = self.state().sets["d"].clone();
            fs::write(self.path("was-mounted"), set_image).unwrap();
        }
    }

    fn state(&self) -> State {
        let images = self.host.command("status").output().unwrap();
        let status: Value = serde_json::from_slice(&images.stdout).unwrap_or(Value::Null);
        let deployments = status["deployments"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let sets = deployments.iter().filter_map(|one| {
            let set_image = one["set"]["set_image"].as_str()?;
            Some((one["id"].as_str()?.to_owned(), set_image.to_owned()))
        });
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let swapped = self.path("swapped");
        let mounted = table
            .lines()
            .rfind(|line| line.split(' ').nth(4) == swapped.to_str());
        let mounted = mounted
            .and_then(|line| line.rsplit(' ').nth(1))
            .map(str::to_owned);
        let staged = ["ostree", "composefs"].iter().any(|backend| {
            self.host
                .has(&format!("root/run/{backend}/staged-deployment"))
        });
        State {
            sets: sets.collect(),
            mounted,
            locked: staged.then(|| self.host.is_locked()),
        }
    }

    /// What must hold whatever happened.
    #[track_caller]
    fn is_sound(&self, what: &str) {
        self.is_clean(what);
        let images = self.podman.images();
        let stays = ("localhost/stays:1".to_owned(), true);
        assert!(images.contains(&stays), "{what}: {images:?}");
    }

    #[track_caller]
    fn is_clean(&self, what: &str) {
        let verified = self.run("verify --deep", "");
        let said = String::from_utf8_lossy(&verified.stdout);
        assert!(verified.status.success(), "{what}: {said}");
        let seen = fs::read(self.store.join("overlay-images/images.json")).unwrap();
        assert!(seen.len() > 2, "{what}");
    }

    /// How many layers have a stream that a sync will find.
    fn layers(&self) -> usize {
        let streams = files(&self.path("repo/streams"));
        let names = streams.iter().filter_map(|path| path.file_name()?.to_str());
        names
            .filter(|name| name.starts_with("boundstore-layer-v1-") && !name.contains('~'))
            .count()
    }

    /// The blobs that need not be fetched again.
    fn spooled(&self) -> BTreeSet<String> {
        let blobs = files(&self.path("spool"));
        let names = blobs.iter().filter_map(|path| path.file_name()?.to_str());
        let whole = names.filter(|name| !name.ends_with(".part"));
        whole.map(|name| name.replacen('-', ":", 1)).collect()
    }

    /// The names of all that is there: a collection has taken the rest.
    fn names(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for folder in ["repo", "spool", "root/run/boundstore", "root/var"] {
            let base = self.path(folder);
            for file in files(&base) {
                found.insert(Path::new(folder).join(file.strip_prefix(&base).unwrap()));
            }
        }
        // Which sets were mounted since boot is noted before they are.
        found.retain(|path| !path.to_string_lossy().contains("boundstore/mounted/"));
        found
    }
}

/// All that is no folder below one.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(from).unwrap();
    fs::create_dir_all(to).unwrap();
    // The folder itself stays: a mount has it open.
    text(
        Command::new("find")
            .arg(to)
            .args(["-mindepth", "1", "-delete"]),
    );
    text(Command::new("cp").arg("-aT").args([from, to]));
}

/// The steps that a trace has: what there is, and what was reached in turn.
fn read_trace(path: &Path, tally: &mut Tally) -> Vec<String> {
    let trace = fs::read_to_string(path).unwrap();
    fs::remove_file(path).unwrap();
    let mut reached = Vec::new();
    for line in trace.lines() {
        let (kind, name) = line.split_once(' ').unwrap();
        if kind == "has" {
            tally.known.insert(name.to_owned());
        } else {
            reached.push(name.to_owned());
        }
    }
    tally.reached.extend(reached.iter().cloned());
    reached
}

/// Which of the steps are tried: the first and last of each name; or, in the long
/// run, all but the inner ones of those that come more than eight times.
fn chosen(reached: &[String], long: bool) -> Vec<usize> {
    let most = if long { 4 } else { 1 };
    (0..reached.len())
        .filter(|at| {
            let name = &reached[*at];
            let count = |steps: &[String]| steps.iter().filter(|step| *step == name).count();
            count(&reached[..*at]) < most || count(&reached[at + 1..]) < most
        })
        .collect()
}

fn play(scenario: &Scenario, long: bool, tally: &mut Tally) {
    let begun = std::time::Instant::now();
    let rounds = tally.rounds;
    let Scenario { name, call, .. } = scenario;
    let scene = Scene::new(scenario.backend);
    for call in scenario.before {
        scene.prepare(call);
    }
    scene.save();
    let old = scene.state();

    // Without anything in its way.
    let trace = scene.path("trace");
    let output = scene.run(call, &format!("trace:{}", trace.display()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(scenario.exit), "{name}: {said}");
    let reached = read_trace(&trace, tally);
    let new = scene.state();
    scene.is_sound(name);
    scene.ok("gc");
    let names = scene.names();

    for at in chosen(&reached, long) {
        let step = &reached[at];
        for way in ways(step, at) {
            let what = format!("{name}: {way} at {step} ({} of {})", at + 1, reached.len());
            scene.restore(scenario);
            assert_eq!(scene.state(), old, "{what}: put back");
            let output = scene.run(call, &way);
            tally.rounds += 1;
            judge(scenario, &what, &way, &output, tally);
            let found = scene.state();
            // A guard may be stopped between two states of what it is about: it
            // is held back, or its set has come, and the next guard goes on.
            let held = |state: &State| State {
                locked: found.locked,
                ..state.clone()
            };
            let guards = call.starts_with("guard");
            let allowed = [&old, &new]
                .iter()
                .any(|state| found == **state || (guards && found == held(state)));
            assert!(
                allowed,
                "{what}: {found:#?}\nis neither\n{old:#?}\nnor\n{new:#?}"
            );
            // A call that fails in any case says elsewhere what it could not do.
            if scenario.exit == 0 && output.status.success() {
                assert_eq!(found, new, "{what}: it said that it was done");
            }
            scene.is_sound(&what);
            goes_on(scenario, &scene, &what, &new);
            let mut left = scene.names();
            // Where the set is complete the guard needs no sync, and the next
            // sync clears these away.
            left.retain(|path| !guards || !path.starts_with("root/var/cache/boundstore"));
            let (more, less) = (left.difference(&names), names.difference(&left));
            let (more, less): (Vec<_>, Vec<_>) = (more.collect(), less.collect());
            assert!(
                more.is_empty() && less.is_empty(),
                "{what}: left {more:#?}, lost {less:#?}"
            );
        }
    }
    println!(
        "{name} ({:?}): {} steps, {} rounds, {:?}",
        scenario.backend,
        reached.len(),
        tally.rounds - rounds,
        begun.elapsed()
    );
}

/// What happens to a step: all of it to each would take for ever.
fn ways(step: &str, at: usize) -> Vec<String> {
    let place = at + 1;
    let mut ways = vec![
        format!("kill:{place}"),
        format!("errno:{}:{place}", ERRNOS[at % ERRNOS.len()]),
    ];
    if step.starts_with("write ") {
        ways.push(format!("half:{place}"));
    }
    ways
}

/// A call that was killed says nothing; one that failed says why.
#[track_caller]
fn judge(scenario: &Scenario, what: &str, way: &str, output: &Output, tally: &mut Tally) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{what}: {said}");
    let guards = scenario.call.starts_with("guard");
    if way.starts_with("kill") {
        // A guard outlives its sync.
        let killed = output.status.signal() == Some(SIGKILL);
        // How many pieces a blob comes in differs from run to run.
        let over =
            output.status.code() == Some(scenario.exit) && scenario.call.contains("REGISTRY");
        assert!(killed || over || guards, "{what}: {said}");
        tally.killed += usize::from(killed);
        return;
    }
    let code = output.status.code().unwrap();
    assert!([0, 1, 3, 4].contains(&code), "{what}: exit {code}: {said}");
    if code != scenario.exit {
        tally.failed += 1;
        assert!(said.contains('/'), "{what}: no path in: {said}");
    }
}

/// The same call again, and a collection.
#[track_caller]
fn goes_on(scenario: &Scenario, scene: &Scene, what: &str, new: &State) {
    let (layers, spooled) = (scene.layers(), scene.spooled());
    let mark = scene.registry.as_ref().unwrap().mark();
    let again = scene.run(scenario.call, "");
    let said = String::from_utf8_lossy(&again.stderr);
    let code = again.status.code();
    // What was taken away by the first call cannot be taken away again.
    let gone = scenario.call.starts_with("umount") && said.contains("nothing of boundstore's");
    assert!(code == Some(scenario.exit) || gone, "{what}: again: {said}");
    assert_eq!(&scene.state(), new, "{what}: again");
    if scenario.call.starts_with("sync") {
        let document: Value = serde_json::from_slice(&again.stdout).unwrap();
        let imported = document["layers_imported"].as_u64().unwrap() as usize;
        let now = scene.layers();
        assert!(
            imported <= now - layers,
            "{what}: {imported} imported again, {layers} were there of {now}"
        );
    }
    let fetched = scene.registry.as_ref().unwrap().fetched_since(mark);
    let twice: Vec<_> = fetched
        .iter()
        .filter(|blob| spooled.contains(*blob))
        .collect();
    assert!(twice.is_empty(), "{what}: fetched again: {twice:?}");
    scene.is_clean(what);
    scene.ok("gc");
    // The host's own gc, too, can go on.
    let root = fs::File::open("/").unwrap();
    let repo = Repository::<Sha512HashValue>::open_path(root, scene.path("repo")).unwrap();
    let repo = Arc::new(repo);
    if scenario.backend == Backend::Ostree {
        repo.gc(&[]).unwrap();
    }
}

/// A repository that is being made: there is none before, so nothing is put back.
fn play_new_repository(tally: &mut Tally) {
    let host = Bootable::new(Backend::Ostree);
    let mut layout = Layout::new(&host.path("layout"));
    let layer = LayerBlob::plain(&tar(&[("data", &content(7, 9000))]));
    layout.image("a", &[layer]);
    let image = layout.arg("localhost/a:1", "a");
    let sync = |repo: &Path, failpoint: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boundstore"));
        command
            .args(["--json", "--allow-missing-verity", "--repo"])
            .arg(repo);
        command.args(["sync", "--deployment", "d", "--image", &image]);
        command
            .env("HOME", host.path("home"))
            .env("BOUNDSTORE_FAILPOINT", failpoint);
        command.output().unwrap()
    };
    let trace = host.path("trace");
    sync(&host.path("traced"), &format!("trace:{}", trace.display()));
    let reached = read_trace(&trace, tally);
    let made = reached
        .iter()
        .position(|step| step == "create repository")
        .unwrap();
    for (at, step) in reached.iter().enumerate().take(made + 4) {
        for way in ways(step, at) {
            let repo = host.path(&format!("repo-{at}-{way}"));
            let output = sync(&repo, &way);
            tally.rounds += 1;
            assert!(!output.status.success(), "{way}");
            match output.status.signal() {
                Some(SIGKILL) => tally.killed += 1,
                _ => tally.failed += 1,
            }
            let again = Command::new(env!("CARGO_BIN_EXE_boundstore"))
                .args(["--allow-missing-verity", "--repo"])
                .arg(&repo)
                .args(["sync", "--deployment", "d", "--image", &image])
                .env("HOME", host.path("home"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&again.stderr);
            assert!(again.status.success(), "{way} at {step}: {said}");
        }
    }
}

fn suite(long: bool) -> Tally {
    let mut tally = Tally::default();
    for scenario in &scenarios() {
        play(scenario, long, &mut tally);
    }
    play_new_repository(&mut tally);
    println!(
        "{} failpoints, {} rounds: {} killed, {} failed with an error",
        tally.known.len(),
        tally.rounds,
        tally.killed,
        tally.failed
    );
    tally
}

const TOOLS: [&str; 4] = ["podman", "skopeo", "docker-registry", "crun"];

/// Those that no scenario reaches here: each is reached by a test in a VM.
const ELSEWHERE: [&str; 2] = [
    // This machine's kernel may have no fs-verity.
    "seal", // Hosts with a read-only sysroot.
    "remount",
];

#[test]
fn no_kill_and_no_error_leaves_a_third_state() {
    if !ready(&TOOLS) {
        return;
    }
    let tally = suite(false);
    let unreached: Vec<_> = tally.known.difference(&tally.reached).collect();
    let unreached: Vec<_> = unreached
        .into_iter()
        .filter(|name| !ELSEWHERE.contains(&name.as_str()))
        .collect();
    assert!(unreached.is_empty(), "no scenario reaches {unreached:?}");
}

#[test]
fn a_repository_that_is_being_made() {
    if ready(&[]) {
        play_new_repository(&mut Tally::default());
    }
}

#[test]
#[ignore = "long: every step, of what comes often eight times"]
fn no_kill_and_no_error_at_any_step_leaves_a_third_state() {
    if ready(&TOOLS) {
        suite(true);
    }
}
