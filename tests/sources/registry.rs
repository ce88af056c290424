use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use boundstore::source::{
    Access, AuthFile, Failing, FetchStep, SkopeoOptions, SourceError, Sources, Wanted,
};

use crate::{
    host::{Bench, TestRegistry, have, read_layers, run, wanted},
    testing,
};

const TOOLS: [&str; 2] = ["skopeo", "docker-registry"];

fn push(bench: &Bench, registry: &TestRegistry, from: &str, to: &str) -> String {
    let target = format!("docker://{}", registry.name(to));
    let (source, all) = (bench.oci(from), "--all");
    let tls = "--dest-tls-verify=false";
    run(
        "skopeo",
        &[
            "copy",
            "-q",
            all,
            "--preserve-digests",
            tls,
            &source,
            &target,
        ],
    );
    target
}

fn text(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The index is kept as served, and any platform of it can be had, whatever
/// this machine is.
#[test]
fn platforms_are_chosen_from_the_index() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new();
    let registry = TestRegistry::start(bench.dir.path(), None);
    let target = push(&bench, &registry, "localhost/app:1", "app:1");
    let (sources, spool) = (bench.sources(), bench.spool());
    for arch in ["amd64", "arm64"] {
        let wanted = Wanted {
            platform: format!("linux/{arch}").parse().unwrap(),
            ..wanted("quay.io/some/app:1", &target)
        };
        let found = sources.resolve(&wanted).unwrap();
        let (index, bytes) = found.image.index.clone().unwrap();
        assert_eq!(index, bench.digest(0).cast());
        assert_eq!(index.to_string(), testing::digest(&bytes));
        let diff_ids = read_layers(&found, &spool);
        let expected: Vec<_> = testing::layers(arch)
            .iter()
            .map(|tar| testing::digest(tar))
            .collect();
        let diff_ids: Vec<_> = diff_ids.iter().map(ToString::to_string).collect();
        assert_eq!(diff_ids, expected);
        assert!(
            found.image.verdict.contains("accept.json"),
            "{}",
            found.image.verdict
        );
    }
    let none = Wanted {
        platform: "linux/s390x".parse().unwrap(),
        ..wanted("quay.io/some/app:1", &target)
    };
    let error = sources.resolve(&none).unwrap_err();
    assert_eq!(error.failing(), Failing::NotFound);
    assert!(
        text(&error).ends_with("there is linux/amd64, linux/arm64"),
        "{error}"
    );

    // By digest: of the index, of a manifest, by a lock, and of nothing.
    let at = |digest: &str| format!("docker://{}@{digest}", registry.name("app"));
    let by_index = wanted("quay.io/some/app:1", &at(&bench.digest(0).to_string()));
    assert!(sources.resolve(&by_index).unwrap().image.index.is_some());
    let pinned = format!("{}@{}", registry.name("app"), bench.digest(1));
    let by_manifest = Wanted {
        source: None,
        ..wanted(&pinned, &target)
    };
    let found = sources.resolve(&by_manifest).unwrap();
    assert!(found.image.index.is_none());
    assert_eq!(found.image.manifest_digest, bench.digest(1));
    let locked = Wanted {
        locked: Some(bench.digest(1)),
        ..wanted("quay.io/some/app:9", &target)
    };
    let found = sources.resolve(&locked).unwrap();
    assert_eq!(found.image.manifest_digest, bench.digest(1));
    let missing = wanted("quay.io/some/app:1", &at(&testing::digest(b"none")));
    let error = sources.resolve(&missing).unwrap_err();
    assert_eq!(error.failing(), Failing::NotFound, "{error}");
}

#[test]
fn the_policy_is_asked_and_its_no_is_final() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new();
    let registry = TestRegistry::start(bench.dir.path(), None);
    let target = push(&bench, &registry, "localhost/one:1", "one:1");
    let mut options = bench.options();
    options.skopeo.policy = Some(bench.path("reject.json"));
    let sources = Sources::open(&[], options).unwrap();
    let error = sources
        .resolve(&wanted("quay.io/one:1", &target))
        .unwrap_err();
    assert_eq!(error.failing(), Failing::Denied, "{}", text(&error));
    assert!(
        text(&error).contains(&bench.digest(1).to_string()),
        "{}",
        text(&error)
    );
    assert!(text(&error).contains("reject"), "{}", text(&error));

    // Signatures are skopeo's business: an old one's proxy would not look.
    let signed = r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nowhere"}]}"#;
    fs::write(bench.path("signed.json"), signed).unwrap();
    let mut options = bench.options();
    options.skopeo.policy = Some(bench.path("signed.json"));
    let sources = Sources::open(&[], options).unwrap();
    let error = sources
        .resolve(&wanted("quay.io/one:1", &target))
        .unwrap_err();
    assert_eq!(error.failing(), Failing::Denied, "{}", text(&error));

    // Where the options name no policy, the host's is asked, and must be there.
    let mut options = bench.options();
    options.skopeo.policy = None;
    options.policy_paths = vec![bench.path("reject.json")];
    let sources = Sources::open(&[], options).unwrap();
    let resolved = sources.resolve(&wanted("quay.io/one:1", &target));
    let version = String::from_utf8(run("skopeo", &["--version"])).unwrap();
    if version.contains(" 1.9.") {
        assert_eq!(resolved.unwrap_err().failing(), Failing::Denied);
    }
}

