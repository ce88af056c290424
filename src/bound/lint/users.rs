//! The units that use bound images, in ways that a read-only store cannot serve.

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use crate::{
    error::with_causes,
    name::ImageName,
    sys::{RootDir, read_dir_names_in_root, read_link_in_root},
};

use super::{Finding, Rule};
use crate::bound::{
    folders::{UnitFile, UnitFolders},
    forms::{Asked, argument, asked, follow, kube_files, place_of, value_of},
    image::Origin,
    kube::KubeUsage,
    quadlet::{UnitKind, full_name},
    scan::BOUND_IMAGE_DIRS,
    unit::{Assignment, words},
};

/// Keys of a unit that give it a user namespace, and options of podman that do.
const MAPPINGS: [&str; 6] = [
    "UserNS",
    "UIDMap",
    "GIDMap",
    "SubUIDMap",
    "SubGIDMap",
    "RemapUsers",
];
const MAPPING_OPTIONS: [&str; 5] = [
    "--userns",
    "--uidmap",
    "--gidmap",
    "--subuidname",
    "--subgidname",
];
/// What makes podman 5 copy an image instead of mapping it.
const WAY_OUT: &str = "_CONTAINERS_OVERLAY_DISABLE_IDMAP=yes";

/// A unit, where it is, and the folders it is looked up in.
struct User<'root> {
    kind: UnitKind,
    file: UnitFile,
    folders: UnitFolders<'root>,
    /// Whether bootc's folder names it.
    in_bootcs: bool,
}

/// Checks all units that podman has, and all that are bound.
pub(super) fn check(root: &RootDir, bound: &HashSet<ImageName>, findings: &mut Vec<Finding>) {
    let folders = match UnitFolders::find(root.as_fd()) {
        Ok(folders) => folders,
        Err(error) => {
            let message = with_causes(&error);
            return findings.push(Finding::unreadable(&error.path, None, &message));
        }
    };
    for user in users(&folders) {
        let Ok(asked) = asked(user.kind, &user.file, &user.folders) else {
            continue;
        };
        let check = Check {
            user: &user,
            bound,
            uses: asked.iter().any(|one| bound.contains(&one.name.name)),
            asked: &asked,
        };
        check.bootc_drop_in(findings);
        check.user_namespace(findings);
        check.image_mount(findings);
        check.pull_policy(findings);
    }
}

/// The units of podman's folders and those that are bound elsewhere, each once.
fn users<'root>(folders: &UnitFolders<'root>) -> Vec<User<'root>> {
    let mut seen = HashSet::new();
    let mut users = Vec::new();
    let bound = BOUND_IMAGE_DIRS.map(PathBuf::from);
    for folder in bound.iter().chain(&folders.folders) {
        let names = read_dir_names_in_root(folders.root, folder);
        for name in names.ok().flatten().unwrap_or_default() {
            users.extend(user(folders, folder, &name, &mut seen));
        }
    }
    users
}

fn user<'root>(
    folders: &UnitFolders<'root>,
    folder: &Path,
    name: &OsStr,
    seen: &mut HashSet<(PathBuf, String)>,
) -> Option<User<'root>> {
    let name = name.to_str()?;
    let kind = UnitKind::of_file_name(name)?;
    let is_bound = BOUND_IMAGE_DIRS.iter().any(|dir| folder == Path::new(dir));
    let link = read_link_in_root(folders.root, &folder.join(name)).ok()?;
    // podman knows a link in its own folders by the link's name.
    let place = link.as_deref().filter(|_| is_bound);
    let (at, unit) = match place {
        Some(target) => place_of(folder, target)?,
        None => (folder.to_owned(), name.to_owned()),
    };
    if !seen.insert((at.clone(), unit.clone())) {
        return None;
    }
    let folders = folders.with(&at);
    let file = folders.load(&at.join(&unit), None, &at, &unit).ok()?;
    Some(User {
        kind,
        file,
        folders,
        in_bootcs: folder == Path::new(BOUND_IMAGE_DIRS[0]),
    })
}

struct Check<'a> {
    user: &'a User<'a>,
    bound: &'a HashSet<ImageName>,
    /// Whether it runs or makes something of a bound image.
    uses: bool,
    asked: &'a [Asked],
}

