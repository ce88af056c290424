use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use super::*;

const BOOTC: &str = BOUND_IMAGE_DIRS[0];
const OURS: &str = BOUND_IMAGE_DIRS[1];
const UNITS: &str = "usr/share/containers/systemd";
const PINNED: &str =
    "quay.io/a/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A root of a host image.
struct Tree(tempfile::TempDir);

impl Tree {
    /// One that has all that a host needs, and binds one image well.
    fn good() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.write("usr/bin/boundstore", "");
        tree.write("usr/lib/systemd/system-generators/boundstore-generator", "");
        fs::create_dir_all(tree.path("usr/lib/containers/storage")).unwrap();
        tree.write(
            "usr/share/containers/storage.conf",
            "[storage.options]\nadditionalimagestores = [\"/usr/lib/containers/storage\"]\n",
        );
        tree.bind("a.container", &format!("[Container]\nImage={PINNED}\n"));
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, dir: &str, name: &str) {
        fs::create_dir_all(self.path(dir)).unwrap();
        symlink(format!("/{UNITS}/{name}"), self.path(dir).join(name)).unwrap();
    }

    /// Writes a unit and binds it in our folder.
    fn bind(&self, name: &str, text: &str) {
        self.write(&format!("{UNITS}/{name}"), text);
        self.link(OURS, name);
    }

    fn lock(&self, names: &[&str]) {
        self.write(LOCK_PATH, &Lock::of_names(names).to_json());
    }

    fn lint(&self) -> Vec<Finding> {
        lint(&RootDir::open(self.0.path()).unwrap(), Some((1, 16)))
    }

    /// The rules that are broken, with file and line.
    fn found(&self) -> Vec<String> {
        let show = |one: Finding| {
            let file = one.file.unwrap_or_default();
            let name = file.rsplit('/').next().unwrap_or_default().to_owned();
            let line = one.line.map(|line| format!(":{line}"));
            format!("{} {name}{}", one.rule, line.unwrap_or_default())
        };
        self.lint().into_iter().map(show).collect()
    }
}

#[track_caller]
fn expect(change: impl FnOnce(&Tree), found: &[&str]) {
    let tree = Tree::good();
    change(&tree);
    assert_eq!(tree.found(), found);
}

fn container(keys: &str) -> String {
    format!("[Container]\nImage={PINNED}\n{keys}\n")
}

#[test]
fn a_good_root_has_no_findings() {
    expect(|_| {}, &[]);
    expect(|tree| tree.write("etc/hostname", "x"), &[]);
    // Nothing is bound, nothing is wrong.
    let empty = Tree(tempfile::tempdir().unwrap());
    assert_eq!(empty.found(), [""; 0]);
}

#[test]
fn unreadable() {
    expect(
        |tree| {
            tree.bind("b.container", "[Container]\nImage=quay.io/A\n");
            tree.bind("c.kube", "[Kube]\nYaml=c.yml\n");
            tree.write(&format!("{UNITS}/c.yml"), "kind: Pod\nspec: []\n");
            tree.write(&format!("{OURS}/d.toml"), "images = 1\n");
            tree.write(&format!("{OURS}/e.network"), "");
            tree.bind("f.container", "[Container]\nImage=f.build\n");
            // bootc takes it, for an image of that name.
            tree.write(
                &format!("{UNITS}/g.container"),
                "[Container]\nImage=a.image\n",
            );
            tree.link(BOOTC, "g.container");
        },
        &[
            "unreadable d.toml:1",
            "unreadable e.network",
            "unreadable b.container:2",
            "unreadable c.yml:2",
            "unreadable f.container:2",
            "unreadable g.container:2",
        ],
    );
}

#[test]
fn bootc_form() {
    expect(
        |tree| {
            for (name, text) in [
                ("b.kube", "[Kube]\n"),
                ("c.container", "[Container]\nImage=quay.io/a/a:%i\n"),
                ("d.image", "[Image]\nImage=quay.io/a/a\nAuthFile=/a.json\n"),
                ("e.image", "[Image]\n"),
            ] {
                tree.write(&format!("{UNITS}/{name}"), text);
                tree.link(BOOTC, name);
            }
            tree.link(BOOTC, "dangling.image");
            tree.write(&format!("{BOOTC}/list.toml"), "images = []\n");
            tree.write(&format!("{BOOTC}/plain.image"), "[Image]\n");
        },
        &[
            "bootc-form b.kube",
            "bootc-form dangling.image",
            "bootc-form list.toml",
            "bootc-form plain.image",
            "bootc-form c.container:2",
            "bootc-form d.image:3",
            "bootc-form e.image:1",
        ],
    );
    expect(
        |tree| {
            tree.write(&format!("{UNITS}/b.image"), "[Image]\nImage=quay.io/a/a\n");
            tree.link(BOOTC, "b.image");
            tree.lock(&["quay.io/a/a:latest"]);
            fs::remove_file(tree.path(OURS).join("a.container")).unwrap();
        },
        &[],
    );
}

