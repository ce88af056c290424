//! What a unit asks for is what podman's own generator makes of it: each case
//! of `quadlet/cases.txt` is read by both. Where they differ, the case says what
//! podman does, and `docs/bound-images.md` why.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::{fd::AsFd, unix::fs::symlink},
    path::Path,
    process::Command,
};

use boundstore::{
    bound::{BOUND_IMAGE_DIRS, Origin, Settings, UNIT_FOLDERS, scan, words},
    name::{ImageName, Platform},
};
use common::{Scratch, describe, output, project, text};

/// Units, what they bind, and what podman makes of them where that differs.
#[derive(Debug, Default)]
struct Case {
    title: String,
    files: Vec<(String, String)>,
    bound: String,
    podman: Option<String>,
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(project().join("tests/quadlet/cases.txt")).unwrap();
    let mut cases = Vec::<Case>::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            cases.push(Case {
                title: title.to_owned(),
                ..Case::default()
            });
            continue;
        }
        let case = cases.last_mut().unwrap();
        if let Some(path) = line.strip_prefix("--- ") {
            let path = match path.strip_prefix('/') {
                Some(path) => path.to_owned(),
                None => format!("{}/{path}", UNIT_FOLDERS[1]),
            };
            case.files.push((path, String::new()));
        } else if let Some(bound) = line.strip_prefix("=== ") {
            case.bound = bound.to_owned();
        } else if let Some(podman) = line.strip_prefix("podman ") {
            case.podman = Some(podman.to_owned());
        } else if case.bound.is_empty() {
            let (_, text) = case.files.last_mut().unwrap();
            *text += line;
            text.push('\n');
        }
    }
    cases
}

impl Case {
    /// Lays the files below `root` and binds the first of them.
    fn lay(&self, root: &Path) {
        for (path, text) in &self.files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => symlink(target.trim(), path).unwrap(),
                None => fs::write(path, text).unwrap(),
            }
        }
        let unit = &self.files[0].0;
        let name = Path::new(unit).file_name().unwrap();
        let ours = root.join(BOUND_IMAGE_DIRS[1]);
        fs::create_dir_all(&ours).unwrap();
        symlink(Path::new("/").join(unit), ours.join(name)).unwrap();
    }
}

/// An image with its settings, as the cases write it.
fn shown(name: &ImageName, settings: &Settings) -> String {
    let mut text = name.to_string();
    if let Some(platform) = &settings.platform {
        text += &format!(" platform={platform}");
    }
    if let Some(path) = &settings.auth_file {
        text += &format!(" authfile={}", path.display());
    }
    if let Some(verify) = settings.tls_verify {
        text += &format!(" tls-verify={verify}");
    }
    text
}

/// The images that a root binds, and the manifests they are named in; or why
/// not.
fn bound(root: &Path) -> (String, BTreeSet<String>) {
    let root = File::open(root).unwrap();
    match scan(root.as_fd()) {
        Err(error) => (error.to_string(), BTreeSet::new()),
        Ok(scan) => {
            let images = scan.images.iter();
            let images: Vec<_> = images.map(|i| shown(&i.name, &i.settings)).collect();
            let origins = scan.images.iter().flat_map(|image| &image.origins);
            let manifests = origins.filter_map(|origin| match origin {
                Origin::Unit {
                    target: Some(path), ..
                } => Some(path.display().to_string()),
                _ => None,
            });
            let yaml = |path: &String| path.ends_with(".yml") || path.ends_with(".yaml");
            (images.join(" "), manifests.filter(yaml).collect())
        }
    }
}

/// The last value of an option of a command line.
fn option<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    let values = words.iter().enumerate().filter_map(|(at, word)| {
        let rest = word.strip_prefix(name)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value),
            None if rest.is_empty() => words.get(at + 1).map(String::as_str),
            None => None,
        }
    });
    values.collect::<Vec<_>>().pop()
}

/// The settings of a command line.
fn settings(words: &[String]) -> Settings {
    let mut platform = option(words, "--platform").map(|text| text.parse::<Platform>().unwrap());
    let [os, arch, variant] = ["--os", "--arch", "--variant"].map(|name| option(words, name));
    if os.or(arch).or(variant).is_some() {
        let host = Platform::host();
        platform = Some(Platform {
            os: os.unwrap_or(&host.os).into(),
            architecture: arch.unwrap_or(&host.architecture).into(),
            variant: variant.map(str::to_owned),
        });
    }
    let tls = words.iter().rfind(|word| word.starts_with("--tls-verify"));
    Settings {
        platform,
        auth_file: option(words, "--authfile").map(Into::into),
        tls_verify: tls.map(|word| word != "--tls-verify=false"),
    }
}