impl Check<'_> {
    fn kind(&self) -> UnitKind {
        self.user.kind
    }

    fn file(&self) -> &UnitFile {
        &self.user.file
    }

    fn last<'a>(&self, file: &'a UnitFile, kind: UnitKind, key: &str) -> Option<&'a Assignment> {
        file.unit.last(kind.section(), key)
    }

    /// podman runs what the drop-in says, bootc has pulled what the unit says.
    fn bootc_drop_in(&self, findings: &mut Vec<Finding>) {
        if !self.user.in_bootcs || self.file().drop_ins.is_empty() {
            return;
        }
        for one in self
            .asked
            .iter()
            .filter(|one| !self.bound.contains(&one.name.name))
        {
            let message = format!("it makes {} of the image that bootc sees", one.name.name);
            findings.push(Finding::new(Rule::BootcDropIn, message).at(&one.origin));
        }
    }

    fn user_namespace(&self, findings: &mut Vec<Finding>) {
        if !self.uses || self.has_way_out(self.file()) {
            return;
        }
        let mut mapped = |origin: &Origin, by: &str| {
            let message = format!("{by} gives containers of a bound image a user namespace");
            findings.push(Finding::new(Rule::UserNamespace, message).at(origin));
        };
        match self.kind() {
            UnitKind::Container => {
                mappings(self.kind(), self.file(), &mut mapped);
                let pod = self.last(self.file(), self.kind(), "Pod");
                let pod = pod.and_then(|pod| value_of(self.file(), pod).ok());
                let pod = pod.and_then(|pod| follow(&pod, self.file(), &self.user.folders).ok()?);
                if let Some(pod) = pod.filter(|pod| !self.has_way_out(pod)) {
                    mappings(UnitKind::Pod, &pod, &mut mapped);
                }
            }
            UnitKind::Pod => mappings(self.kind(), self.file(), &mut mapped),
            UnitKind::Kube => {
                mappings(self.kind(), self.file(), &mut mapped);
                for kube in kube_files(self.file(), &self.user.folders).unwrap_or_default() {
                    for line in &kube.images.user_namespaces {
                        mapped(&kube.origin(self.file(), *line), "the manifest");
                    }
                }
            }
            _ => {}
        }
    }

    fn has_way_out(&self, file: &UnitFile) -> bool {
        let variables = file.unit.all("Service", "Environment").into_iter();
        let mut variables = variables.flat_map(|variable| words(&variable.value));
        variables.any(|variable| variable == WAY_OUT)
    }

    fn image_mount(&self, findings: &mut Vec<Finding>) {
        let mut mounted = |name: &ImageName, origin: &Origin| {
            let message = format!("it mounts the bound image {name} into a container");
            findings.push(Finding::new(Rule::ImageMount, message).at(origin));
        };
        match self.kind() {
            UnitKind::Container => {
                let mounts = self.file().unit.all(self.kind().section(), "Mount");
                let mut specs: Vec<_> = mounts
                    .into_iter()
                    .flat_map(|mount| {
                        words(&mount.value)
                            .into_iter()
                            .map(move |spec| (spec, mount))
                    })
                    .collect();
                specs.extend(argument(self.kind(), self.file(), "--mount").ok().flatten());
                for (spec, mount) in specs {
                    for name in self.mounted(&spec) {
                        mounted(&name, &self.file().origin(mount));
                    }
                }
            }
            UnitKind::Kube => {
                for kube in kube_files(self.file(), &self.user.folders).unwrap_or_default() {
                    let images = kube.images.images.iter();
                    for image in images.filter(|image| image.usage == KubeUsage::Mount) {
                        if let Some(name) = self.is_bound(&image.written) {
                            mounted(&name, &kube.origin(self.file(), image.line));
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// The bound images that a value of `--mount` mounts.
    fn mounted(&self, spec: &str) -> Vec<ImageName> {
        let fields: Vec<_> = spec.split(',').collect();
        let value = |keys: &[&str]| {
            let values = fields.iter().filter_map(|field| field.split_once('='));
            let mut values = values.filter(|(key, _)| keys.contains(key));
            values.next().map(|(_, value)| value)
        };
        let Some(source) = value(&["source", "src"]).filter(|_| value(&["type"]) == Some("image"))
        else {
            return Vec::new();
        };
        if !source.ends_with(".image") {
            return self.is_bound(source).into_iter().collect();
        }
        let unit = follow(source, self.file(), &self.user.folders)
            .ok()
            .flatten();
        let asked = unit.and_then(|unit| asked(UnitKind::Image, &unit, &self.user.folders).ok());
        let names = asked
            .unwrap_or_default()
            .into_iter()
            .map(|one| one.name.name);
        names.filter(|name| self.bound.contains(name)).collect()
    }

    fn is_bound(&self, written: &str) -> Option<ImageName> {
        let name = full_name(written).ok()?.name;
        self.bound.contains(&name).then_some(name)
    }

    fn pull_policy(&self, findings: &mut Vec<Finding>) {
        if !self.uses {
            return;
        }
        let mut pulls = |origin: &Origin, by: &str| {
            let message =
                format!("{by} asks the registry at each start, for an image that is bound");
            findings.push(Finding::new(Rule::PullPolicy, message).at(origin));
        };
        match self.kind() {
            UnitKind::Container => {
                if let Some((policy, at)) = self.policy(self.file(), "Pull", "--pull")
                    && asks(&policy)
                {
                    pulls(
                        &self.file().origin(at),
                        &format!("the pull policy {policy}"),
                    );
                }
                if let Some(update) = self.last(self.file(), self.kind(), "AutoUpdate")
                    && update.value == "registry"
                {
                    let message = "podman auto-update replaces the bound image by a newer one";
                    let finding = Finding::new(Rule::PullPolicy, message);
                    findings.push(finding.at(&self.file().origin(update)));
                    return;
                }
                self.referred(&mut pulls);
            }
            UnitKind::Volume => self.referred(&mut pulls),
            UnitKind::Image => {
                if let Some((policy, at)) = self.policy(self.file(), "Policy", "--policy")
                    && asks(&policy)
                {
                    pulls(&self.file().origin(at), &format!("the policy {policy}"));
                }
            }
            UnitKind::Kube => {
                for kube in kube_files(self.file(), &self.user.folders).unwrap_or_default() {
                    for image in &kube.images.images {
                        let KubeUsage::Container(policy) = &image.usage else {
                            continue;
                        };
                        let Some(name) = self.is_bound(&image.written) else {
                            continue;
                        };
                        let by = match policy.as_deref() {
                            Some("Always") => "imagePullPolicy: Always",
                            None if name.pinned().is_none() && name.tag() == Some("latest") => {
                                "without imagePullPolicy, the tag latest"
                            }
                            _ => continue,
                        };
                        pulls(&kube.origin(self.file(), image.line), by);
                    }
                }
            }
            UnitKind::Pod | UnitKind::Build => {}
        }
    }

    /// A `.image` that is referred to is started, and pulls unless it is told
    /// not to.
    fn referred(&self, pulls: &mut impl FnMut(&Origin, &str)) {
        let image = self.last(self.file(), self.kind(), "Image");
        let name = image.and_then(|image| value_of(self.file(), image).ok());
        let Some(name) = name.filter(|name| name.ends_with(".image")) else {
            return;
        };
        let unit = follow(&name, self.file(), &self.user.folders)
            .ok()
            .flatten();
        let Some(mut unit) = unit else { return };
        if self.policy(&unit, "Policy", "--policy").is_none() {
            // Told of the unit itself, however many refer to it.
            unit.entry = unit.folder.join(&name);
            unit.target = None;
            let line = unit.unit.section_line(UnitKind::Image.section());
            let by = format!("{name} without Policy=missing");
            pulls(&unit.origin_in(0, line.unwrap_or(1)), &by);
        }
    }

    fn policy<'a>(
        &self,
        file: &'a UnitFile,
        key: &str,
        option: &str,
    ) -> Option<(String, &'a Assignment)> {
        let kind = if key == "Policy" {
            UnitKind::Image
        } else {
            self.kind()
        };
        let told = argument(kind, file, option).ok().flatten();
        told.or_else(|| {
            let at = self.last(file, kind, key)?;
            Some((value_of(file, at).ok()?, at))
        })
    }
}

fn asks(policy: &str) -> bool {
    matches!(policy, "always" | "newer" | "true")
}

/// What gives the containers of a unit a user namespace.
fn mappings(kind: UnitKind, file: &UnitFile, mapped: &mut impl FnMut(&Origin, &str)) {
    let hosts = |value: &str| value == "host";
    for key in MAPPINGS {
        if let Some(at) = file.unit.last(kind.section(), key)
            && !(key == "UserNS" && hosts(&at.value))
        {
            mapped(&file.origin(at), &format!("{key}="));
        }
    }
    for option in MAPPING_OPTIONS {
        if let Ok(Some((value, at))) = argument(kind, file, option)
            && !(option == "--userns" && hosts(&value))
        {
            mapped(&file.origin(at), option);
        }
    }
}