#[test]
fn bootc_drop_in() {
    let with = |drop_in: &str| {
        let drop_in = drop_in.to_owned();
        move |tree: &Tree| {
            fs::remove_file(tree.path(OURS).join("a.container")).unwrap();
            tree.link(BOOTC, "a.container");
            tree.write(&format!("{UNITS}/a.container.d/1.conf"), &drop_in);
        }
    };
    let other = PINNED.replace("/a@", "/b@");
    let drop_in = format!("[Container]\n\nImage={other}\n");
    expect(with(&drop_in), &["bootc-drop-in 1.conf:3"]);
    expect(with("[Container]\nReadOnly=true\n"), &[]);
}

#[test]
fn conflict() {
    expect(
        |tree| {
            let image = format!("[Image]\nImage={PINNED}\n");
            tree.bind("b.image", &format!("{image}Arch=arm64\nPolicy=never\n"));
            tree.bind("c.image", &format!("{image}Arch=s390x\nPolicy=never\n"));
            fs::remove_file(tree.path(OURS).join("a.container")).unwrap();
        },
        &["conflict c.image:2", "duplicate-name c.image:2"],
    );
    expect(
        |tree| {
            let other = PINNED.replace("/a@", "/b@");
            tree.write(
                "usr/lib/a.container",
                &format!("[Container]\n\nImage={other}\n"),
            );
            fs::create_dir_all(tree.path(BOOTC)).unwrap();
            let link = tree.path(BOOTC).join("a.container");
            symlink("../../a.container", link).unwrap();
        },
        &["conflict a.container:2"],
    );
}

#[test]
fn duplicate_name() {
    let second = |tree: &Tree| tree.bind("b.container", &container(""));
    expect(second, &["duplicate-name b.container:2"]);
    assert_eq!(Rule::DuplicateName.severity(), Severity::Note);
    let pod = format!(
        "kind: Pod\nspec: {{containers: [{{image: '{PINNED}'}}, {{image: '{PINNED}'}}]}}\n"
    );
    expect(
        |tree| {
            tree.bind("a.kube", "[Kube]\nYaml=a.yml\n");
            tree.write(&format!("{UNITS}/a.yml"), &pod);
            fs::remove_file(tree.path(OURS).join("a.container")).unwrap();
        },
        &[],
    );
}

#[test]
fn short_name() {
    let digest = PINNED.split_once('@').unwrap().1;
    let bind = |name: String| {
        move |tree: &Tree| {
            tree.bind(
                "b.image",
                &format!("[Image]\n\nImage={name}\nPolicy=never\n"),
            );
        }
    };
    expect(bind(format!("alpine@{digest}")), &["short-name b.image:3"]);
    expect(bind(format!("docker.io/library/alpine@{digest}")), &[]);
}

#[test]
fn floating_tag() {
    let bind = |tree: &Tree| {
        tree.write(
            &format!("{OURS}/b.toml"),
            "images = [\n\"quay.io/a/b:1\"]\n",
        );
    };
    expect(bind, &["floating-tag b.toml:2"]);
    let locked = |tree: &Tree| {
        bind(tree);
        tree.lock(&["quay.io/a/b:1", PINNED]);
    };
    expect(locked, &[]);
}

#[test]
fn stale_lock() {
    let lock = |names: &'static [&str]| move |tree: &Tree| tree.lock(names);
    expect(lock(&[PINNED]), &[]);
    expect(
        lock(&[PINNED, "quay.io/a/gone:1"]),
        &["stale-lock bound-images.lock.json"],
    );
    expect(lock(&[]), &["stale-lock a.container:2"]);
    expect(
        |tree| tree.write(LOCK_PATH, "{}"),
        &["stale-lock bound-images.lock.json"],
    );
}

