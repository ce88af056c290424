//! What one entry of our own folder asks for: every form of it.

use std::{
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

use crate::name::{NormalisedName, Platform};

use super::{
    folders::{UnitFile, UnitFolders},
    image::{BoundImage, Origin, Settings},
    kube::{KubeImages, kube_images},
    list::parse_list,
    problem::Problem,
    quadlet::{NameFault, UnitFault, UnitKind, full_name, plain, unescape},
    unit::{Assignment, words},
};

/// An image that an entry asks for.
#[derive(Debug)]
pub(super) struct Asked {
    /// As it is written.
    pub(super) written: String,
    pub(super) name: NormalisedName,
    pub(super) origin: Origin,
    pub(super) settings: Settings,
}

impl Asked {
    pub(super) fn into_image(self) -> BoundImage {
        BoundImage {
            name: self.name.name,
            origins: vec![self.origin],
            source: None,
            settings: self.settings,
        }
    }
}

/// A file of manifests that a `.kube` names.
#[derive(Debug)]
pub(super) struct KubeFile {
    pub(super) path: PathBuf,
    pub(super) images: KubeImages,
}

impl KubeFile {
    pub(super) fn origin(&self, file: &UnitFile, line: usize) -> Origin {
        Origin::Unit {
            path: file.entry.clone(),
            target: Some(Path::new("/").join(&self.path)),
            line,
        }
    }
}

type Found<T> = Result<T, Box<Problem>>;

/// The images that a unit's podman commands name, never none: what it runs, and
/// what a `.image` pulls, which it refers to.
pub(super) fn asked(
    kind: UnitKind,
    file: &UnitFile,
    folders: &UnitFolders<'_>,
) -> Found<Vec<Asked>> {
    let none = |reason| file.fail(0, section_line(kind, file), UnitFault::NamesNone(reason));
    match kind {
        UnitKind::Image => of_image(file),
        UnitKind::Container => {
            let section = kind.section();
            if let Some(key) = file.unit.last(section, "AuthFile") {
                return Err(file.fail(key.file, key.line, UnitFault::AuthFile));
            }
            if let Some(rootfs) = file.unit.last(section, "Rootfs") {
                let fault = UnitFault::NamesNone("Rootfs= is a folder of the host's");
                return Err(file.fail(rootfs.file, rootfs.line, fault));
            }
            let image = mandatory(kind, file)?;
            of_value(kind, file, image, folders)
        }
        UnitKind::Volume => {
            let driver = file.unit.last(kind.section(), "Driver");
            let driver = driver.map(|driver| value_of(file, driver)).transpose()?;
            if driver.as_deref() != Some("image") {
                return Err(none("a .volume does with Driver=image alone"));
            }
            let image = mandatory(kind, file)?;
            of_value(kind, file, image, folders)
        }
        UnitKind::Pod => {
            let Some((value, argument)) = argument(kind, file, "--infra-image")? else {
                return Err(none(
                    "a .pod does with PodmanArgs=--infra-image=NAME alone, otherwise podman makes \
                     its own",
                ));
            };
            let settings = settings(kind, file)?;
            Ok(vec![one(value, file.origin(argument), settings)?])
        }
        UnitKind::Kube => {
            let settings = settings(kind, file)?;
            let mut asked = Vec::new();
            for kube in kube_files(file, folders)? {
                for image in &kube.images.images {
                    let origin = kube.origin(file, image.line);
                    asked.push(one(image.written.clone(), origin, settings.clone())?);
                }
            }
            if asked.is_empty() {
                return Err(none("nor do the files of its Yaml="));
            }
            Ok(asked)
        }
        UnitKind::Build => Err(file.fail(0, section_line(kind, file), UnitFault::Build)),
    }
}

fn section_line(kind: UnitKind, file: &UnitFile) -> usize {
    file.unit.section_line(kind.section()).unwrap_or(1)
}

pub(super) fn value_of(file: &UnitFile, assignment: &Assignment) -> Found<String> {
    plain(&assignment.value).map_err(|fault| file.fail(assignment.file, assignment.line, fault))
}

fn mandatory(kind: UnitKind, file: &UnitFile) -> Found<&Assignment> {
    let section = kind.section();
    let missing = UnitFault::MissingImage { section };
    let image = file.unit.last(section, "Image");
    image.ok_or_else(|| file.fail(0, section_line(kind, file), missing))
}

/// An `Image=` that is a name, or refers to a unit.
fn of_value(
    kind: UnitKind,
    file: &UnitFile,
    image: &Assignment,
    folders: &UnitFolders<'_>,
) -> Found<Vec<Asked>> {
    let written = value_of(file, image)?;
    let fail = |fault| file.fail(image.file, image.line, fault);
    if written.ends_with(".build") {
        return Err(fail(UnitFault::Build));
    }
    if !written.ends_with(".image") {
        let settings = settings(kind, file)?;
        return Ok(vec![one(written, file.origin(image), settings)?]);
    }
    let unit = follow(&written, file, folders)?;
    let unit = unit.ok_or_else(|| fail(UnitFault::NoSuchUnit(written)))?;
    of_image(&unit)
}

/// The unit that another one refers to by name.
pub(super) fn follow(
    name: &str,
    file: &UnitFile,
    folders: &UnitFolders<'_>,
) -> Found<Option<UnitFile>> {
    if name.contains('/') {
        return Ok(None);
    }
    let Some(folder) = folders.folder_of(name).map_err(Problem::Directory)? else {
        return Ok(None);
    };
    let path = folder.join(name);
    let shown = Path::new("/").join(&path);
    let mut found = folders.load(&path, Some(shown), folder, name)?;
    found.entry = file.entry.clone();
    Ok(Some(found))
}

/// A `.image` names what it pulls, and by `ImageTag=` what others then run. To
/// pull from a file or folder is the host's affair: what is run is a name.
fn of_image(file: &UnitFile) -> Found<Vec<Asked>> {
    let kind = UnitKind::Image;
    let settings = settings(kind, file)?;
    let image = mandatory(kind, file)?;
    let pulled = one(value_of(file, image)?, file.origin(image), settings.clone());
    let Some(tag) = file.unit.last(kind.section(), "ImageTag") else {
        return Ok(vec![pulled?]);
    };
    let run = one(value_of(file, tag)?, file.origin(tag), settings)?;
    match pulled {
        Ok(pulled) if pulled.name.name == run.name.name => Ok(vec![run]),
        Ok(pulled) => Ok(vec![pulled, run]),
        Err(problem) if is_transport(&problem) => Ok(vec![run]),
        Err(problem) => Err(problem),
    }
}

fn is_transport(problem: &Problem) -> bool {
    let Problem::Unit { source, .. } = problem else {
        return false;
    };
    matches!(source, UnitFault::Name(NameFault::Transport(_)))
}

fn one(written: String, origin: Origin, settings: Settings) -> Found<Asked> {
    match full_name(&written) {
        Ok(name) => Ok(Asked {
            written,
            name,
            origin,
            settings,
        }),
        Err(fault) => Err(Box::new(Problem::Unit {
            origin,
            source: fault.into(),
        })),
    }
}

/// The files of manifests that a `.kube` names.
pub(super) fn kube_files(file: &UnitFile, folders: &UnitFolders<'_>) -> Found<Vec<KubeFile>> {
    let section = UnitKind::Kube.section();
    let mut found = Vec::new();
    for yaml in file.unit.all(section, "Yaml") {
        for word in words(&yaml.value) {
            let named = unescape(&word).map_err(|fault| file.fail(yaml.file, yaml.line, fault))?;
            let path = in_root(&file.folder.join(named));
            let text = folders.read(file, &path)?;
            let images = kube_images(&text);
            let mut kube = KubeFile {
                path,
                images: KubeImages::default(),
            };
            kube.images = images.map_err(|error| Problem::Unit {
                origin: kube.origin(file, error.line),
                source: error.fault.into(),
            })?;
            found.push(kube);
        }
    }
    Ok(found)
}

/// The last value of an option in a unit's `PodmanArgs=`.
pub(super) fn argument<'file>(
    kind: UnitKind,
    file: &'file UnitFile,
    option: &str,
) -> Found<Option<(String, &'file Assignment)>> {
    let mut found = None;
    for assignment in file.unit.all(kind.section(), "PodmanArgs") {
        let mut words = words(&assignment.value).into_iter();
        while let Some(word) = words.next() {
            let value = match word.strip_prefix(option) {
                Some("") => words.next(),
                Some(rest) => rest.strip_prefix('=').map(str::to_owned),
                None => None,
            };
            if let Some(value) = value {
                let value = unescape(&value);
                let fail = |fault| file.fail(assignment.file, assignment.line, fault);
                found = Some((value.map_err(fail)?, assignment));
            }
        }
    }
    Ok(found)
}

