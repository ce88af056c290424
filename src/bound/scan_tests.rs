use std::{
    ffi::OsStr,
    fs::{self, File},
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::symlink},
    },
    path::PathBuf,
    process::Command,
};

use super::*;

const BOOTC: &str = BOUND_IMAGE_DIRS[0];
const OURS: &str = BOUND_IMAGE_DIRS[1];
const UNITS: &str = "usr/share/containers/systemd";

/// A deployment's root, one level below a directory it must not get out to.
struct Tree {
    outer: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Self {
            outer: tempfile::tempdir().unwrap(),
        };
        for dir in [BOOTC, OURS, UNITS] {
            fs::create_dir_all(tree.path(dir)).unwrap();
        }
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.outer.path().join("root").join(path)
    }

    fn link(&self, dir: &str, name: &str, target: &str) {
        symlink(target, self.path(dir).join(name)).unwrap();
    }

    /// Writes a unit and links it, absolutely, under the same name.
    fn bind(&self, dir: &str, name: &str, text: &str) {
        let unit = format!("{UNITS}/{}-{name}", dir.len());
        fs::write(self.path(&unit), text).unwrap();
        self.link(dir, name, &format!("/{unit}"));
    }

    fn scan(&self) -> Result<Scan, ScanError> {
        scan(File::open(self.path("")).unwrap().as_fd())
    }

    fn names(&self) -> Vec<String> {
        let scan = self.scan().unwrap();
        scan.images.iter().map(|i| i.name.to_string()).collect()
    }

    /// The lines of the error; each must hold its text.
    fn expect(&self, lines: &[&str]) {
        let error = self.scan().unwrap_err();
        let text = error.to_string();
        assert_eq!(text.lines().count(), lines.len(), "{text}");
        assert_eq!(error.problems().len(), lines.len());
        for (line, part) in text.lines().zip(lines) {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
    }
}

/// bootc's test of this name, with all its cases.
#[test]
fn test_parse_spec_dir() {
    let empty = tempfile::tempdir().unwrap();
    let root = File::open(empty.path()).unwrap();
    assert_eq!(scan(root.as_fd()).unwrap(), Scan::default());

    let tree = Tree::new();
    assert_eq!(tree.scan().unwrap(), Scan::default());

    for name in ["foo", "bar"] {
        let unit = format!("{UNITS}/{name}.image");
        let text = format!("[Image]\nImage=quay.io/{name}/{name}:latest\n");
        fs::write(tree.path(&unit), text).unwrap();
        tree.link(BOOTC, &format!("{name}.image"), &format!("/{unit}"));
    }
    assert_eq!(
        tree.names(),
        ["quay.io/bar/bar:latest", "quay.io/foo/foo:latest"]
    );

    tree.link(BOOTC, "blah.image", "./blah");
    tree.expect(&["bound-images.d/blah.image -> ./blah: open"]);
    fs::remove_file(tree.path(BOOTC).join("blah.image")).unwrap();

    fs::write(tree.path("error.image"), "[Image]\n").unwrap();
    tree.link(BOOTC, "error.image", "/error.image");
    tree.expect(&["bound-images.d/error.image -> /error.image:1: [Image] has no Image="]);
}

#[test]
fn both_directories_in_the_order_of_names() {
    let tree = Tree::new();
    tree.bind(OURS, "a.container", "[Container]\nImage=quay.io/z/z:1\n");
    tree.bind(BOOTC, "z.image", "[Image]\nImage=quay.io/a/a:1\n");
    tree.bind(BOOTC, "y.image", "[Image]\n\nImage=quay.io/z/z:1\n");
    // the same entry in both, the same image
    tree.bind(OURS, "z.image", "[Image]\nImage=quay.io/a/a:1\n");
    let scan = tree.scan().unwrap();
    assert_eq!(scan.warnings, []);
    let seen: Vec<_> = scan
        .images
        .iter()
        .map(|image| {
            let origins: Vec<_> = image.origins.iter().map(ToString::to_string).collect();
            (image.name.to_string(), origins)
        })
        .collect();
    let origin = |dir: &str, name: &str, line: u8| {
        format!("{dir}/{name} -> /{UNITS}/{}-{name}:{line}", dir.len())
    };
    assert_eq!(
        seen,
        [
            (
                "quay.io/a/a:1".to_owned(),
                vec![origin(BOOTC, "z.image", 2), origin(OURS, "z.image", 2)]
            ),
            (
                "quay.io/z/z:1".to_owned(),
                vec![origin(BOOTC, "y.image", 3), origin(OURS, "a.container", 2)]
            ),
        ]
    );
    assert!(scan.images.iter().all(|image| image.source.is_none()));
    assert_eq!(tree.scan().unwrap(), scan);
}

