//! A repository, a store that is mounted from it, and a podman that uses it:
//! what many processes work on at once, judged after each round.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{
    common::{Scratch, describe, mounts_below, podman::Podman},
    layout::{LayerBlob, Layout, tar},
    race::{Phase, Racer, race},
};

/// The image that every set here has.
pub const NAME: &str = "localhost/app:1";
const BOOT: &str = "11111111-2222-3333-4444-555555555555";

/// What was seen in all rounds of a pair.
#[derive(Debug, Default)]
pub struct Seen {
    pub rounds: usize,
    pub processes: usize,
    pub reads: usize,
    pub podman: usize,
    pub outages: Vec<String>,
    pub wrong_bytes: Vec<String>,
}

/// What is shared. `keep` is a deployment that nobody touches, and its set is
/// what is mounted between the rounds.
pub struct SharedHost {
    pub scratch: Scratch,
    pub store: PathBuf,
    pub podman: Podman,
    pub phase: Phase,
    pub seen: Seen,
    round: usize,
    shell: LayerBlob,
}

impl SharedHost {
    pub fn new(pair: &str) -> Self {
        let scratch = Scratch::new();
        let boot = scratch.dir("root/proc/sys/kernel/random");
        fs::write(boot.join("boot_id"), BOOT).unwrap();
        let accept = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        fs::write(scratch.join("policy.json"), accept).unwrap();
        let store = scratch.dir("store");
        let mut host = Self {
            podman: Podman::new(scratch.join("podman"), Some(&store)),
            store,
            phase: Phase::new(pair),
            seen: Seen::default(),
            round: 0,
            shell: LayerBlob::gzip(&shell()),
            scratch,
        };
        host.layout();
        host.ok(&host.sync("keep", 1));
        host.show("keep");
        host.seen.rounds = 0;
        host
    }

    pub fn repo(&self) -> PathBuf {
        self.scratch.join("repo")
    }