#[test]
fn user_namespace() {
    for (keys, found) in [
        ("UserNS=auto", &["user-namespace a.container:3"][..]),
        ("UIDMap=0:1:2", &["user-namespace a.container:3"]),
        ("GIDMap=0:1:2", &["user-namespace a.container:3"]),
        ("SubUIDMap=x", &["user-namespace a.container:3"]),
        ("RemapUsers=auto", &["user-namespace a.container:3"]),
        (
            "PodmanArgs=--uidmap 0:1:2",
            &["user-namespace a.container:3"],
        ),
        (
            "PodmanArgs=--userns=auto",
            &["user-namespace a.container:3"],
        ),
        ("UserNS=host", &[]),
        ("PodmanArgs=--userns=host --user=1", &[]),
        (
            "UserNS=auto\n[Service]\nEnvironment=A=1 _CONTAINERS_OVERLAY_DISABLE_IDMAP=yes",
            &[],
        ),
        ("Pod=p.pod", &["user-namespace p.pod:2"]),
    ] {
        let change = |tree: &Tree| {
            tree.write(&format!("{UNITS}/a.container"), &container(keys));
            tree.write(&format!("{UNITS}/p.pod"), "[Pod]\nUserNS=keep-id\n");
        };
        expect(change, found);
    }
    // Of a unit that only uses what is bound elsewhere; of another image, none.
    expect(
        |tree| {
            tree.write(&format!("{UNITS}/b.container"), &container("UserNS=auto"));
            let other = "[Container]\nImage=quay.io/other:1\nUserNS=auto\n";
            tree.write(&format!("{UNITS}/c.container"), other);
        },
        &["user-namespace b.container:3"],
    );
    expect(
        |tree| {
            fs::remove_file(tree.path(OURS).join("a.container")).unwrap();
            tree.bind("k.kube", "[Kube]\nYaml=k.yml\nUserNS=auto\n");
            let pod = format!(
                "kind: Pod\nspec:\n  hostUsers: false\n  containers: [{{image: '{PINNED}'}}]\n"
            );
            tree.write(&format!("{UNITS}/k.yml"), &pod);
        },
        &["user-namespace k.kube:3", "user-namespace k.yml:3"],
    );
}

#[test]
fn image_mount() {
    for (mount, found) in [
        (
            format!("Mount=type=image,source={PINNED},destination=/x"),
            &["image-mount b.container:3"][..],
        ),
        (
            format!("Mount=destination=/x,src={PINNED},type=image"),
            &["image-mount b.container:3"],
        ),
        (
            "Mount=type=image,source=i.image,destination=/x".into(),
            &["image-mount b.container:3"],
        ),
        (
            format!("PodmanArgs=--mount type=image,src={PINNED},dst=/x"),
            &["image-mount b.container:3"],
        ),
        (
            "Mount=type=image,source=quay.io/other:1,destination=/x".into(),
            &[],
        ),
        ("Mount=type=tmpfs,destination=/x".into(), &[]),
        (
            format!("Mount=type=bind,source=/{PINNED},destination=/x"),
            &[],
        ),
    ] {
        let change = |tree: &Tree| {
            let text = format!("[Container]\nImage=quay.io/other:1\n{mount}\n");
            tree.write(&format!("{UNITS}/b.container"), &text);
            let image = format!("[Image]\nImage={PINNED}\n");
            tree.write(&format!("{UNITS}/i.image"), &image);
        };
        expect(change, found);
    }
    let pod = |volume: &str| {
        let text =
            format!("kind: Pod\nspec:\n  volumes:\n  - {{image: {{reference: '{volume}'}}}}\n");
        move |tree: &Tree| {
            tree.write(&format!("{UNITS}/k.kube"), "[Kube]\nYaml=k.yml\n");
            tree.write(&format!("{UNITS}/k.yml"), &text);
        }
    };
    expect(pod(PINNED), &["image-mount k.yml:4"]);
    expect(pod("quay.io/other:1"), &[]);
    // It works, unlike a mount.
    expect(
        |tree| {
            tree.bind(
                "v.volume",
                &format!("[Volume]\nDriver=image\nImage={PINNED}\n"),
            );
        },
        &["duplicate-name v.volume:3"],
    );
}