#[test]
fn one_entry_name_for_two_images() {
    let tree = Tree::new();
    tree.bind(BOOTC, "a.image", "[Image]\nImage=quay.io/a/a:1\n");
    tree.bind(OURS, "a.image", "[Image]\nImage=quay.io/a/a:2\n");
    tree.expect(&["of the same name binds quay.io/a/a:2"]);
}

#[test]
fn only_links_named_like_units() {
    let tree = Tree::new();
    tree.bind(BOOTC, "good.image", "[Image]\nImage=quay.io/a/a:1\n");
    let dir = tree.path(BOOTC);
    fs::write(dir.join("file.image"), "[Image]\nImage=quay.io/a/a:1\n").unwrap();
    fs::create_dir(dir.join("dir.container")).unwrap();
    let good = format!("/{UNITS}/28-good.image");
    for name in ["kube.kube", "plain", ".image", "image.image.bak"] {
        symlink(&good, dir.join(name)).unwrap();
    }
    symlink(&good, dir.join(OsStr::from_bytes(b"no\xffutf8.image"))).unwrap();
    symlink(&good, dir.join("new\nline\x1b[2J")).unwrap();
    tree.expect(&[
        ".image: the name ends neither in .image nor in .container",
        "dir.container: not a symbolic link",
        "file.image: not a symbolic link",
        "image.image.bak: the name ends",
        "kube.kube: the name ends",
        "new\\nline\\u{1b}[2J: the name ends",
        "utf8.image: the name is not UTF-8",
        "plain: the name ends",
    ]);
}

#[test]
fn links_resolve_inside_the_root_only() {
    let tree = Tree::new();
    let unit = "[Image]\nImage=quay.io/evil/out:1\n";
    fs::write(tree.outer.path().join("secret.image"), unit).unwrap();
    let outside = tree.outer.path().join("secret.image");
    tree.link(BOOTC, "a.image", outside.to_str().unwrap());
    tree.link(BOOTC, "b.image", "../../../../../secret.image");
    tree.link(BOOTC, "c.image", "../../../../../../../../etc/passwd");
    tree.link(BOOTC, "d.image", "/proc/self/fd/0");
    tree.link(BOOTC, "e.image", "e.image");
    tree.link(BOOTC, "f.image", "/loop/x");
    symlink("/loop", tree.path("loop")).unwrap();
    tree.link(BOOTC, "g.image", "nowhere.image");
    tree.expect(&[
        "a.image -> /",
        "b.image -> ../../../../../secret.image: open",
        "etc/passwd: open",
        "/proc/self/fd/0: open",
        "e.image -> e.image: open",
        "/loop/x: open",
        "nowhere.image: open",
    ]);

    // The same links are good where the root has such files.
    let tree = Tree::new();
    fs::create_dir(tree.path("etc")).unwrap();
    fs::write(tree.path("etc/passwd"), "[Image]\nImage=quay.io/in/abs:1\n").unwrap();
    tree.link(BOOTC, "a.image", "/etc/passwd");
    tree.link(BOOTC, "b.image", "../../../../../../../../etc/passwd");
    tree.link(BOOTC, "c.image", "a.image");
    fs::write(
        tree.path(UNITS).join("x"),
        "[Image]\nImage=quay.io/in/rel:1\n",
    )
    .unwrap();
    tree.link(OURS, "d.image", "../../../share/containers/systemd/x");
    assert_eq!(tree.names(), ["quay.io/in/abs:1", "quay.io/in/rel:1"]);
}