    /// The built binary, its arguments split at blanks.
    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boundstore"));
        command
            .args(["--json", "--allow-missing-verity", "--host-root"])
            .arg(self.scratch.join("root"))
            .arg("--sysroot")
            .arg(self.scratch.path())
            .arg("--repo")
            .arg(self.repo())
            .args(args.split_whitespace());
        command
    }

    /// A call that must succeed, with nobody else about.
    #[track_caller]
    pub fn ok(&self, args: &str) -> Value {
        let output = race(vec![Racer {
            command: self.command(args),
            after: Duration::ZERO,
        }]);
        let described = describe(&self.command(args), &output[0]);
        assert!(output[0].status.success(), "{described}");
        serde_json::from_slice(&output[0].stdout).unwrap()
    }

    /// Begins a round: two images that no set has, of a layer that all have, one
    /// that is of this round, and one of their own.
    pub fn layout(&mut self) {
        let _before = fs::remove_dir_all(self.layout_path());
        self.round += 1;
        self.seen.rounds += 1;
        let mut layout = Layout::new(&self.layout_path());
        let layer = |file, version: &str| LayerBlob::plain(&tar(&[(file, &bytes(version))]));
        let mid = layer("mid", &self.version(0));
        for number in [1, 2] {
            let top = layer("data", &self.version(number));
            layout.image(&number.to_string(), &[self.shell.clone(), mid.clone(), top]);
        }
    }

    fn layout_path(&self) -> PathBuf {
        self.scratch.join(format!("layout-{}", self.round))
    }

    /// What this round's first or second image says in its `data`.
    pub fn version(&self, number: usize) -> String {
        // Of this host alone: a mount on this machine, of whatever repository,
        // keeps a set image of the same digest.
        let host = self.scratch.path().file_name().unwrap().to_str().unwrap();
        format!("{host}.{}.{number}", self.round)
    }

    /// A sync of this round's first or second image.
    pub fn sync(&self, deployment: &str, number: usize) -> String {
        let (policy, spool) = (self.scratch.join("policy.json"), self.scratch.join("spool"));
        format!(
            "sync --deployment {deployment} --policy {} --spool {} --image {NAME}=oci:{}:{number}",
            policy.display(),
            spool.display(),
            self.layout_path().display()
        )
    }

    pub fn mount(&self, deployment: &str) -> String {
        format!("mount --deployment {deployment} {}", self.store.display())
    }

    /// Mounts a set, with nobody else about.
    #[track_caller]
    pub fn show(&self, deployment: &str) {
        self.ok(&self.mount(deployment));
    }

    /// Runs calls of ours at once; each must exit with one of its statuses.
    #[track_caller]
    pub fn race(&mut self, calls: &[(&str, &[i32])]) -> Vec<Output> {
        let commands = calls.iter().map(|(args, _)| self.command(args)).collect();
        let exits: Vec<&[i32]> = calls.iter().map(|(_, exits)| *exits).collect();
        self.race_commands(commands, &exits)
    }

    /// Runs commands at once, and meanwhile those of ours that only look, and
    /// somebody who reads the mounted store.
    #[track_caller]
    pub fn race_commands(&mut self, commands: Vec<Command>, exits: &[&[i32]]) -> Vec<Output> {
        let looks = ["status", "images", "du", "gc --dry-run"].map(|args| self.command(args));
        let lookers = looks.len();
        let mut racers = Vec::new();
        let mut shown = Vec::new();
        for command in commands.into_iter().chain(looks) {
            shown.push(format!("{command:?}"));
            let after = self.phase.delay();
            racers.push(Racer { command, after });
        }
        self.seen.processes += racers.len();
        let over = AtomicBool::new(false);
        let store = &self.store;
        let (outputs, read) = thread::scope(|scope| {
            let reader = scope.spawn(|| read_until(store, &over));
            let outputs = race(racers);
            over.store(true, Ordering::Relaxed);
            (outputs, reader.join().unwrap())
        });
        self.note(read);
        let looked: &[&[i32]] = &[&[0], &[0], &[0], &[0]];
        for ((output, command), exits) in outputs.iter().zip(&shown).zip(exits.iter().chain(looked))
        {
            let code = output.status.code();
            let said = String::from_utf8_lossy(&output.stderr);
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(
                code.is_some_and(|code| exits.contains(&code)),
                "{command}: {code:?}: {said}{told}"
            );
            assert!(!said.contains("panicked"), "{command}: {said}");
        }
        let [status, images, ..] = &outputs[outputs.len() - lookers..] else {
            unreachable!()
        };
        let kept = |output: &Output, list: &str, key: &str| {
            let document: Value = serde_json::from_slice(&output.stdout).unwrap();
            let mut rows = document[list].as_array().unwrap().iter();
            rows.find(|row| row[key] == "keep")
                .unwrap_or_else(|| panic!("{document}"))
                .clone()
        };
        let status = kept(status, "deployments", "id");
        assert_eq!(status["conditions"][0]["reason"], "Published", "{status}");
        assert_eq!(kept(images, "images", "deployment")["name"], NAME);
        outputs
    }

    fn note(&mut self, read: Vec<Result<String, Trouble>>) {
        for one in read {
            self.seen.reads += 1;
            match one {
                Ok(_) => {}
                Err(Trouble::Outage(what)) => self.seen.outages.push(what),
                Err(Trouble::WrongBytes(what)) => self.seen.wrong_bytes.push(what),
            }
        }
    }

    /// Ends a round: all is whole, each of `deployments` has one of its versions
    /// and shows it, podman answers, nothing is left over. Then they go.
    #[track_caller]
    pub fn judge(&mut self, deployments: &[(&str, &[usize])]) {
        self.ok("verify --deep");
        for (deployment, numbers) in deployments {
            self.show(deployment);
            let versions: Vec<String> = numbers.iter().map(|n| self.version(*n)).collect();
            let shown = read(&self.store);
            assert!(
                shown.as_ref().is_ok_and(|shown| versions.contains(shown)),
                "{deployment} shows {shown:?}, not one of {versions:?}"
            );
            self.note(vec![shown]);
        }
        // Some 50 ms: not in each round.
        if self.round.is_multiple_of(2) {
            self.ask_podman();
        }
        self.show("keep");
        assert_eq!(
            mounts_below(self.scratch.path()),
            std::slice::from_ref(&self.store)
        );
        for folder in ["repo/streams/refs/boundstore/partial", "spool"] {
            let left = fs::read_dir(self.scratch.join(folder))
                .into_iter()
                .flatten();
            assert_eq!(left.count(), 0, "{folder} is not empty");
        }
        for (deployment, _) in deployments {
            self.ok(&format!("remove --deployment {deployment}"));
        }
        self.reboot();
        if self.round.is_multiple_of(8) {
            self.ok("gc");
        }
    }

    /// Containers that read what was shown are over: so is what keeps it.
    pub fn reboot(&self) {
        let _none = fs::remove_dir_all(self.scratch.join("root/run/boundstore/mounted"));
    }

    fn ask_podman(&mut self) {
        self.seen.podman += 1;
        let mut images = self
            .podman
            .command("images --format {{.Repository}}:{{.Tag}}");
        let output = super::common::output(&mut images);
        let told = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || told.trim() != NAME {
            self.seen.outages.push(describe(&images, &output));
        }
    }

    /// All objects of the repository.
    pub fn objects(&self) -> BTreeSet<PathBuf> {
        let folders = fs::read_dir(self.repo().join("objects")).unwrap();
        let objects = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        objects.map(|object| object.unwrap().path()).collect()
    }
}

