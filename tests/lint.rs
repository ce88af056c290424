//! `boundstore lint` as a Containerfile and CI run it.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/layout.rs"]
mod layout;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use common::{
    Scratch, battery, boundstore::Boundstore, describe, fixtures, image::Image, output,
    podman::Podman, project, ready,
};
use layout::{LayerBlob, Layout, tar};
use serde_json::Value;

const OURS: &str = "usr/lib/boundstore/bound-images.d";
const UNITS: &str = "usr/share/containers/systemd";
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A root of a host image that lacks nothing and binds `image`.
fn root(scratch: &Scratch, image: &str) -> std::path::PathBuf {
    let root = scratch.dir("root");
    for (path, text) in [
        ("usr/bin/boundstore", ""),
        ("usr/lib/systemd/system-generators/boundstore-generator", ""),
        ("usr/lib/containers/storage/.keep", ""),
        (
            "etc/containers/storage.conf",
            &fs::read_to_string(project().join("dist/storage.conf")).unwrap(),
        ),
        (
            &format!("{UNITS}/app.container"),
            &format!("[Container]\n# the app\nImage={image}\n"),
        ),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::create_dir_all(root.join(OURS)).unwrap();
    let link = root.join(OURS).join("app.container");
    symlink("../../../share/containers/systemd/app.container", link).unwrap();
    root
}

/// Runs it; what it wrote.
#[track_caller]
fn lint(code: i32, root: &Path, args: &[&str]) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boundstore"));
    command.args(["lint", "--root"]).arg(root).args(args);
    exits(code, &mut command)
}

#[track_caller]
fn exits(code: i32, command: &mut Command) -> (String, String) {
    let output = output(command);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}",
        describe(command, &output)
    );
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn a_floating_tag_fails_until_it_is_pinned_locked_or_allowed() {
    let scratch = Scratch::new();
    let root = root(&scratch, "quay.io/org/app:1");
    let (said, _) = lint(3, &root, &[]);
    let expected = "\
usr/share/containers/systemd/app.container:3: error: quay.io/org/app:1 is a tag, which can mean another image tomorrow [floating-tag]
    write NAME@sha256:DIGEST, or lock it with `boundstore lock`
1 error, 0 warnings, 0 notes
";
    assert_eq!(said, expected);

    let (said, _) = lint(0, &root, &["--allow", "floating-tag"]);
    assert_eq!(said, "0 errors, 0 warnings, 0 notes, 1 allowed\n");
    let config = root.join("usr/lib/boundstore/config.toml");
    fs::write(&config, "[lint]\nallow = [\"floating-tag\"]\n").unwrap();
    lint(0, &root, &[]);
    fs::write(&config, "[lint]\n\nallow = [\"floating\"]\n").unwrap();
    let (said, _) = lint(3, &root, &[]);
    assert!(
        said.starts_with("usr/lib/boundstore/config.toml:3: error: there is no rule"),
        "{said}"
    );
    fs::remove_file(&config).unwrap();

    let mut layout = Layout::new(&scratch.join("layout"));
    layout.image(
        "quay.io/org/app:1",
        &[LayerBlob::gzip(&tar(&[("app", b"app")]))],
    );
    let host = Boundstore::new(&scratch, "repo");
    let at = |name: &str| scratch.join(name).display().to_string();
    host.ok(&format!(
        "lock --root {} --from oci:{} --policy {} --spool {}",
        root.display(),
        at("layout"),
        at("repo-host/policy.json"),
        at("spool")
    ));
    let path = root.join("usr/lib/boundstore/bound-images.lock.json");
    lint(0, &root, &[]);
    fs::remove_file(path).unwrap();
    let unit = format!("[Container]\nImage=quay.io/org/app@{DIGEST}\n");
    fs::write(root.join(UNITS).join("app.container"), unit).unwrap();
    let (said, _) = lint(0, &root, &[]);
    assert_eq!(said, "0 errors, 0 warnings, 0 notes\n");
}

