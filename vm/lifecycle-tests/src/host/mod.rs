//! The guest as a host that has deployments, and what its owner does with them.

mod bootc;
mod ostree;

use std::{
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    common::{describe, image::Image, output, registry::Registry, text},
    host_image::{self, REGISTRY},
    stage::INPUT,
};

/// Where sets are mounted.
pub const STORE: &str = "/usr/lib/containers/storage";
/// Where the sets' objects are.
pub const REPO: &str = "/sysroot/composefs";

/// What makes the host's deployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The program ostree.
    Ostree,
    /// What bootc does on its composefs backend.
    Composefs,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Ostree, Self::Composefs];

    /// As tests call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ostree => "ostree",
            Self::Composefs => "composefs",
        }
    }

    fn owner(self) -> Box<dyn Owner> {
        match self {
            Self::Ostree => Box::new(ostree::Ostree),
            Self::Composefs => Box::new(bootc::Bootc),
        }
    }
}

/// What is done with deployments, by whom boundstore knows nothing of. They are
/// called by the versions of their host images.
pub trait Owner: Debug + Send + Sync {
    /// Makes a version the newest that an upgrade finds.
    fn release(&self, version: u32);
    /// The command that prepares the newest for the next boot.
    fn upgrade(&self) -> &'static str;
    /// Makes a deployment that was booted before the next boot.
    fn roll_back(&self, version: u32);
    /// Removes a deployment that is not booted.
    fn undeploy(&self, version: u32);
    /// Collects what the repository holds for nobody, where that is the owner's.
    fn collect(&self);
    /// The objects that a version of the host image alone has.
    fn objects_of(&self, version: u32) -> Vec<String>;
    /// Prepares a soft reboot to a version.
    fn soft_reboot(&self, version: u32);
    /// What is prepared for the next boot, if anything.
    fn staged(&self) -> Option<Staged>;
}

/// A prepared deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// Whether it is held back.
    pub locked: bool,
}

/// The host, and what the steps of one boot share.
#[derive(Debug)]
pub struct Host {
    /// Who deploys.
    pub owner: Box<dyn Owner>,
    home: PathBuf,
    registry: Mutex<Option<Registry>>,
}

impl Host {
    pub fn new(backend: Backend) -> Self {
        Self {
            owner: backend.owner(),
            home: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
            registry: Mutex::new(None),
        }
    }

    /// Which version of the host image runs.
    pub fn version(&self) -> u32 {
        let text = fs::read_to_string(host_image::VERSION).unwrap();
        text.trim().parse().unwrap()
    }

    /// `boundstore`, its arguments split at blanks.
    pub fn boundstore(&self, args: &str) -> Output {
        let mut command = Command::new("boundstore");
        output(command.args(args.split_whitespace()))
    }

    /// A call that must exit with `code`.
    #[track_caller]
    pub fn exits(&self, code: i32, args: &str) -> Output {
        let output = self.boundstore(args);
        let said = describe(&Command::new(format!("boundstore {args}")), &output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        output
    }

    /// A call that must succeed; its JSON document.
    #[track_caller]
    pub fn json(&self, args: &str) -> Value {
        let output = self.exits(0, &format!("--json {args}"));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What `status` says of the deployment in a role, whatever it exits with.
    pub fn status(&self, role: &str) -> Value {
        let output = self.boundstore("--json status");
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let deployments = json["deployments"].as_array().unwrap();
        let has_role = |it: &&Value| {
            it["roles"]
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one == role)
        };
        let found = deployments.iter().find(has_role);
        found
            .unwrap_or_else(|| panic!("none is {role}: {json:#}"))
            .clone()
    }

    /// Prepares a version for the next boot.
    pub fn stage(&self, version: u32) {
        self.owner.release(version);
        text(Command::new("sh").args(["-c", self.owner.upgrade()]));
    }

    /// The images of the host image's registry, made once.
    pub fn image(&self, image: &str) -> Image {
        let layout = Path::new(INPUT).join("app");
        let (v1, v2) = (Image::read(&layout, "v1"), Image::read(&layout, "v2"));
        let (name, tag) = image.split_once(':').unwrap();
        let (base, file, content) = match (name, tag) {
            ("app", "v1") => return v1,
            ("app", "v2") => return v2,
            ("app", _) => (v2, "app/hello", format!("echo hello from {tag}\n")),
            _ => (v1, "app/is", format!("{image}\n")),
        };
        let derived = self.home.join("images").join(name);
        if derived.exists() {
            return Image::read(&derived, &base.tag);
        }
        base.derive(&derived, &[(file, &content)])
    }

    /// Puts images into the registry, which is started where it is not running.
    pub fn serve(&self, images: &[&str]) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = registry.get_or_insert_with(|| Registry::start_at(&self.home, REGISTRY));
        for image in images {
            registry.put(&self.image(image), image);
        }
    }