/// A registry that wants a login, with one image; its reference, and an
/// auth.json for a login.
fn behind_a_login(bench: &Bench) -> (TestRegistry, String, impl Fn(&str) -> String) {
    let users = run("htpasswd", &["-Bbn", "user", "secret"]);
    fs::write(bench.path("users"), users).unwrap();
    let registry = TestRegistry::start(bench.dir.path(), Some(&bench.path("users")));
    let target = format!("docker://{}", registry.name("one:1"));
    let args = [
        "copy",
        "-q",
        "--preserve-digests",
        "--dest-tls-verify=false",
    ];
    let source = bench.oci("localhost/one:1");
    let creds = ["--dest-creds", "user:secret", &source, &target];
    run("skopeo", &[&args[..], &creds[..]].concat());
    let address = registry.address.clone();
    let auth = move |login: &str| {
        let login = data_encoding::BASE64.encode(login.as_bytes());
        format!(r#"{{"auths":{{"{address}":{{"auth":"{login}"}}}}}}"#)
    };
    (registry, target, auth)
}

#[test]
fn credentials_come_from_the_first_file_that_has_any() {
    if !have(&["skopeo", "docker-registry", "htpasswd"]) {
        return;
    }
    let bench = Bench::new();
    let (_registry, target, auth) = behind_a_login(&bench);
    for (name, content) in [
        ("empty", String::new()),
        ("none", "{}".into()),
        ("no-auths", r#"{"auths":{}}"#.into()),
        ("right", auth("user:secret")),
        ("wrong", auth("user:wrong")),
    ] {
        fs::write(bench.path(name), content).unwrap();
    }
    let resolve = |own: Option<&str>, files: &[&str]| {
        let mut options = bench.options();
        options.skopeo.auth_files = files
            .iter()
            .map(|file| AuthFile::of_host(bench.path(file)))
            .collect();
        let wanted = Wanted {
            access: Access {
                auth_file: own.map(|file| AuthFile::of_host(bench.path(file))),
                ..Access::default()
            },
            ..wanted("quay.io/one:1", &target)
        };
        let found = Sources::open(&[], options).unwrap().resolve(&wanted)?;
        read_layers(&found, &bench.spool());
        Ok::<_, SourceError>(())
    };
    resolve(Some("right"), &[]).unwrap();
    resolve(Some("right"), &["wrong"]).unwrap();
    resolve(
        None,
        &["missing", "empty", "none", "no-auths", "right", "wrong"],
    )
    .unwrap();
    for (own, files) in [
        (None, &["empty"] as &[&str]),
        (Some("wrong"), &["right"]),
        (None, &["wrong", "right"]),
    ] {
        let error = resolve(own, files).unwrap_err();
        assert_eq!(error.failing(), Failing::Unauthorised, "{}", text(&error));
    }
}

/// Links of a deployment's root do not lead to the running host's credentials.
#[test]
fn a_roots_credentials_are_read_inside_it() {
    if !have(&["skopeo", "docker-registry", "htpasswd"]) {
        return;
    }
    let bench = Bench::new();
    let (registry, target, auth) = behind_a_login(&bench);
    fs::write(bench.path("outside.json"), auth("user:secret")).unwrap();
    fs::create_dir_all(bench.path("root/etc/ostree")).unwrap();
    fs::write(bench.path("root/inside.json"), auth("user:secret")).unwrap();
    let in_root = bench.path("root/etc/ostree/auth.json");
    let sync = || {
        let image = format!("{}={target}", registry.name("one:1"));
        let policy = bench.text("accept.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_boundstore"));
        command.args(["--repo", &bench.text("repo"), "sync", "--dry-run"]);
        command.args(["--deployment", "d", "--no-tls-verify", "--retry-for", "0"]);
        command.args(["--root", &bench.text("root"), "--policy", &policy]);
        command
            .args(["--image", &image])
            .env("HOME", bench.path(""));
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said)
    };
    let link = |to: &Path| {
        let _ = fs::remove_file(&in_root);
        symlink(to, &in_root).unwrap();
    };
    link(Path::new("/inside.json"));
    assert_eq!(sync(), (0, String::new()));
    link(Path::new("../../../../inside.json"));
    assert_eq!(sync(), (0, String::new()));
    for outside in [
        "/outside.json",
        "../../../outside.json",
        &bench.text("outside.json"),
    ] {
        link(Path::new(outside));
        let (code, said) = sync();
        assert_eq!(code, 1, "{outside}: {said}");
        assert!(!said.contains("outside.json"), "{said}");
    }
    fs::remove_file(&in_root).unwrap();
    run("mkfifo", &[in_root.to_str().unwrap()]);
    let (code, said) = sync();
    assert_eq!(code, 1);
    assert!(said.contains("etc/ostree/auth.json"), "{said}");
    fs::remove_file(&in_root).unwrap();
    fs::write(&in_root, vec![b' '; 2 << 20]).unwrap();
    let (code, said) = sync();
    assert_eq!(code, 1);
    assert!(said.contains("etc/ostree/auth.json"), "{said}");
}