/// What a file of an image of `version` has, here and in containers.
pub fn bytes(version: &str) -> Vec<u8> {
    format!("{version}\n").repeat(600).into_bytes()
}

/// Why a look at the mounted store failed.
#[derive(Debug)]
pub enum Trouble {
    Outage(String),
    WrongBytes(String),
}

fn read_until(store: &Path, over: &AtomicBool) -> Vec<Result<String, Trouble>> {
    let mut all = Vec::new();
    while !over.load(Ordering::Relaxed) {
        all.push(read(store));
        thread::sleep(Duration::from_millis(2));
    }
    all
}

/// Reads what a container of [`NAME`] would; the version it is of.
pub fn read(store: &Path) -> Result<String, Trouble> {
    let outage = |what: &dyn std::fmt::Debug| Trouble::Outage(format!("{what:?}"));
    // One mount, whatever takes its place meanwhile.
    let held = File::open(store).map_err(|error| outage(&error))?;
    let root = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    let file = |path: &str| fs::read(root.join(path)).map_err(|error| outage(&(path, error)));
    let images: Value = serde_json::from_slice(&file("overlay-images/images.json")?)
        .map_err(|error| outage(&error))?;
    let mut images = images.as_array().into_iter().flatten();
    let image = images.find(|image| image["names"][0] == NAME);
    let layer = image.and_then(|image| image["layer"].as_str());
    let layer = layer.ok_or_else(|| outage(&"the image is not there"))?;
    let wrong = |file: &str, found: &[u8]| {
        let found = String::from_utf8_lossy(&found[..found.len().min(80)]).into_owned();
        Trouble::WrongBytes(format!("{file}: {found:?}"))
    };
    let mut version = String::new();
    for name in ["mid", "data"] {
        let found = file(&format!("overlay/{layer}/diff/{name}"))?;
        let line = String::from_utf8_lossy(&found);
        line.lines()
            .next()
            .unwrap_or_default()
            .clone_into(&mut version);
        if found != bytes(&version) {
            return Err(wrong(name, &found));
        }
    }
    drop(held);
    Ok(version)
}

/// A layer with a shell and cat(1), this machine's, and the libraries they need.
fn shell() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |to: &str, from: &Path| {
        let content = fs::read(from).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, to, &content[..]).unwrap();
    };
    let mut libraries = BTreeSet::new();
    for program in ["/bin/sh", "/bin/cat"] {
        add(&program[1..], Path::new(program));
        let needs = super::common::text(Command::new("ldd").arg(program));
        let paths = needs
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        libraries.extend(paths.map(PathBuf::from));
    }
    for library in libraries {
        add(library.to_str().unwrap().trim_start_matches('/'), &library);
    }
    builder.into_inner().unwrap()
}