#[test]
fn the_directory_may_be_a_link_but_not_to_nowhere() {
    let tree = Tree::new();
    tree.bind(BOOTC, "a.image", "[Image]\nImage=quay.io/a/a:1\n");
    fs::remove_dir(tree.path(OURS)).unwrap();
    symlink(format!("/{BOOTC}"), tree.path(OURS)).unwrap();
    let scan = tree.scan().unwrap();
    assert_eq!(scan.images.len(), 1);
    assert_eq!(scan.images[0].origins.len(), 2);

    fs::remove_file(tree.path(OURS)).unwrap();
    symlink("/nowhere", tree.path(OURS)).unwrap();
    tree.expect(&["open directory usr/lib/boundstore/bound-images.d: No such file"]);
    fs::remove_file(tree.path(OURS)).unwrap();
    fs::write(tree.path(OURS), "").unwrap();
    tree.expect(&["open directory usr/lib/boundstore/bound-images.d: Not a directory"]);
}

#[test]
fn only_small_regular_files() {
    let tree = Tree::new();
    let unit = "[Image]\nImage=quay.io/a/a:1\n";
    let pad = |bytes: usize| format!("{unit}#{}", "x".repeat(bytes - unit.len() - 1));
    tree.bind(BOOTC, "limit.image", &pad(1 << 20));
    assert_eq!(tree.names(), ["quay.io/a/a:1"]);

    tree.bind(BOOTC, "over.image", &pad((1 << 20) + 1));
    tree.link(BOOTC, "dir.image", "/usr");
    tree.link(BOOTC, "fifo.container", "/fifo");
    let made = Command::new("mkfifo").arg(tree.path("fifo")).status();
    assert!(made.unwrap().success());
    tree.expect(&[
        "/usr: usr/lib/bootc/bound-images.d/dir.image is a directory, not a regular file",
        "is a fifo, not a regular file",
        "is larger than 1048576 bytes",
    ]);
}

#[test]
fn all_problems_at_once_with_their_lines() {
    let tree = Tree::new();
    for (name, text) in [
        (
            "a.image",
            "[Image]\nImage=quay.io/a/a:1\n[Image]\nAuthFile=/x\n",
        ),
        ("b.container", "[Container]\n#\nImage=quay.io/a/a:%i\n"),
        ("c.container", "[Container]\nImage=c.build\n"),
        ("d.image", "[Image]\nImage=quay.io/a/\\\n a:1\n"),
        ("e.image", "[Image]\nImage quay.io/a/a\n"),
        ("f.image", "[Image]\nImage=docker://quay.io/a/a\n"),
        ("g.image", "[Image]\nImage=quay.io/good/good:1\n"),
    ] {
        tree.bind(BOOTC, name, text);
    }
    tree.bind(OURS, "h.image", "[Image]\n\n\nImage=quay.io/a/a:1%\n");
    tree.bind(
        OURS,
        "i.image",
        "\u{feff}\r\n[Image]\r\nImage=quay.io/UP\r\n",
    );
    tree.link(OURS, "j.image", "nowhere");
    tree.expect(&[
        "a.image:4: AuthFile= is not supported",
        "b.container:3: systemd specifiers are not supported: \"%i\"",
        "c.container:2: \"c.build\" refers to another unit",
        "d.image:2: \"quay.io/a/  a:1\" is no image name",
        "e.image:2: neither a comment",
        "f.image:2: \"docker://quay.io/a/a\" begins with a transport",
        "h.image:4: unterminated %",
        "i.image:3: \"quay.io/UP\" is no image name: the repository must be lower-case",
        "j.image -> nowhere: open",
    ]);
}