#[test]
fn sarif_and_wrong_usage() {
    let scratch = Scratch::new();
    let root = root(&scratch, "quay.io/org/app:1");
    let (said, _) = lint(3, &root, &["--sarif"]);
    let document: Value = serde_json::from_str(&said).unwrap();
    let result = &document["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "floating-tag");
    let uri = &result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(uri, "usr/share/containers/systemd/app.container");
    let (_, said) = lint(2, &root, &["--sarif", "--json"]);
    assert!(said.contains("--sarif"), "{said}");
    let (_, said) = lint(2, &root, &["--allow", "floating"]);
    assert!(said.contains("the rules are unreadable, "), "{said}");
    let (_, said) = lint(1, &scratch.join("nowhere"), &[]);
    assert!(said.contains("open folder"), "{said}");
}

/// Warnings alone are no failure. The running system's bootc is asked for its
/// version; that of another root is not run.
#[test]
fn the_running_systems_bootc_is_asked() {
    let scratch = Scratch::new();
    let root = root(&scratch, &format!("quay.io/org/app@{DIGEST}"));
    let bootc = root.join("usr/bin/bootc");
    fs::write(&bootc, "#!/bin/sh\ntouch \"$0.ran\"\necho bootc 1.15.2\n").unwrap();
    fs::set_permissions(&bootc, fs::Permissions::from_mode(0o755)).unwrap();
    lint(0, &root, &[]);
    assert!(!root.join("usr/bin/bootc.ran").exists());

    let mut command = Command::new(env!("CARGO_BIN_EXE_boundstore"));
    command.args(["lint", "--host-root"]).arg(&root);
    let (said, _) = exits(0, &mut command);
    assert!(said.starts_with("warning: bootc 1.15 deletes"), "{said}");
    assert!(said.ends_with("0 errors, 1 warning, 0 notes\n"), "{said}");
    fs::write(&bootc, "#!/bin/sh\necho bootc 1.16.0\n").unwrap();
    let (said, _) = exits(0, &mut command);
    assert_eq!(said, "0 errors, 0 warnings, 0 notes\n");
}

#[test]
fn nobody_may_run_it() {
    if !ready(&["setpriv"]) {
        return;
    }
    // Where everybody may go to, unlike the folder of the tests.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("boundstore");
    fs::copy(env!("CARGO_BIN_EXE_boundstore"), &program).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let ours = folder.path().join("root").join(OURS);
    fs::create_dir_all(&ours).unwrap();
    fs::write(ours.join("a.toml"), "images = [\"quay.io/org/app:1\"]\n").unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .args(["lint", "--root"])
        .arg(folder.path().join("root"));
    let (said, _) = exits(3, &mut command);
    assert!(said.contains("a.toml:1: error"), "{said}");
}

/// What the rules say of podman is so.
#[test]
fn podman_does_what_the_rules_say() {
    if !ready(battery::TOOLS) {
        return;
    }
    let scratch = Scratch::new();
    let boundstore = Boundstore::new(&scratch, "repo");
    let name = "localhost/app:1";
    let image = Image::read(&fixtures().join("app-small"), "v1");
    boundstore.sync("one", &[format!("{name}={}", image.source())]);
    let store = scratch.join("store");
    boundstore.mount("one", &store);
    let podman = Podman::new(scratch.join("podman"), Some(&store));
    let runs = |options: &str| {
        let mut command = podman.run_command(&format!("--rm {options}"), name, "ls -d /mnt/app");
        let output = output(&mut command);
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said)
    };
    podman.ok(&format!(
        "volume create --driver image --opt image={name} v"
    ));
    let (done, said) = runs("--volume v:/mnt");
    assert!(done, "image volume: {said}");
    for (rule, options) in [
        ("user-namespace", "--volume v:/mnt --uidmap 0:1000:5000"),
        (
            "image-mount",
            &*format!("--mount type=image,source={name},destination=/mnt"),
        ),
        ("pull-policy", "--volume v:/mnt --pull=always"),
    ] {
        let (done, said) = runs(options);
        assert!(!done, "{rule}: {said}");
    }
}