/// How a unit's images are asked for: by the keys of a `.image`, and by the
/// options of any unit's `PodmanArgs=`, which come later.
fn settings(kind: UnitKind, file: &UnitFile) -> Found<Settings> {
    let value = |key, option| -> Found<Option<(String, &Assignment)>> {
        if let found @ Some(_) = argument(kind, file, option)? {
            return Ok(found);
        }
        let assignment = match kind {
            UnitKind::Image => file.unit.last(kind.section(), key),
            _ => None,
        };
        let with_value = |assignment| Ok((value_of(file, assignment)?, assignment));
        assignment.map(with_value).transpose()
    };
    let fail = |at: &Assignment, fault| file.fail(at.file, at.line, fault);
    let mut platform = None;
    if let Some((text, at)) = argument(kind, file, "--platform")? {
        let parsed = text.parse::<Platform>();
        platform = Some(parsed.map_err(|error| fail(at, error.into()))?);
    }
    let parts = [("OS", "--os"), ("Arch", "--arch"), ("Variant", "--variant")];
    for (part, (key, option)) in parts.into_iter().enumerate() {
        let Some((text, at)) = value(key, option)? else {
            continue;
        };
        let mut named = platform.take().unwrap_or_else(Platform::host);
        match part {
            0 => named.os = text,
            1 => {
                // The host's variant is one of the host's architecture.
                if named.architecture != text {
                    named.variant = None;
                }
                named.architecture = text;
            }
            _ => named.variant = Some(text),
        }
        let checked = named.to_string().parse::<Platform>();
        platform = Some(checked.map_err(|error| fail(at, error.into()))?);
    }
    let tls_verify = match value("TLSVerify", "--tls-verify")? {
        Some((text, at)) => Some(boolean(&text).ok_or_else(|| fail(at, UnitFault::Boolean(text)))?),
        None => None,
    };
    Ok(Settings {
        platform,
        auth_file: value("AuthFile", "--authfile")?.map(|(path, _)| path.into()),
        tls_verify,
    })
}

