//! A Containerfile as those who build host images write it: buildah runs it on
//! a Debian root, `lint` and `lock` run in it, and what it makes is synced,
//! mounted and run by podman.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use common::{
    Scratch, battery, boundstore::Boundstore, describe, fixtures, image::Image,
    ordinary_user::OrdinaryUser, output, podman::Podman, project, ready, text,
};

const NAME: &str = "registry.test/app:1";
const STORE: &str = "/usr/lib/containers/storage";

/// podman in the root `$1`, with its state in `$2`, which lies on a disk: crun wants
/// a root that is a mount point, and no cgroup hierarchy of two kinds.
const IN_ROOT: &str = r#"set -e
root=$1 home=$2; shift 2
mount --rbind "$root" "$root"
mkdir -p "$root$home"; mount --bind "$home" "$root$home"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
exec chroot "$root" podman "$@"
"#;

/// A folder that buildah builds in, and a store of its own.
struct Build {
    scratch: Scratch,
}

impl Build {
    fn new() -> Self {
        let build = Self {
            scratch: Scratch::new(),
        };
        let context = build.scratch.dir("context");
        // A Debian root with podman.
        let cache = fixtures().parent().unwrap().to_owned();
        let host = fs::read_dir(&cache)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let is_it = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("host-") && name.ends_with(".tar")
        };
        let host = { host }.find(is_it).unwrap();
        fs::hard_link(&host, context.join("root.tar"))
            .or_else(|_| fs::copy(&host, context.join("root.tar")).map(drop))
            .unwrap();
        // What `make install` puts there, without building it once more.
        let program = Path::new(env!("CARGO_BIN_EXE_boundstore"));
        let mut install = Command::new("make");
        install.current_dir(project()).args(["-o", "setup"]);
        let destination = format!("DESTDIR={}", context.join("installed").display());
        let binary = format!("BINARY={}", program.display());
        text(install.args(["--silent", "install", "CARGO=true", &destination, &binary]));
        // And the libraries it is linked with, which a host image has anyway.
        let libraries = text(Command::new("ldd").arg(program));
        for library in libraries
            .split_whitespace()
            .filter(|word| word.starts_with("/lib"))
        {
            let to = context.join("installed").join(format!("usr{library}"));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(library, to).unwrap();
        }
        fs::write(
            context.join("app.container"),
            format!("[Container]\nImage={NAME}\nNetwork=none\nPull=never\n"),
        )
        .unwrap();
        fs::write(
            context.join("policy.json"),
            r#"{"default": [{"type": "reject"}]}"#,
        )
        .unwrap();
        fs::write(
            context.join("accept.json"),
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        let app = Image::read(&fixtures().join("app-small"), "v1");
        let to = format!("oci:{}:{NAME}", build.images().display());
        app.copy_to(&to);
        build
    }

    /// A layout with the image under the name that it is bound by.
    fn images(&self) -> PathBuf {
        self.scratch.join("images")
    }

    fn buildah(&self) -> Command {
        let mut buildah = Command::new("buildah");
        for (option, folder) in [("--root", "graph"), ("--runroot", "run")] {
            buildah.arg(option).arg(self.scratch.dir(folder));
        }
        buildah.args(["--storage-driver", "overlay"]);
        buildah
    }

    /// The root's own podman, in a chroot, finds the app and runs it.
    #[track_caller]
    fn runs_in(&self, root: &Path) {
        let home = self.scratch.join("podman");
        let podman = Podman::new(home.clone(), Some(Path::new(STORE)));
        let run = |args: &[&str]| {
            let mut command = podman.tool("unshare");
            command.args(["--mount", "sh", "-c", IN_ROOT, "sh"]);
            text(command.args([root, &home]).args(args))
        };
        let listed = run(&[
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}}|{{.ReadOnly}}",
        ]);
        assert_eq!(listed, format!("{NAME}|true\n"));
        let said = run(&["run", "--rm", NAME, "/bin/sh", "/app/hello"]);
        assert_eq!(said, "hello from v1\n");
    }

    /// Builds `host:TAG`, whose last steps are `steps`.
    fn build(&self, tag: &str, steps: &str) -> (Command, Output) {
        self.build_of(
            tag,
            &format!(
                "FROM scratch\n\
                 ADD root.tar /\n\
                 COPY installed /\n\
                 COPY app.container /usr/share/containers/systemd/\n\
                 COPY accept.json /tmp/accept.json\n\
                 RUN mkdir -p /usr/lib/boundstore/bound-images.d /usr/share/containers /etc/containers\n\
                 RUN cp /usr/share/containers/storage.conf.d/50-boundstore.conf /etc/containers/storage.conf\n\
                 RUN ln -s /usr/share/containers/systemd/app.container /usr/lib/boundstore/bound-images.d/\n\
                 {steps}"
            ),
        )
    }

    /// Builds `host:TAG` of a whole Containerfile.
    fn build_of(&self, tag: &str, containerfile: &str) -> (Command, Output) {
        self.build_with(&[], tag, containerfile)
    }

    fn build_with(&self, options: &[&str], tag: &str, containerfile: &str) -> (Command, Output) {
        let file = self.scratch.join(format!("Containerfile.{tag}"));
        fs::write(&file, containerfile).unwrap();
        let mut buildah = self.buildah();
        buildah.args([
            "build",
            "--isolation",
            "chroot",
            "--network",
            "host",
            "--layers=false",
        ]);
        buildah.args(options);
        buildah
            .arg("--volume")
            .arg(format!("{}:/images:ro", self.images().display()));
        buildah.arg("--tag").arg(format!("localhost/host:{tag}"));
        buildah
            .arg("--file")
            .arg(&file)
            .arg(self.scratch.join("context"));
        let output = output(&mut buildah);
        (buildah, output)
    }
}