/// `AuthFile=` and `TLSVerify=` of a unit count for its image, and the file is
/// the deployment's own.
#[test]
fn a_unit_says_how_its_image_is_reached() {
    if !have(&["skopeo", "docker-registry", "htpasswd"]) {
        return;
    }
    let bench = Bench::new();
    let (registry, _, auth) = behind_a_login(&bench);
    let ours = "root/usr/lib/boundstore/bound-images.d";
    fs::create_dir_all(bench.path(ours)).unwrap();
    fs::write(bench.path("root/inside.json"), auth("user:secret")).unwrap();
    fs::write(bench.path("outside.json"), auth("user:secret")).unwrap();
    symlink("../outside.json", bench.path("root/link.json")).unwrap();
    let sync = |keys: &str| {
        let image = registry.name("one:1");
        let unit = format!("[Image]\nImage={image}\n{}\n", keys.replace(' ', "\n"));
        fs::write(bench.path(ours).join("one.image"), unit).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_boundstore"));
        command.args(["--repo", &bench.text("repo"), "sync", "--dry-run"]);
        command.args(["--deployment", "d", "--retry-for", "0"]);
        command.args(["--policy", &bench.text("accept.json")]);
        command.args(["--root", &bench.text("root")]);
        let output = command.env("HOME", bench.path("")).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said)
    };
    let (done, said) = sync("TLSVerify=false AuthFile=/inside.json");
    assert!(done, "{said}");
    let (done, said) = sync("PodmanArgs=--tls-verify=false PodmanArgs=--authfile=/inside.json");
    assert!(done, "{said}");
    for keys in [
        "TLSVerify=true AuthFile=/inside.json",
        "AuthFile=/inside.json",
        "TLSVerify=false",
        "TLSVerify=false AuthFile=/link.json",
        "TLSVerify=false AuthFile=/../outside.json",
        &format!("TLSVerify=false AuthFile={}", bench.text("outside.json")),
    ] {
        let (done, said) = sync(keys);
        assert!(!done, "{keys}: {said}");
    }
}

#[test]
fn fetched_blobs_are_kept_and_damage_is_not() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new();
    let registry = TestRegistry::start(bench.dir.path(), None);
    let target = push(&bench, &registry, "localhost/one:1", "one:1");
    let (sources, spool) = (bench.sources(), bench.spool());
    let found = sources.resolve(&wanted("quay.io/one:1", &target)).unwrap();
    let layers = found.image.layers.clone();
    let total: u64 = layers.iter().map(|layer| layer.blob_size).sum();
    assert!(found.needs_fetch());
    assert_eq!(found.bytes_to_fetch(&[0, 1, 2], Some(&spool)), total);
    let error = found.open_layer(0, Some(&spool)).unwrap_err();
    assert!(
        matches!(error, SourceError::NotFetched { index: 0, .. }),
        "{error}"
    );

    // The last blob is damaged in the registry: the others come and stay.
    let damaged = registry.blob(&layers[2].blob_digest);
    let whole = fs::read(&damaged).unwrap();
    for harm in [
        whole.iter().map(|byte| !byte).collect(),
        whole[..whole.len() / 2].to_vec(),
        [&whole[..], b"more"].concat(),
    ] {
        fs::write(&damaged, harm).unwrap();
        let error = found.fetch(&[0, 1, 2], &spool, &mut |_| {}).unwrap_err();
        assert_eq!(error.failing(), Failing::Corrupt, "{}", text(&error));
        assert_eq!(
            found.bytes_to_fetch(&[0, 1, 2], Some(&spool)),
            layers[2].blob_size
        );
    }
    fs::remove_file(&damaged).unwrap();
    let error = found.fetch(&[2], &spool, &mut |_| {}).unwrap_err();
    assert_eq!(error.failing(), Failing::NotFound, "{}", text(&error));
    fs::write(&damaged, &whole).unwrap();

    let mut steps = Vec::new();
    found
        .fetch(&[2, 0, 1, 2], &spool, &mut |step| steps.push(step))
        .unwrap();
    let reused = steps
        .iter()
        .filter(|step| matches!(step, FetchStep::Reused { .. }));
    assert_eq!(reused.count(), 2);
    let came: u64 = steps
        .iter()
        .map(|step| match step {
            FetchStep::Came { bytes } => *bytes,
            _ => 0,
        })
        .sum();
    assert_eq!(came, layers[2].blob_size);

    // All there: the registry is not needed any more.
    drop(registry);
    read_layers(&found, &spool);
    spool.remove(&layers[0].blob_digest).unwrap();
    let error = found.fetch(&[0], &spool, &mut |_| {}).unwrap_err();
    assert_eq!(error.failing(), Failing::Transient, "{}", text(&error));
    let error = sources
        .resolve(&wanted("quay.io/one:1", &target))
        .unwrap_err();
    assert_eq!(error.failing(), Failing::Transient, "{}", text(&error));
}