/// As systemd writes booleans.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Some(true),
        "0" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// What a list of images asks for.
pub(super) fn listed(
    text: &[u8],
    path: &Path,
    target: Option<&Path>,
) -> Result<Vec<Asked>, Vec<Problem>> {
    let origin = |line| Origin::Unit {
        path: path.to_owned(),
        target: target.map(Path::to_owned),
        line,
    };
    let list = parse_list(text).map_err(|error| {
        vec![Problem::Unit {
            origin: origin(error.line),
            source: UnitFault::List(error.message),
        }]
    })?;
    if list.images.is_empty() {
        return Err(vec![Problem::Unit {
            origin: origin(1),
            source: UnitFault::NamesNone("its list is empty"),
        }]);
    }
    let settings = Settings {
        auth_file: list.auth_file,
        ..Settings::default()
    };
    let mut problems = Vec::new();
    let mut asked = Vec::new();
    for (written, line) in list.images {
        match one(written, origin(line), settings.clone()) {
            Ok(image) => asked.push(image),
            Err(problem) => problems.push(*problem),
        }
    }
    if problems.is_empty() {
        return Ok(asked);
    }
    Err(problems)
}

/// Where a link of `folder` leads by what it says: the folder and the name that
/// podman knows a unit by. Nothing for one without a name.
pub(super) fn place_of(folder: &Path, target: &Path) -> Option<(PathBuf, String)> {
    let mut path = in_root(&folder.join(target));
    let name = path.file_name().and_then(OsStr::to_str)?.to_owned();
    path.pop();
    Some((path, name))
}

/// A path of a root, without `.` and `..`, by its letters as podman has it.
pub(super) fn in_root(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => _ = clean.pop(),
            _ => {}
        }
    }
    clean
}