/// The layers of apps in a host image: the store that `make install` made lies in
/// a layer below, and gives way.
#[test]
fn embedded_in_a_build_podman_runs_it_from_the_built_root() {
    if !ready(&[battery::TOOLS, &["buildah", "make", "ldd", "setpriv"]].concat()) {
        return;
    }
    let build = Build::new();
    let options = "--from oci:/images --policy /tmp/accept.json --spool /tmp/spool";
    let (command, locked) = build.build("locked", &format!("RUN boundstore lock {options}\n"));
    assert!(locked.status.success(), "{}", describe(&command, &locked));
    let containerfile = format!(
        "FROM localhost/host:locked\n\
         RUN boundstore embed --hardlink --output /usr/lib/containers/storage {options}\n\
         RUN boundstore embed --tar /tmp/store.tar {options} && sha256sum /tmp/store.tar\n"
    );
    // The image has devices, which a build cannot make just so.
    let (command, refused) = build.build_of("refused", &containerfile);
    let said = describe(&command, &refused);
    assert!(!refused.status.success(), "{said}");
    for words in ["--cap-add CAP_MKNOD", "layer tar", "diff/dev/"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let mknod = ["--cap-add", "CAP_MKNOD"];
    let (command, built) = build.build_with(&mknod, "embedded", &containerfile);
    let said = describe(&command, &built);
    assert!(built.status.success(), "{said}");
    let of_build = said
        .lines()
        .find_map(|line| line.strip_suffix("  /tmp/store.tar"))
        .unwrap_or_else(|| panic!("{said}"));

    // As a user with no privilege, of this machine: the same layer.
    let user = OrdinaryUser::new();
    user.bring(&build.images(), "images");
    user.accept("accept.json");
    let mut embed = user.command(&format!(
        "embed --tar store.tar --spool spool --policy accept.json --image {NAME}=oci:images:{NAME}"
    ));
    text(&mut embed);
    let of_user = text(Command::new("sha256sum").arg(user.join("store.tar")));
    assert_eq!(of_user.split_whitespace().next(), Some(of_build));

    let mut from = build.buildah();
    let container = text(from.args(["from", "--pull-never", "localhost/host:embedded"]));
    let mut mounted = build.buildah();
    let root = text(mounted.args(["mount", container.trim()]));
    build.runs_in(Path::new(root.trim()));
    for args in [vec!["umount", container.trim()], vec!["rm", "--all"]] {
        text(build.buildah().args(args));
    }
}

#[test]
fn a_floating_tag_fails_the_build_and_a_locked_one_runs() {
    if !ready(&[battery::TOOLS, &["buildah", "make", "ldd"]].concat()) {
        return;
    }
    let build = Build::new();
    let (command, failed) = build.build("floating", "RUN boundstore lint\n");
    let said = describe(&command, &failed);
    assert!(!failed.status.success(), "{said}");
    for words in [
        "app.container:2: error",
        "[floating-tag]",
        "boundstore lock",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let lock =
        "RUN boundstore lock --from oci:/images --policy /tmp/accept.json --spool /tmp/spool\n";
    let steps = format!(
        "{lock}RUN boundstore lint\n\
         RUN boundstore lock --check --from oci:/images --policy /tmp/accept.json --spool /tmp/spool\n"
    );
    let (command, built) = build.build("locked", &steps);
    assert!(built.status.success(), "{}", describe(&command, &built));

    let mut from = build.buildah();
    let container = text(from.args(["from", "--pull-never", "localhost/host:locked"]));
    let mut mounted = build.buildah();
    let root = text(mounted.args(["mount", container.trim()]));
    let root = Path::new(root.trim());
    let host = Boundstore::new(&build.scratch, "repo");
    // The lock file vouches for the image: the host's policy need not.
    let rejects = build.scratch.join("context/policy.json");
    let synced = host.json(&format!(
        "sync --locked --deployment d --root {} --from oci:{} --policy {} --spool {}",
        root.display(),
        build.images().display(),
        rejects.display(),
        build.scratch.join("spool").display()
    ));
    assert_eq!(synced["images"][0]["name"], NAME);
    let store = root.join("usr/lib/containers/storage");
    host.mount("d", &store);
    build.runs_in(root);
    host.ok(&format!("umount --lazy {}", store.display()));
    for args in [vec!["umount", container.trim()], vec!["rm", "--all"]] {
        text(build.buildah().args(args));
    }
}
