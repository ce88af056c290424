//! Odd and evil images and archives. What becomes of each is written in
//! docs/hostile-inputs.md, and is read from there: a case without a row fails,
//! and so does a row without a case.
//!
//! `BOUNDSTORE_CASE=name` runs one, and prints what became of it.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod archives;
#[path = "../common/mod.rs"]
mod common;
mod documents;
mod facts;
#[path = "../common/host.rs"]
mod host;
#[path = "../common/layout.rs"]
mod layout;
mod page;
#[path = "../common/raw_tar.rs"]
mod raw_tar;
mod tars;

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use boundstore::sys::output_within;
use common::ready;
use host::Host;
use layout::{LayerBlob, Layout};
use page::Outcome;
use raw_tar::RawTar;
use serde_json::Value;

/// A case makes its image; what is given back is the SOURCE.
type Make = fn(&mut Stage) -> String;
type Case = (&'static str, Make);

/// Nothing of this takes a second; a fifo that is opened would take for ever.
const HANGS: Duration = Duration::from_secs(100);

/// Where a case puts its image.
struct Stage {
    case: &'static str,
    dir: PathBuf,
    layout: Layout,
}

impl Stage {
    /// The SOURCE of the image `evil` of the layout.
    fn source(&self) -> String {
        format!("oci:{}:evil", self.layout.path.display())
    }

    fn layers(&mut self, layers: &[LayerBlob]) -> String {
        self.layout.image("evil", layers);
        self.source()
    }

    fn layer(&mut self, layer: LayerBlob) -> String {
        self.layers(&[layer])
    }

    /// An image of these tars.
    fn tars(&mut self, tars: impl IntoIterator<Item = RawTar>) -> String {
        let tars = tars.into_iter().map(|tar| LayerBlob::plain(&tar.done()));
        let tars: Vec<_> = tars.collect();
        self.layers(&tars)
    }

    fn tar(&mut self, tar: RawTar) -> String {
        self.tars([tar])
    }

    /// A tar that no other case has.
    fn own_tar(&self) -> RawTar {
        RawTar::default().file("case", self.case.as_bytes())
    }

    fn own_layer(&self) -> LayerBlob {
        LayerBlob::gzip(&self.own_tar().done())
    }

    /// An image of that, its manifest and config as `change` leaves them.
    fn lying(&mut self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let layer = self.own_layer();
        self.layout.lying("evil", &layer, change);
        self.source()
    }
}

/// A host with a published set, on which cases are tried one after the other.
struct Trial {
    host: Host,
    good: Layout,
    before: Value,
}

impl Trial {
    fn new() -> Self {
        let host = Host::new();
        let mut good = Layout::new(&host.path("good"));
        let tar = RawTar::default().file("good", &layout::content(7, 3000));
        good.image("good", &[LayerBlob::gzip(&tar.done())]);
        let arg = good.arg("localhost/good:1", "good");
        let before = host.ok(&["sync", "--deployment", "before", "--image", &arg]);
        Self { host, good, before }
    }

    /// Runs a case; what became of it, in the words of the page.
    fn run(&self, (case, make): Case) -> Found {
        let dir = self.host.path(case);
        let layout = Layout::new(&dir.join("layout"));
        let mut stage = Stage { case, dir, layout };
        let source = make(&mut stage);
        let image = format!("localhost/evil:1={source}");
        let mut command = self
            .host
            .command(&["sync", "--deployment", "d", "--image", &image]);
        let output = output_within(&mut command, HANGS).unwrap();
        let output = output.unwrap_or_else(|| panic!("{case} hangs"));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked"), "{case}: {stderr}");
        let listed = self.images();
        if !output.status.success() {
            assert_eq!(listed, ["localhost/good:1"], "{case}: {stderr}");
            let exit = output.status.code().unwrap();
            return Found::Refused { exit, stderr };
        }
        assert_eq!(listed, ["localhost/evil:1", "localhost/good:1"], "{case}");
        let facts = self.facts();
        self.host.ok(&["remove", "--deployment", "d"]);
        Found::Accepted { facts }
    }

    fn images(&self) -> Vec<String> {
        let images = self.host.ok(&["images"]);
        let rows = images["images"].as_array().unwrap().iter();
        let names = rows.map(|row| row["name"].as_str().unwrap().to_owned());
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The image's whole tree as containers would see it, mounted.
    fn facts(&self) -> Vec<String> {
        let target = self.host.path("mounted");
        fs::create_dir_all(&target).unwrap();
        let text = target.display().to_string();
        self.host.ok(&["mount", "--deployment", "d", &text]);
        let facts = facts::of_store(&target);
        self.host.ok(&["umount", &text]);
        facts
    }

    /// The set that was there is as it was, and what was begun is garbage.
    fn nothing_is_left(self) {
        let host = &self.host;
        let good = self.good.arg("localhost/good:1", "good");
        let again = host.ok(&["sync", "--deployment", "before", "--image", &good]);
        assert_eq!(again["unchanged"], true);
        assert_eq!(again["set_image"], self.before["set_image"]);
        host.ok(&["remove", "--deployment", "before"]);
        // Layers for the next try, and what was mounted since boot.
        for folder in ["partial", "mounted"] {
            let folder = host.path("repo/streams/refs/boundstore").join(folder);
            let Ok(refs) = fs::read_dir(folder) else {
                continue;
            };
            refs.for_each(|one| fs::remove_file(one.unwrap().path()).unwrap());
        }
        host.gc();
        assert_eq!(host.objects().len(), 0);
    }
}

/// What became of a case.
enum Found {
    Refused { exit: i32, stderr: String },
    Accepted { facts: Vec<String> },
}

impl Found {
    /// Where the page says something else.
    fn lacks(&self, outcome: &Outcome) -> Option<String> {
        let (lacking, all) = match (self, outcome) {
            (Self::Refused { exit, stderr }, Outcome::Refused { exit: said, words }) => {
                if exit != said {
                    return Some(format!("exit status {exit}, not {said}: {stderr}"));
                }
                let lacking = words.iter().find(|word| !stderr.contains(*word));
                (lacking, stderr.clone())
            }
            (Self::Accepted { facts }, Outcome::Accepted { facts: said }) => {
                let holds = |fact: &str| match fact.strip_suffix(": nothing") {
                    Some(path) => !facts.iter().any(|f| f.starts_with(&format!("{path}: "))),
                    // One that tells the owner tells all there is.
                    None if fact.contains(", owner ") => facts.iter().any(|f| f == fact),
                    None => facts.iter().any(|f| f.contains(fact)),
                };
                (said.iter().find(|fact| !holds(fact)), facts.join("\n"))
            }
            (found, _) => return Some(format!("the other way round: {found}")),
        };
        lacking.map(|lacking| format!("{lacking:?} is not in: {all}"))
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { exit, stderr } => write!(f, "refused ({exit}): {stderr}"),
            Self::Accepted { facts } => write!(f, "accepted:\n{}", facts.join("\n")),
        }
    }
}

fn run(cases: &[Case]) {
    if !ready(&[]) {
        return;
    }
    let page = page::read();
    let only = std::env::var("BOUNDSTORE_CASE").ok();
    let trial = Trial::new();
    let mut failures = Vec::new();
    for case in cases {
        if only.as_ref().is_some_and(|only| only != case.0) {
            continue;
        }
        let found = trial.run(*case);
        println!("{}: {found}", case.0);
        if let Some(lacking) = page.get(case.0).and_then(|outcome| found.lacks(outcome)) {
            failures.push(format!("{}: {lacking}", case.0));
        }
    }
    trial.nothing_is_left();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn evil_layers() {
    run(tars::CASES);
}

#[test]
fn evil_documents() {
    run(documents::CASES);
}

#[test]
fn evil_layouts_and_archives() {
    run(archives::CASES);
}

#[test]
fn each_case_has_its_row() {
    let cases = [tars::CASES, documents::CASES, archives::CASES].concat();
    let names: BTreeSet<&str> = cases.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), cases.len(), "a name is there twice");
    let page = page::read();
    let rows: BTreeSet<&str> = page.keys().map(String::as_str).collect();
    let without: Vec<_> = names.symmetric_difference(&rows).collect();
    assert!(
        without.is_empty(),
        "either has no row or no case: {without:?}"
    );
    assert!(names.len() >= 60);
}