    /// Takes an image's top layer out of the registry, until it is put again.
    pub fn lose_top_layer(&self, image: &str) {
        let blob = self.image(image).blobs().pop().unwrap();
        let hex = blob.trim_start_matches("sha256:");
        let blobs = "registry/data/docker/registry/v2/blobs/sha256";
        fs::remove_dir_all(self.home.join(blobs).join(&hex[..2]).join(hex)).unwrap();
    }

    /// Makes the registry unreachable.
    pub fn stop_registry(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        *registry = None;
    }

    /// Runs `act`; the digests of the blobs that the registry gave meanwhile.
    pub fn fetched_by(&self, act: impl FnOnce()) -> Vec<String> {
        let mark = |host: &Self| {
            let registry = host.registry.lock().unwrap_or_else(PoisonError::into_inner);
            registry.as_ref().unwrap().mark()
        };
        let begin = mark(self);
        act();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.as_ref().unwrap().fetched_since(begin)
    }

    /// Writes something down for a later boot.
    pub fn keep(&self, name: &str, lines: &[String]) {
        fs::write(self.home.join(name), lines.join("\n")).unwrap();
    }

    /// What an earlier boot wrote down.
    pub fn kept(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.home.join(name)).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// Waits for what others do. What boundstore's units have said is in the
/// failure if it does not come; the limit is long, for the machine is slow.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    const LIMIT: Duration = Duration::from_secs(240);
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > LIMIT {
            panic!("{what} did not come:\n{}", units());
        }
        sleep(Duration::from_secs(1));
    }
}

/// What boundstore's units are and have said.
pub fn units() -> String {
    let show = "list-units --all --no-pager --plain --no-legend boundstore* ostree-f* bootc-f*";
    let units = output(Command::new("systemctl").args(show.split(' ')));
    let journal = "-b --no-pager -o cat -n 40 -u boundstore-*";
    let journal = output(Command::new("journalctl").args(journal.split(' ')));
    let status = output(Command::new("boundstore").arg("status"));
    let all = [units, journal, status].map(|output| {
        let (out, err) = (output.stdout, output.stderr);
        String::from_utf8_lossy(&[out, err].concat()).into_owned()
    });
    all.join("---\n")
}

/// The host's own podman, by the drop-in; its arguments split at blanks.
#[track_caller]
pub fn podman(args: &str) -> String {
    text(Command::new("podman").args(args.split_whitespace()))
}

/// The names that podman lists, sorted; each must be read-only.
pub fn podman_images() -> Vec<String> {
    let listed = podman("images --format {{.Repository}}:{{.Tag}}|{{.ReadOnly}}");
    let mut names = Vec::new();
    for line in listed.lines() {
        let (name, read_only) = line.split_once('|').unwrap();
        assert_eq!(read_only, "true", "{name}");
        names.push(name.to_owned());
    }
    names.sort();
    names
}

/// The names of all objects, sorted.
pub fn objects() -> Vec<String> {
    let folders = fs::read_dir(Path::new(REPO).join("objects")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let mut names: Vec<String> = files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.strip_prefix(REPO).unwrap();
            name.to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Every file of the store as podman is shown it: kind, mode, owner, path, bytes.
pub fn store_content() -> Vec<String> {
    let script = "find . -printf '%y %m %U:%G %s %T@ %p %l\\n' | sort -k 6; \
        find . -type f -print0 | sort -z | xargs -0 sha256sum";
    let mut command = Command::new("sh");
    let listed = text(command.args(["-c", script]).current_dir(STORE));
    listed.lines().map(str::to_owned).collect()
}

/// The type of the filesystem at the store, where one is mounted.
pub fn mounted() -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut lines = table.lines().rev();
    let line = lines.find(|line| line.split(' ').nth(4) == Some(STORE))?;
    let (_, filesystem) = line.split_once(" - ")?;
    filesystem.split(' ').next().map(str::to_owned)
}