/// The images and manifests that the generator's podman commands name.
fn generated(program: &str, root: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let folders = UNIT_FOLDERS.map(|folder| root.join(folder).display().to_string());
    let mut command = Command::new(program);
    let run = output(
        command
            .arg("-dryrun")
            .env("QUADLET_UNIT_DIRS", folders.join(":")),
    );
    let said = String::from_utf8(run.stdout.clone()).unwrap();
    let (mut images, mut manifests) = (BTreeSet::new(), BTreeSet::new());
    for line in said.lines() {
        let Some(line) = line
            .strip_prefix("ExecStart")
            .and_then(|line| line.split_once('='))
        else {
            continue;
        };
        let words = words(&line.1.replace("\\x20", "\\s"));
        let verbs: Vec<_> = words.iter().skip(1).take(2).map(String::as_str).collect();
        let name = match verbs[..] {
            ["run", _] if !words.iter().any(|word| word == "--rootfs") => {
                words.last().map(String::as_str)
            }
            ["image", "pull"] => words.last().map(String::as_str),
            ["volume", "create"] => {
                option(&words, "--opt").and_then(|opt| opt.strip_prefix("image="))
            }
            ["pod", "create"] => option(&words, "--infra-image"),
            ["kube", "play"] => {
                let ours = root.display().to_string();
                let paths = words.iter().filter_map(|word| word.strip_prefix(&ours));
                let inside = words
                    .iter()
                    .filter(|word| word.starts_with("/usr/share/a/"));
                manifests.extend(paths.chain(inside.map(String::as_str)).map(str::to_owned));
                continue;
            }
            ["run" | "pod" | "build", _] => continue,
            _ => panic!("{line:?}"),
        };
        let Some(name) = name else { continue };
        let settings = settings(&words);
        let full = ImageName::normalise(&name.replace("%%", "%"));
        images.insert(match full {
            Ok(full) if !name.contains("-archive:") => shown(&full.name, &settings),
            _ => name.to_owned(),
        });
    }
    assert!(
        !said.is_empty() || !run.stderr.is_empty(),
        "{}",
        describe(&command, &run)
    );
    (images, manifests)
}

fn joined(images: &BTreeSet<String>, by: &str) -> String {
    let images: Vec<_> = images.iter().map(String::as_str).collect();
    images.join(by)
}

#[test]
fn units_mean_what_podmans_generator_makes_of_them() {
    let program = text(&mut Command::new(project().join("scripts/quadlet")));
    let reasons = fs::read_to_string(project().join("docs/bound-images.md")).unwrap();
    let cases = cases();
    let mut wrong = Vec::new();
    for case in &cases {
        let scratch = Scratch::new();
        case.lay(scratch.path());
        let (found, named_in) = bound(scratch.path());
        let (images, manifests) = generated(program.trim(), scratch.path());
        let mut expect = |what: &str, good: bool, found: &str| {
            if !good {
                wrong.push(format!("{}: {what}: {found}", case.title));
            }
        };
        let refusal = case.bound.strip_prefix("refused: ");
        match refusal {
            Some(part) => expect("refused", found.contains(part), &found),
            None => expect("bound", found == case.bound, &found),
        }
        match case.podman.as_deref() {
            Some("none") => expect("podman", images.is_empty(), &joined(&images, " ")),
            Some("manifests") => expect("podman", !manifests.is_empty(), "no manifests"),
            Some(podman) => {
                let images = joined(&images, " and ");
                expect("podman", images == podman, &images);
            }
            None if !named_in.is_empty() => {
                let both = format!("{named_in:?} {manifests:?}");
                expect("manifests", named_in == manifests, &both);
            }
            None => {
                let names: BTreeSet<_> = images
                    .into_iter()
                    .filter(|name| !name.contains("-archive:"))
                    .collect();
                let names = joined(&names, " ");
                let expected = refusal.map_or(&*case.bound, |_| "");
                expect("podman", names == expected, &names);
            }
        }
        if case.podman.is_some() {
            let row = format!("| {} |", case.title);
            expect("not in docs/bound-images.md", reasons.contains(&row), &row);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let rows = reasons.lines().filter(|line| {
        cases
            .iter()
            .any(|case| line.starts_with(&format!("| {} |", case.title)))
    });
    let differing = cases.iter().filter(|case| case.podman.is_some());
    assert_eq!(rows.count(), differing.count());
    assert!(cases.len() >= 60, "{} cases", cases.len());
}