#[test]
fn short_names_are_warnings() {
    let tree = Tree::new();
    tree.bind(BOOTC, "a.image", "[Image]\n\nImage=alpine\n");
    tree.bind(BOOTC, "b.image", "[Image]\nImage=localhost/x\n");
    let scan = tree.scan().unwrap();
    assert_eq!(scan.warnings.len(), 1);
    assert_eq!(
        scan.warnings[0].to_string(),
        "usr/lib/bootc/bound-images.d/a.image -> /usr/share/containers/systemd/28-a.image:3: \
         \"alpine\" is a short name, taken for docker.io/library/alpine:latest; write the full name"
    );
    let scan = scan
        .with_command_line(["busybox=oci:/x", "quay.io/a"])
        .unwrap();
    assert_eq!(scan.images.len(), 4);
    assert!(
        scan.warnings[1]
            .to_string()
            .starts_with("--image: \"busybox\"")
    );
}

#[test]
fn the_command_line_adds_and_does_not_override() {
    let tree = Tree::new();
    tree.bind(BOOTC, "a.image", "[Image]\nImage=quay.io/a/a:1\n");
    let scan = tree.scan().unwrap();
    let with = |arguments: &[&str]| scan.clone().with_command_line(arguments);

    let images = with(&["quay.io/a/a:1=oci:/x", "quay.io/0:1"])
        .unwrap()
        .images;
    assert_eq!(images.len(), 2);
    assert_eq!(images[0].origins, [Origin::CommandLine]);
    assert_eq!(images[1].source.as_deref(), Some("oci:/x"));
    assert_eq!(images[1].origins.len(), 2);
    assert_eq!(with(&[]).unwrap(), scan);

    let error = with(&[
        "quay.io/A",
        "quay.io/a/a:1=oci:/x",
        "b=",
        "quay.io/a/a:1=oci:/y",
    ]);
    let error = error.unwrap_err().to_string();
    assert_eq!(error.lines().count(), 3, "{error}");
    assert!(
        error.contains("two values for source: \"oci:/x\""),
        "{error}"
    );
}

#[test]
fn our_folder_takes_files_lists_and_drop_ins_beside_them() {
    let tree = Tree::new();
    let write = |name: &str, text: &str| fs::write(tree.path(OURS).join(name), text).unwrap();
    fs::create_dir(tree.path(OURS).join("a.container.d")).unwrap();
    write("a.container", "[Container]\nImage=quay.io/a/a:1\n");
    write("a.container.d/1.conf", "[Container]\nImage=b.image\n");
    write(
        "b.image",
        "[Image]\nImage=quay.io/a/b:1\nAuthFile=/etc/b.json\n",
    );
    write(
        "50-c.toml",
        "images = [\n  \"quay.io/a/c:1\",\n  \"quay.io/a/d:1\",\n]\n",
    );
    tree.link(OURS, "e.toml", "50-c.toml");
    let scan = tree.scan().unwrap();
    let seen: Vec<_> = scan
        .images
        .iter()
        .map(|image| {
            let origins: Vec<_> = image.origins.iter().map(ToString::to_string).collect();
            (image.name.to_string(), origins.join(" "))
        })
        .collect();
    let seen: Vec<_> = seen
        .iter()
        .map(|(n, o)| (&n[..], o.replace(OURS, ".")))
        .collect();
    assert_eq!(
        seen,
        [
            (
                "quay.io/a/b:1",
                "./a.container -> /./b.image:2 ./b.image:2".to_owned()
            ),
            (
                "quay.io/a/c:1",
                "./50-c.toml:2 ./e.toml -> 50-c.toml:2".to_owned()
            ),
            (
                "quay.io/a/d:1",
                "./50-c.toml:3 ./e.toml -> 50-c.toml:3".to_owned()
            ),
        ]
    );
    let auth_file = Some(PathBuf::from("/etc/b.json"));
    assert_eq!(scan.images[0].settings.auth_file, auth_file);
}