/// A registry that serves other bytes than the digest asked for.
#[test]
fn manifests_and_configs_are_hashed() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new();
    let registry = TestRegistry::start(bench.dir.path(), None);
    let target = push(&bench, &registry, "localhost/app:1", "app:1");
    let sources = bench.sources();
    let wanted = wanted("quay.io/app:1", &target);
    let image = sources.resolve(&wanted).unwrap().image;
    for digest in [
        image.config_digest.cast(),
        image.manifest_digest.cast(),
        image.index.as_ref().unwrap().0.cast(),
    ] {
        let path = registry.blob(&digest);
        let bytes = fs::read(&path).unwrap();
        let mut harmed = bytes.clone();
        // White space: still JSON, of the same length, with the same meaning.
        let at = bytes.iter().position(|byte| *byte == b' ');
        match at {
            Some(at) => harmed[at] = b'\n',
            None => harmed[10] ^= 1,
        }
        fs::write(&path, harmed).unwrap();
        let error = sources.resolve(&wanted).unwrap_err();
        assert!(text(&error).contains("docker://"), "{}", text(&error));
        assert_ne!(error.failing(), Failing::Transient, "{}", text(&error));
        fs::write(&path, bytes).unwrap();
    }
    sources.resolve(&wanted).unwrap();
}

#[test]
fn nothing_there_is_told_apart() {
    if !have(&TOOLS) {
        return;
    }
    let bench = Bench::new();
    let registry = TestRegistry::start(bench.dir.path(), None);
    let sources = bench.sources();
    for name in ["none:1", "deep/none:1"] {
        let target = format!("docker://{}", registry.name(name));
        let error = sources
            .resolve(&wanted("quay.io/one:1", &target))
            .unwrap_err();
        assert_eq!(error.failing(), Failing::NotFound, "{}", text(&error));
        assert!(text(&error).contains(name), "{}", text(&error));
    }
}

fn with_program(bench: &Bench, script: &str) -> Sources {
    let program = bench.path("fake-skopeo");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let mut options = bench.options();
    options.skopeo = SkopeoOptions {
        program,
        idle: Duration::from_millis(700),
        ..options.skopeo
    };
    Sources::open(&[], options).unwrap()
}

#[test]
fn a_missing_or_silent_skopeo_is_an_error() {
    let bench = Bench::new();
    let manifest = bench.path("oci/blobs/sha256").join(bench.digest(1).hex());
    let one = wanted("localhost:1/one:1", "docker://localhost:1/one:1");
    let mut options = bench.options();
    options.skopeo.program = "/nowhere/skopeo".into();
    let error = Sources::open(&[], options)
        .unwrap()
        .resolve(&one)
        .unwrap_err();
    assert!(matches!(error, SourceError::NoSkopeo { .. }), "{error}");
    assert!(error.to_string().contains("install skopeo"), "{error}");

    let pid_file = bench.text("pid");
    let hang = format!("echo $$ >{pid_file}; exec sleep 300");
    let inspects = format!(
        "case \"$*\" in *inspect*) cat {};; *) {hang};; esac",
        manifest.display()
    );
    for script in [hang.clone(), inspects] {
        let begun = Instant::now();
        let sources = with_program(&bench, &format!("#!/bin/sh\n{script}\n"));
        let error = sources.resolve(&one).unwrap_err();
        assert!(matches!(error, SourceError::Timeout { .. }), "{error}");
        assert_eq!(error.failing(), Failing::Transient);
        assert!(begun.elapsed() < Duration::from_secs(20));
        // It does not outlive the call.
        let pid = fs::read_to_string(&pid_file).unwrap();
        let gone = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
        };
        while !gone() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{pid} still runs"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    let flood = "#!/bin/sh\nexec head -c 9000000 /dev/zero\n";
    let error = with_program(&bench, flood).resolve(&one).unwrap_err();
    assert!(text(&error).contains("4194304"), "{}", text(&error));
}
