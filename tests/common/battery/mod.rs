//! The podman battery: what podman must be able to do with a read-only
//! additional image store, one named step each.
//!
//! Every step has a podman with an empty primary store. After every step the
//! store must be as it was.

mod build;
mod inspect;
mod protect;
mod run;
mod transfer;

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Instant,
};

use super::{
    Scratch,
    image::{Image, sha256},
    podman::Podman,
};

/// What the steps are run on: a store, and the image in it that they use,
/// which must be `localhost/app` of the fixtures, or made like it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The directory podman is given as its additional image store.
    pub store: &'a Path,
    /// The name of the image in it.
    pub name: &'a str,
    /// The image as it was before it came into the store.
    pub image: &'a Image,
}

/// A subject, and a place for one step.
pub struct Case<'a> {
    subject: Subject<'a>,
    podman: Podman,
    scratch: &'a Scratch,
}

impl<'a> std::ops::Deref for Case<'a> {
    type Target = Subject<'a>;

    fn deref(&self) -> &Subject<'a> {
        &self.subject
    }
}

/// A step: its name, and what it does.
pub type Step = (&'static str, fn(&Case));

/// All steps, by name.
pub const STEPS: &[Step] = &[
    ("images", inspect::images),
    ("inspect", inspect::inspect),
    ("history", inspect::history),
    ("tree", inspect::tree),
    ("df", inspect::df),
    ("image diff", inspect::image_diff),
    ("run", run::run),
    ("run that writes", run::run_that_writes),
    ("create and mount", run::create_and_mount),
    ("diff", run::container_diff),
    ("save as docker-archive", transfer::save_docker_archive),
    ("save as oci-archive", transfer::save_oci_archive),
    ("push to a directory", transfer::push_directory),
    ("push to a registry", transfer::push_registry),
    ("pull of the same image", transfer::pull_same),
    ("pull of a derived image", transfer::pull_derived),
    ("tag", build::tag),
    ("commit", build::commit),
    ("build FROM", build::build),
    ("rmi", protect::rmi),
    ("rmi -f", protect::rmi_force),
    ("image prune -a", protect::image_prune),
    ("system prune -a", protect::system_prune),
    ("system reset", protect::system_reset),
    ("podman with the vfs driver", protect::vfs_driver),
];

/// The programs the battery needs.
pub const TOOLS: &[&str] = &["podman", "crun", "skopeo", "docker-registry", "python3"];

/// A subject, and what its store held before the first step.
#[derive(Debug)]
pub struct Battery<'a> {
    subject: Subject<'a>,
    before: BTreeMap<String, String>,
}

impl<'a> Battery<'a> {
    /// Reads all of the store.
    pub fn new(subject: Subject<'a>) -> Self {
        let before = fingerprint(subject.store);
        Self { subject, before }
    }

    /// Runs one step.
    ///
    /// # Panics
    /// Where it fails, or has changed the store.
    pub fn step(&self, (_, step): &Step) {
        let scratch = Scratch::new();
        let podman = Podman::new(scratch.join("podman"), Some(self.subject.store));
        step(&Case {
            subject: self.subject,
            podman,
            scratch: &scratch,
        });
        let after = fingerprint(self.subject.store);
        assert_eq!(self.before, after, "the store changed");
    }
}

/// Runs every step, or those whose name contains `$BATTERY`, on `subject`.
///
/// # Panics
/// At the end, with the names of the steps that failed.
pub fn run_all(subject: Subject) {
    let filter = std::env::var("BATTERY").unwrap_or_default();
    let battery = Battery::new(subject);
    let mut failed = Vec::new();
    let mut done = 0;
    for step in STEPS.iter().filter(|(name, _)| name.contains(&filter)) {
        let name = step.0;
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| battery.step(step)));
        let result = if outcome.is_ok() { "ok" } else { "FAILED" };
        let seconds = started.elapsed().as_secs_f32();
        println!("battery: {name} ... {result} ({seconds:.1} s)");
        done += 1;
        if outcome.is_err() {
            failed.push(name);
        }
    }
    println!("battery: {} of {done} steps passed", done - failed.len());
    assert!(done > 0, "no step's name contains {filter:?}");
    assert!(failed.is_empty(), "battery: failed: {}", failed.join(", "));
}

/// A running `podman system service` must list `after` once `swap` has shown
/// another set at the store's path, and must have listed `before`.
pub fn service_sees_swap(store: &Path, before: &[&str], swap: impl FnOnce(), after: &[&str]) {
    let scratch = Scratch::new();
    let podman = Podman::new(scratch.join("podman"), Some(store));
    protect::service_sees_swap(&podman, before, swap, after);
}

/// Digests of everything in a store that podman reads as data, and the names
/// of its layers: what no step may change.
fn fingerprint(store: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![
        store.join("overlay-images"),
        store.join("overlay-layers"),
        store.join("overlay/l"),
    ];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let fact = if kind.is_dir() {
                todo.push(path.clone());
                "directory".into()
            } else if kind.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else {
                sha256(fs::File::open(&path).unwrap())
            };
            found.insert(path.display().to_string(), fact);
        }
    }
    for entry in fs::read_dir(store.join("overlay")).unwrap() {
        let path = entry.unwrap().path();
        found.insert(path.display().to_string(), "layer".into());
    }
    found
}