#[test]
fn our_folder_refuses_what_binds_nothing() {
    let tree = Tree::new();
    let dir = tree.path(OURS);
    for folder in ["x.container.d", "container.d", "x.conf.d", "x.image"] {
        fs::create_dir(dir.join(folder)).unwrap();
    }
    for (name, text) in [
        ("README", "x"),
        ("a.network", "[Network]\n"),
        ("b.build", "[Build]\nImageTag=localhost/b\n"),
        ("c.toml", "images = []\n"),
        ("d.toml", "images = [\n\"quay.io/A\",\n\"oci:x\"]\n"),
        ("e.toml", "image = 1\n"),
        ("f.kube", "[Kube]\nYaml=f.yml\n"),
        ("g.container", "[Container]\nImage=../b.image\n"),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
    fs::write(tree.path(UNITS).join("f.yml"), "kind: Pod\n---\na: [\n").unwrap();
    tree.bind(
        OURS,
        "h.kube",
        "[Kube]\nYaml=f.yml ../../../../../../secret\n",
    );
    tree.expect(&[
        "README: the name is none of",
        "a.network: the name is none of",
        "b.build:1: a .build makes its image on the host",
        "c.toml:1: it names no image: its list is empty",
        "d.toml:2: \"quay.io/A\" is no image name",
        "d.toml:3: \"oci:x\" begins with a transport",
        "e.toml:1: unknown field `image`",
        "f.kube -> /usr/lib/boundstore/bound-images.d/f.yml: open",
        "g.container:2: there is no \"../b.image\" in its folder, nor in etc/containers/systemd",
        "h.kube -> /usr/share/containers/systemd/f.yml:3: no YAML",
        "x.conf.d: a folder; only those of drop-ins",
        "x.image: a folder; only those of drop-ins",
    ]);
}

#[test]
fn drop_ins_and_manifests_stay_inside_the_root() {
    let tree = Tree::new();
    let outside = tree.outer.path();
    fs::create_dir(outside.join("a.container.d")).unwrap();
    let drop_in = "[Container]\nImage=quay.io/evil/out:1\n";
    fs::write(outside.join("a.container.d/1.conf"), drop_in).unwrap();
    fs::write(
        outside.join("p.yml"),
        "kind: Pod\nspec: {containers: [{image: evil}]}\n",
    )
    .unwrap();
    let unit = tree.path(UNITS).join("a.container");
    fs::write(&unit, "[Container]\nImage=quay.io/a/a:1\n").unwrap();
    tree.link(
        OURS,
        "a.container",
        "/usr/share/containers/systemd/a.container",
    );
    tree.link(
        UNITS,
        "a.container.d",
        outside.join("a.container.d").to_str().unwrap(),
    );
    assert_eq!(tree.names(), ["quay.io/a/a:1"]);
    fs::remove_file(tree.path(UNITS).join("a.container.d")).unwrap();
    symlink(
        "../../../../../a.container.d",
        tree.path(UNITS).join("a.container.d"),
    )
    .unwrap();
    assert_eq!(tree.names(), ["quay.io/a/a:1"]);

    fs::create_dir(tree.path(UNITS).join("container.d")).unwrap();
    tree.link(
        UNITS,
        "container.d/1.conf",
        "../../../../../../a.container.d/1.conf",
    );
    tree.link(UNITS, "container.d/2.conf", "/dev/zero");
    tree.expect(&["a.container -> /usr/share/containers/systemd/container.d/1.conf: open"]);
    fs::remove_file(&unit).unwrap();
    fs::remove_file(tree.path(OURS).join("a.container")).unwrap();
    tree.bind(OURS, "p.kube", "[Kube]\nYaml=/../../../p.yml\n");
    tree.expect(&["p.kube -> /p.yml: open p.yml: No such file"]);
}

#[test]
fn settings_of_one_image_must_agree() {
    let tree = Tree::new();
    tree.bind(
        OURS,
        "a.image",
        "[Image]\nImage=quay.io/a/a:1\nArch=arm64\n",
    );
    tree.bind(
        OURS,
        "b.image",
        "[Image]\nImage=quay.io/a/a:1\nTLSVerify=no\n",
    );
    let scan = tree.scan().unwrap();
    let settings = &scan.images[0].settings;
    assert_eq!(settings.tls_verify, Some(false));
    assert_eq!(settings.platform, Some("linux/arm64".parse().unwrap()));
    tree.bind(
        OURS,
        "c.image",
        "[Image]\nImage=quay.io/a/a:1\nArch=s390x\n",
    );
    tree.expect(&["two values for platform: \"linux/arm64\""]);
}