#[test]
fn pull_policy() {
    for (keys, found) in [
        ("Pull=always", &["pull-policy a.container:3"][..]),
        ("Pull=newer", &["pull-policy a.container:3"]),
        ("PodmanArgs=--pull=always", &["pull-policy a.container:3"]),
        ("AutoUpdate=registry", &["pull-policy a.container:3"]),
        ("AutoUpdate=local", &[]),
        ("Pull=missing", &[]),
        ("Pull=never", &[]),
        ("", &[]),
    ] {
        let change = |tree: &Tree| tree.write(&format!("{UNITS}/a.container"), &container(keys));
        expect(change, found);
    }
    // A `.image` pulls always when it is started, and a reference starts it.
    for (policy, found) in [
        ("", &["pull-policy i.image:1"][..]),
        ("Policy=always", &["pull-policy i.image:3"]),
        ("Policy=missing", &[]),
        ("PodmanArgs=--policy=never", &[]),
    ] {
        let change = |tree: &Tree| {
            tree.write(
                &format!("{UNITS}/a.container"),
                "[Container]\nImage=i.image\n",
            );
            let image = format!("[Image]\nImage={PINNED}\n{policy}\n");
            tree.write(&format!("{UNITS}/i.image"), &image);
        };
        expect(change, found);
    }
    for (image, policy, found) in [
        ("quay.io/a/b:latest", "", &["pull-policy k.yml:4"][..]),
        ("quay.io/a/b", "", &["pull-policy k.yml:4"]),
        ("quay.io/a/b", ", imagePullPolicy: IfNotPresent", &[]),
        (PINNED, "", &[]),
        (
            PINNED,
            ", imagePullPolicy: Always",
            &["pull-policy k.yml:4"],
        ),
    ] {
        let change = |tree: &Tree| {
            fs::remove_file(tree.path(OURS).join("a.container")).unwrap();
            tree.bind("k.kube", "[Kube]\nYaml=k.yml\n");
            let pod =
                format!("kind: Pod\nspec:\n  containers:\n  - {{image: '{image}'{policy}}}\n");
            tree.write(&format!("{UNITS}/k.yml"), &pod);
            let name = ImageName::normalise(image).unwrap().name.to_string();
            tree.lock(&[&name]);
        };
        expect(change, found);
    }
}

#[test]
fn mount_point() {
    let remove = |tree: &Tree| fs::remove_dir(tree.path("usr/lib/containers/storage")).unwrap();
    expect(remove, &["mount-point "]);
    expect(
        |tree| {
            remove(tree);
            symlink(
                "/usr/lib/boundstore",
                tree.path("usr/lib/containers/storage"),
            )
            .unwrap();
        },
        &[],
    );
}

#[test]
fn storage_conf() {
    const CONF: &str = "usr/share/containers/storage.conf";
    const DROP_IN: &str = "usr/share/containers/storage.conf.d/50-boundstore.conf";
    let named = "[storage.options]\nadditionalimagestores = [\"/usr/lib/containers/storage\"]\n";
    let other = "[storage.options]\nadditionalimagestores = [\"/usr/lib/other\"]\n";
    expect(
        |tree| tree.write(CONF, other),
        &["storage-conf storage.conf"],
    );
    expect(
        |tree| tree.write(CONF, "["),
        &["storage-conf storage.conf"; 2],
    );
    // The administrator's is read instead of the image's.
    let etc = "etc/containers/storage.conf";
    expect(
        |tree| tree.write(etc, other),
        &["storage-conf storage.conf"],
    );
    expect(
        |tree| (tree.write(CONF, other), tree.write(etc, named)).1,
        &[],
    );
    let tree = Tree::good();
    fs::remove_file(tree.path(CONF)).unwrap();
    assert_eq!(tree.found(), ["storage-conf "]);
    tree.write(DROP_IN, named);
    assert_eq!(tree.found(), ["storage-conf 50-boundstore.conf"]);
    assert_eq!(tree.lint()[0].severity, Severity::Note);
}

/// The lines for a Containerfile do what they are for.
#[test]
fn advice_helps() {
    for (path, text) in [
        ("usr/share/containers/storage.conf", None),
        (
            "usr/share/containers/storage.conf",
            Some("[storage]\ndriver = \"overlay\"\n"),
        ),
        (
            "etc/containers/storage.conf",
            Some("[storage]\n[storage.options]\nsize = \"\"\n[storage.options.overlay]\n"),
        ),
        (
            "etc/containers/storage.conf",
            Some("[storage.options]\nadditionalimagestores = [\n\"/usr/lib/other\",\n]\n"),
        ),
        (
            "etc/containers/storage.conf",
            Some("[storage.options]\nadditionalimagestores = []\n"),
        ),
    ] {
        let tree = Tree::good();
        fs::remove_file(tree.path("usr/share/containers/storage.conf")).unwrap();
        fs::remove_dir(tree.path("usr/lib/containers/storage")).unwrap();
        if let Some(text) = text {
            tree.write(path, text);
        }
        let findings = tree.lint();
        assert_eq!(findings.len(), 2, "{findings:?}");
        for finding in findings {
            let line = finding.advice.strip_prefix("RUN ").unwrap();
            let root = tree.0.path().display();
            let line = line
                .replace(
                    "/usr/share/containers",
                    &format!("{root}/usr/share/containers"),
                )
                .replace("/etc/containers", &format!("{root}/etc/containers"))
                .replace("mkdir -p /usr/lib", &format!("mkdir -p {root}/usr/lib"));
            let done = Command::new("sh").args(["-c", &line]).status().unwrap();
            assert!(done.success(), "{line}");
        }
        assert_eq!(tree.found(), [""; 0], "{text:?}");
    }
}

#[test]
fn boundstore_missing() {
    let remove = |path: &'static str| move |tree: &Tree| fs::remove_file(tree.path(path)).unwrap();
    expect(remove("usr/bin/boundstore"), &["boundstore-missing "]);
    let generator = "usr/lib/systemd/system-generators/boundstore-generator";
    expect(remove(generator), &["boundstore-missing "]);
    expect(
        |tree| {
            remove("usr/bin/boundstore")(tree);
            tree.write("usr/local/bin/boundstore", "");
        },
        &[],
    );
}

#[test]
fn bootc_too_old() {
    let tree = Tree::good();
    let root = RootDir::open(tree.0.path()).unwrap();
    for (version, count) in [
        (None, 0),
        (Some((1, 15)), 1),
        (Some((1, 16)), 0),
        (Some((0, 99)), 1),
    ] {
        let findings = lint(&root, version);
        assert_eq!(findings.len(), count, "{version:?}");
        assert!(findings.iter().all(|one| one.rule == Rule::BootcTooOld));
    }
}

/// Each rule has a section in the documents, with its severity, and a test of
/// its name here.
#[test]
fn rules_are_documented_and_tested() {
    let document = include_str!("../../../docs/lint.md");
    let sections: Vec<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.split_once('`'))
        .collect();
    let expected: Vec<_> = Rule::ALL
        .iter()
        .map(|rule| (rule.id(), format!(" ({})", rule.severity())))
        .collect();
    let expected: Vec<_> = expected.iter().map(|(id, s)| (*id, s.as_str())).collect();
    assert_eq!(sections, expected);
    let tests = include_str!("tests.rs");
    for rule in Rule::ALL {
        let test = format!("\nfn {}() {{", rule.id().replace('-', "_"));
        assert!(tests.contains(&test), "{rule} has no test");
        assert_eq!(rule.id().parse(), Ok(rule));
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
    }
    let error = "floating".parse::<Rule>().unwrap_err().to_string();
    assert!(error.contains("floating-tag"), "{error}");
}

#[test]
fn a_hostile_root_is_only_read() {
    let tree = Tree::good();
    let outside = tempfile::tempdir().unwrap();
    fs::write(
        outside.path().join("secret"),
        "[Container]\nImage=quay.io/evil:1\n",
    )
    .unwrap();
    let secret = outside.path().join("secret");
    symlink(&secret, tree.path(UNITS).join("x.container")).unwrap();
    symlink("/proc/self/environ", tree.path(UNITS).join("y.container")).unwrap();
    fs::remove_file(tree.path("usr/share/containers/storage.conf")).unwrap();
    symlink(&secret, tree.path("usr/share/containers/storage.conf")).unwrap();
    fs::create_dir_all(tree.path(OURS)).unwrap();
    symlink("/a", tree.path(OURS).join("new\nline\x1b[2J.image")).unwrap();
    let findings = tree.lint();
    let shown = format!("{findings:?}");
    assert!(
        !shown.contains("evil") && !shown.contains("\x1b"),
        "{shown}"
    );
    let rules: Vec<_> = findings.iter().map(|one| one.rule).collect();
    assert_eq!(rules, [Rule::Unreadable, Rule::StorageConf]);
}

#[test]
fn folders_without_end_are_told() {
    let tree = Tree::good();
    for n in 0..300 {
        fs::create_dir_all(tree.path(UNITS).join(n.to_string())).unwrap();
    }
    let findings = tree.lint();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].rule, Rule::Unreadable);
    assert!(findings[0].message.contains("more than 256 folders"));
}

#[test]
fn sarif_is_what_its_specification_says() {
    let tree = Tree::good();
    tree.bind("b c.container", "[Container]\nImage=quay.io/a/b:1\n");
    fs::remove_dir(tree.path("usr/lib/containers/storage")).unwrap();
    let document = sarif(&tree.lint());
    assert_eq!(document["version"], "2.1.0");
    let run = &document["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), Rule::ALL.len());
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert_eq!(result["level"], "error");
        assert!(result["message"]["text"].as_str().unwrap().contains('\n'));
    }
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["region"]["startLine"], 2);
    let uri = "usr/share/containers/systemd/b%20c.container";
    assert_eq!(place["artifactLocation"]["uri"], uri);
    assert_eq!(place["artifactLocation"]["uriBaseId"], "ROOT");
    assert!(results[1].get("locations").is_none());
}
