//! Signatures that come with a layout, made by skopeo and checked by it, with
//! no registry in reach.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "../src/source/testing.rs"]
#[allow(dead_code)]
mod testing;

use std::{
    cell::Cell,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use boundstore::source::{Failing, SkopeoOptions, SourceError, SourceOptions, Sources, Wanted};

use common::{
    Scratch, boundstore::Boundstore, describe, image::json_file, output, project, ready,
    registry::Registry, text,
};
use serde_json::{Value, json};
use testing::{Fixture, REF_NAME};

/// What the images are called where they are wanted.
const ONE: &str = "quay.io/test/one:1";
const APP: &str = "quay.io/test/app:1";

/// A host whose `skopeo` checks signatures, and what makes them.
struct Bench {
    scratch: Scratch,
    host: Boundstore,
    skopeo: PathBuf,
    syncs: Cell<usize>,
}

impl Bench {
    fn new() -> Option<Self> {
        if !ready(&["skopeo", "docker-registry", "mmdebstrap"]) {
            return None;
        }
        let skopeo = text(&mut Command::new(project().join("scripts/skopeo")));
        let scratch = Scratch::new();
        fs::write(
            scratch.join("any.json"),
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        testing::usual().write(&scratch.join("plain"));
        let bench = Self {
            host: Boundstore::new(&scratch, "repo"),
            skopeo: skopeo.trim_end().into(),
            scratch,
            syncs: Cell::new(0),
        };
        bench.policy(&json!({"default": [bench.requirement()]}));
        Some(bench)
    }

    fn key(name: &str) -> PathBuf {
        project().join("tests/signing").join(name)
    }

    fn requirement(&self) -> Value {
        json!({"type": "sigstoreSigned", "keyPath": Self::key("right.pub")})
    }

    /// The same, of the identity given.
    fn identity(&self, identity: &Value) -> Value {
        let mut requirement = self.requirement();
        requirement["signedIdentity"] = identity.clone();
        json!({"default": [{"type": "reject"}], "transports": {"docker": {"quay.io/test": [requirement]}}})
    }

    fn policy(&self, policy: &Value) {
        let path = self.scratch.join("repo-host/policy.json");
        fs::write(path, policy.to_string()).unwrap();
    }

    fn copy(&self, arguments: &[&str]) {
        let mut copy = Command::new(&self.skopeo);
        copy.arg("--policy").arg(self.scratch.join("any.json"));
        copy.arg("--registries.d").arg(self.scratch.dir("d"));
        copy.args(["copy", "--quiet", "--all", "--preserve-digests"]);
        copy.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
        text(copy.args(arguments));
    }

    /// A registry with the image `name` of the plain layout as `x:1`, and all
    /// signatures that skopeo makes of it as `identity`.
    fn sign_in_registry(&self, name: &str, identity: &str, home: &Path) -> Registry {
        let registry = Registry::start_at(home, "127.0.0.1:0");
        let address = &registry.address;
        let attach = format!("docker: {{'{address}': {{use-sigstore-attachments: true}}}}\n");
        let attachments = self.scratch.dir("d").join("d.yaml");
        fs::write(&attachments, attach).unwrap();
        let plain = format!("oci:{}:{name}", self.scratch.join("plain").display());
        let pushed = format!("docker://{address}/x:1");
        let (key, passphrase) = (Self::key("right.key"), Self::key("passphrase"));
        self.copy(&[
            "--sign-by-sigstore-private-key",
            key.to_str().unwrap(),
            "--sign-passphrase-file",
            passphrase.to_str().unwrap(),
            "--sign-identity",
            identity,
            &plain,
            &pushed,
        ]);
        fs::remove_file(attachments).unwrap();
        registry
    }

    /// A layout `to` with that image, called `1`, and its signatures. The
    /// registry that they are made in is gone afterwards.
    fn sign(&self, name: &str, identity: &str, to: &str) -> PathBuf {
        let home = self.scratch.dir(&format!("{to}-registry"));
        let registry = self.sign_in_registry(name, identity, &home);
        let address = &registry.address;
        let layout = self.scratch.join(to);
        let tags = home.join("registry/data/docker/registry/v2/repositories/x/_manifests/tags");
        for tag in fs::read_dir(tags).unwrap() {
            let tag = tag.unwrap().file_name().into_string().unwrap();
            let target = format!("oci:{}:{tag}", layout.display());
            self.copy(&[&format!("docker://{address}/x:{tag}"), &target]);
        }
        layout
    }

    /// Syncs `name` from `source` as those of a new deployment; exit status, and what was said on stderr.
    fn sync(&self, name: &str, source: &str) -> (i32, String) {
        self.sync_set(&[format!("{name}={source}")], "")
    }

    /// The same, of many, with more options.
    fn sync_set(&self, images: &[String], options: &str) -> (i32, String) {
        self.syncs.set(self.syncs.get() + 1);
        let args = self.host.sync_args(&self.deployment(), images);
        let mut sync = self.host.command(&format!(
            "{args} --platform linux/amd64 --retry-for 0 {options}"
        ));
        let path = std::env::var_os("PATH").unwrap();
        let folder = self.skopeo.parent().unwrap().to_owned();
        let folders = [folder].into_iter().chain(std::env::split_paths(&path));
        sync.env("PATH", std::env::join_paths(folders).unwrap());
        let found = output(&mut sync);
        let said = String::from_utf8(found.stderr.clone()).unwrap();
        let left: Vec<_> = fs::read_dir(self.scratch.join("repo-host/spool"))
            .into_iter()
            .flatten()
            .collect();
        assert!(left.is_empty(), "{left:?}: {}", describe(&sync, &found));
        (found.status.code().unwrap(), said)
    }

    /// That of the last sync.
    fn deployment(&self) -> String {
        format!("d{}", self.syncs.get())
    }

    /// Syncs `name` from the image `1` of `layout`, which must be accepted; why it is.
    #[track_caller]
    fn accepted(&self, name: &str, layout: &Path) -> String {
        let (code, said) = self.sync(name, &source(layout));
        assert_eq!(code, 0, "{said}");
        let images = self
            .host
            .json(&format!("images --deployment {}", self.deployment()));
        images["images"][0]["verdict"].as_str().unwrap().to_owned()
    }

    /// The same, which must be refused; with what words.
    #[track_caller]
    fn refused(&self, name: &str, layout: &Path, says: &str) {
        let (code, said) = self.sync(name, &source(layout));
        assert_eq!(code, 5, "{said}");
        for says in ["policy.json says sigstoreSigned for", "pin", says] {
            assert!(said.contains(says), "{says:?} is not in {said}");
        }
    }
}

fn source(layout: &Path) -> String {
    format!("oci:{}:1", layout.display())
}

fn sig(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

/// The digests of the plain layout's index and of its amd64 manifest.
fn digests() -> [String; 2] {
    let plain = testing::usual();
    [0, 1].map(|at| plain.entries[at]["digest"].as_str().unwrap().to_owned())
}

/// Changes the entries of a layout's index.json.
fn change_entries(layout: &Path, change: impl FnOnce(&mut Vec<Value>)) {
    let path = layout.join("index.json");
    let mut index = json_file(&path);
    change(index["manifests"].as_array_mut().unwrap());
    fs::write(path, index.to_string()).unwrap();
}

fn name_of(entry: &Value) -> &str {
    entry["annotations"][REF_NAME].as_str().unwrap()
}

/// Puts `bytes` into a layout as a blob; `descriptor` names it from now on.
fn put(layout: &Path, descriptor: &mut Value, bytes: &[u8]) {
    descriptor["digest"] = testing::digest(bytes).into();
    descriptor["size"] = bytes.len().into();
    fs::write(layout.join(Fixture::path(descriptor)), bytes).unwrap();
}

/// Changes the payload of the signature called `tag`, so that all digests fit.
fn change_payload(layout: &Path, tag: &str, change: impl FnOnce(&mut Value)) {
    change_entries(layout, |entries| {
        let entry = entries.iter_mut().find(|entry| name_of(entry) == tag);
        let entry = entry.unwrap();
        let mut manifest = json_file(&layout.join(Fixture::path(entry)));
        let layer = &mut manifest["layers"][0];
        let mut payload = json_file(&layout.join(Fixture::path(layer)));
        change(&mut payload);
        put(layout, layer, payload.to_string().as_bytes());
        put(layout, entry, manifest.to_string().as_bytes());
    });
}

#[test]
fn what_is_rightly_signed_is_accepted() {
    let Some(bench) = Bench::new() else { return };
    let layout = bench.sign("localhost/one:1", ONE, "signed");
    let [_, manifest] = digests();
    let verdict = bench.accepted(ONE, &layout);
    let says = format!(
        "policy.json says sigstoreSigned for all images (default), and skopeo accepts the signature of manifest {manifest} that oci:"
    );
    assert!(verdict.contains(&says), "{verdict}");

    // In an archive, with signatures under full names, and found as a lookaside.
    change_entries(&layout, |entries| {
        for entry in entries {
            let tag = name_of(entry).to_owned();
            let full = format!("quay.io/test/one:{tag}");
            entry["annotations"][REF_NAME] = full.into();
        }
    });
    let archive = bench.scratch.join("signed.tar");
    let mut pack = Command::new("tar");
    text(
        pack.arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&layout)
            .arg("."),
    );
    let packed = format!("oci-archive:{}", archive.display());
    let (code, said) = bench.sync(ONE, &packed);
    assert_eq!(code, 0, "{said}");

    // More requirements: each must hold.
    let accept = json!({"type": "insecureAcceptAnything"});
    bench.policy(&json!({"default": [accept, bench.requirement()]}));
    let (code, said) = bench.sync(ONE, &packed);
    assert_eq!(code, 0, "{said}");
    let mut other = bench.requirement();
    other["keyPath"] = Bench::key("other.pub").to_str().unwrap().into();
    bench.policy(&json!({"default": [bench.requirement(), other]}));
    let (code, said) = bench.sync(ONE, &packed);
    assert_eq!(code, 5, "{said}");
}

/// A manifest's own signature is enough, and so is that of the index it was
/// chosen from; each is checked.
#[test]
fn an_image_of_many_platforms() {
    let Some(bench) = Bench::new() else { return };
    let layout = bench.sign("localhost/app:1", APP, "signed");
    let [index, manifest] = digests();
    let only = |to: &str, kept: Option<&str>| {
        let copy = bench.scratch.join(to);
        text(Command::new("cp").arg("-a").arg(&layout).arg(&copy));
        change_entries(&copy, |entries| {
            let kept = kept.map(sig);
            entries
                .retain(|entry| name_of(entry) == "1" || kept.as_deref() == Some(name_of(entry)));
        });
        copy
    };
    let verdict = bench.accepted(APP, &layout);
    assert!(
        verdict.contains(&format!("manifest {manifest}")),
        "{verdict}"
    );
    let of_manifest = only("of-manifest", Some(&manifest));
    let verdict = bench.accepted(APP, &of_manifest);
    assert!(
        verdict.contains(&format!("manifest {manifest}")),
        "{verdict}"
    );
    let of_index = only("of-index", Some(&index));
    let verdict = bench.accepted(APP, &of_index);
    assert!(verdict.contains(&format!("index {index}")), "{verdict}");

    bench.refused(APP, &only("unsigned", None), &sig(&manifest));
    bench.refused("quay.io/test/app:2", &of_index, "is not accepted");
    change_payload(&of_index, &sig(&index), |payload| {
        payload["optional"] = json!({"a": "b"});
    });
    bench.refused(APP, &of_index, "signature verification failed");
    let signed_index = only("no-other", Some(&index));
    change_entries(&signed_index, |entries| {
        // The index's own signature, said to be the manifest's.
        let entry = entries.iter_mut().find(|entry| name_of(entry) != "1");
        entry.unwrap()["annotations"][REF_NAME] = sig(&manifest).into();
    });
    bench.refused(APP, &signed_index, "does not match");
}

#[test]
fn what_is_not_rightly_signed_is_refused() {
    let Some(bench) = Bench::new() else { return };
    let layout = bench.sign("localhost/one:1", ONE, "signed");
    let [_, manifest] = digests();
    let tag = sig(&manifest);
    let copy = |to: &str| {
        let copy = bench.scratch.join(to);
        text(Command::new("cp").arg("-a").arg(&layout).arg(&copy));
        copy
    };

    // A signature that is there, for another name.
    bench.refused("quay.io/test/one:2", &layout, "is not accepted");
    bench.refused("quay.io/other/one:1", &layout, "is not accepted");

    // None.
    let unsigned = copy("unsigned");
    change_entries(&unsigned, |entries| entries.retain(|e| name_of(e) != tag));
    bench.refused(ONE, &unsigned, &format!("has no {tag}"));

    // A payload that is another, and whose digest fits, or does not.
    let tampered = copy("tampered");
    change_payload(&tampered, &tag, |payload| {
        payload["critical"]["identity"]["docker-reference"] = "quay.io/test/one:2".into();
    });
    let fails = "signature verification failed";
    bench.refused("quay.io/test/one:2", &tampered, fails);
    let entry = |layout: &Path| {
        let index = json_file(&layout.join("index.json"));
        let entries = index["manifests"].as_array().unwrap();
        entries
            .iter()
            .find(|e| name_of(e) == tag)
            .unwrap()
            .to_owned()
    };
    let payload = |layout: &Path| {
        let manifest = json_file(&layout.join(Fixture::path(&entry(layout))));
        layout.join(Fixture::path(&manifest["layers"][0]))
    };
    let torn = copy("torn");
    let mut bytes = fs::read(payload(&torn)).unwrap();
    bytes[10] ^= 1;
    fs::write(payload(&torn), bytes).unwrap();
    bench.refused(ONE, &torn, "its signature is damaged");

    // One that is elsewhere, or that would fill the memory.
    let outside = copy("outside");
    fs::rename(payload(&outside), bench.scratch.join("payload")).unwrap();
    std::os::unix::fs::symlink(bench.scratch.join("payload"), payload(&outside)).unwrap();
    bench.refused(ONE, &outside, "its signature is damaged");
    let long = copy("long");
    change_entries(&long, |entries| {
        let signature = entries.iter_mut().find(|e| name_of(e) == tag).unwrap();
        let mut manifest = json_file(&long.join(Fixture::path(signature)));
        manifest["layers"][0]["size"] = (1_u64 << 40).into();
        put(&long, signature, manifest.to_string().as_bytes());
    });
    bench.refused(ONE, &long, "its signature is damaged");

    // The rightly signed signature of another image.
    let app = bench.sign("localhost/app:1", ONE, "app");
    change_entries(&app, |entries| {
        let index = sig(&digests()[0]);
        entries.retain(|entry| name_of(entry) == index);
        entries[0]["annotations"][REF_NAME] = tag.clone().into();
    });
    let exchanged = copy("exchanged");
    text(
        Command::new("cp")
            .arg("-a")
            .args([app.join("blobs"), exchanged.clone()]),
    );
    let foreign = json_file(&app.join("index.json"))["manifests"][0].clone();
    change_entries(&exchanged, |entries| {
        entries.retain(|e| name_of(e) != tag);
        entries.push(foreign);
    });
    bench.refused(ONE, &exchanged, "does not match");

    // A key that did not sign it.
    let mut other = bench.requirement();
    other["keyPath"] = Bench::key("other.pub").to_str().unwrap().into();
    bench.policy(&json!({"default": [other]}));
    bench.refused(ONE, &layout, fails);

    // What asks for more than sigstore is refused as ever.
    let more = json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/x"});
    bench.policy(&json!({"default": [bench.requirement(), more]}));
    let (code, said) = bench.sync(ONE, &source(&layout));
    assert_eq!(code, 5, "{said}");
}

/// What a policy asks of the signed name, asked through skopeo.
#[test]
fn identities_are_never_looser() {
    let Some(bench) = Bench::new() else { return };
    let layout = bench.sign("localhost/one:1", ONE, "signed");
    let of = |kind: &str| json!({"type": kind});
    let reference = |name: &str| json!({"type": "exactReference", "dockerReference": name});
    let remap = json!({
        "type": "remapIdentity", "prefix": "quay.io/test/mirror", "signedPrefix": "quay.io/test",
    });
    let other_tag = "quay.io/test/one:2";
    let mirror = "quay.io/test/mirror/one:1";
    let no = "is not accepted";
    for (identity, name, refusal) in [
        (of("matchExact"), ONE, None),
        (of("matchExact"), other_tag, Some(no)),
        (of("matchRepository"), other_tag, None),
        (of("matchRepository"), "quay.io/test/two:1", Some(no)),
        (reference(ONE), "quay.io/test/two:1", None),
        (reference(other_tag), other_tag, Some(no)),
        (remap.clone(), mirror, None),
        (remap.clone(), ONE, None),
        (remap, "quay.io/test/mirror/one:2", Some(no)),
        (of("matchAnything"), ONE, Some("matchAnything")),
    ] {
        bench.policy(&bench.identity(&identity));
        match refusal {
            None => assert!(
                bench
                    .accepted(name, &layout)
                    .contains("docker scope \"quay.io/test\""),
                "{identity} {name}"
            ),
            Some(says) => bench.refused(name, &layout, says),
        }
    }
    // What skopeo refuses of the host's policy stays refused.
    let mut policy = bench.identity(&json!({
        "type": "remapIdentity", "prefix": "short/", "signedPrefix": "x.test",
    }));
    bench.policy(&policy);
    let (code, said) = bench.sync(ONE, &source(&layout));
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("invalid policy"), "{said}");
    policy["default"] = json!([{"type": "nothing"}]);
    bench.policy(&policy);
    assert_ne!(bench.sync(ONE, &source(&layout)).0, 0);
}

/// A digest says more than a signature: nothing else is asked.
#[test]
fn pins_need_no_signature() {
    let Some(bench) = Bench::new() else { return };
    let [_, manifest] = digests();
    let plain = bench.scratch.join("plain");
    let pinned = format!("quay.io/test/one@{manifest}");
    let (code, said) = bench.sync(&pinned, &format!("oci:{}", plain.display()));
    assert_eq!(code, 0, "{said}");
}

/// From registries into a bundle, by skopeo to a mirror and from there to an
/// archive, to a host that asks for signatures and has no network.
#[test]
fn a_bundle_carries_them() {
    let Some(bench) = Bench::new() else { return };
    let at = |name: &str| bench.scratch.join(name).display().to_string();
    let registries =
        [("localhost/app:1", APP), ("localhost/one:1", ONE)].map(|(name, identity)| {
            let home = bench
                .scratch
                .dir(&format!("home-{}", name.replace('/', "-")));
            bench.sign_in_registry(name, identity, &home)
        });
    let online = Boundstore::new(&bench.scratch, "online");
    let images: Vec<String> = [APP, ONE]
        .iter()
        .zip(&registries)
        .map(|(name, registry)| format!("{name}=docker://{}/x:1", registry.address))
        .collect();
    let options = "--platform linux/amd64 --retry-for 0 --no-tls-verify";
    let synced = online.json(&format!("{} {options}", online.sync_args("d", &images)));

    let (any, spool) = (at("any.json"), at("spool"));
    let options = format!("{options} --policy {any} --spool {spool}");
    let bundle = at("bundle");
    let made = online.json(&format!(
        "bundle create --output oci:{bundle} --image {} --image {} {options}",
        images[0], images[1]
    ));
    let members = made["members"].as_array().unwrap();
    let signatures = members.iter().filter(|member| {
        let tag = member["tag"].as_str();
        tag.is_some_and(|tag| tag.ends_with(".sig"))
    });
    // Of the index, and of the manifest that both have, under either name.
    assert_eq!(signatures.count(), 3, "{made}");
    let mirror = format!("docker://{}/mirror:1", registries[0].address);
    let archive = format!("oci-archive:{}", at("carried.tar"));
    bench.copy(&[&format!("oci:{bundle}:bundle"), &mirror]);
    bench.copy(&[&mirror, &archive]);
    drop(registries);
    let applied = bench.scratch.join("applied");
    let to = applied.display();
    online.ok(&format!(
        "bundle apply {archive} {to} --policy {any} --spool {spool}"
    ));

    let names = [APP, ONE].map(str::to_owned);
    let from = |layout: &Path| format!("--from oci:{}", layout.display());
    let (code, said) = bench.sync_set(&names, &from(&applied));
    assert_eq!(code, 0, "{said}");
    let call = format!("images --deployment {}", bench.deployment());
    let found = bench.host.json(&call);
    for image in found["images"].as_array().unwrap() {
        let verdict = image["verdict"].as_str().unwrap();
        assert!(verdict.contains("skopeo accepts the signature"), "{image}");
    }
    let status = bench.host.json("status");
    assert!(
        status
            .to_string()
            .contains(synced["set_image"].as_str().unwrap()),
        "{synced}: {status}"
    );

    // The same bytes and no signatures, or a host that trusts another key.
    let unsigned = bench.scratch.join("unsigned");
    text(Command::new("cp").arg("-a").arg(&applied).arg(&unsigned));
    change_entries(&unsigned, |entries| {
        entries.retain(|entry| !entry.to_string().contains(".sig"));
    });
    let (code, said) = bench.sync_set(&names, &from(&unsigned));
    assert_eq!(code, 5, "{said}");
    assert!(said.contains(".sig") && said.contains("pin"), "{said}");
    let mut other = bench.requirement();
    other["keyPath"] = Bench::key("other.pub").to_str().unwrap().into();
    bench.policy(&json!({"default": [other]}));
    let (code, said) = bench.sync_set(&names, &from(&applied));
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("signature verification failed"), "{said}");
}

/// Debian 12's skopeo has no sigstore: that is a refusal, not a yes.
#[test]
fn a_skopeo_without_sigstore_accepts_nothing() {
    let Some(mut bench) = Bench::new() else {
        return;
    };
    let layout = bench.sign("localhost/one:1", ONE, "signed");
    let app = bench.sign("localhost/app:1", APP, "app");
    bench.skopeo = text(Command::new("sh").args(["-c", "command -v skopeo"]))
        .trim_end()
        .into();
    let binary = fs::read(&bench.skopeo).unwrap();
    let disabled = b"sigstore disabled";
    if !binary.windows(disabled.len()).any(|part| part == disabled) {
        eprintln!("SKIPPED: this skopeo has sigstore");
        return;
    }
    bench.refused(ONE, &layout, "sigstore disabled");
    change_entries(&app, |entries| {
        entries.retain(|entry| name_of(entry) == "1" || name_of(entry) == sig(&digests()[0]));
    });
    // Its proxy opens what it is given, and looks at no signature.
    bench.refused(APP, &app, "before 1.14");
}

/// A skopeo that never answers is killed, and one that is not there is no yes.
#[test]
fn a_skopeo_that_does_not_answer() {
    let scratch = Scratch::new();
    let mut fixture = testing::usual();
    let manifest = fixture.entries[1].clone();
    let payload = fixture.blob(b"{}".to_vec(), "application/json");
    let signature = json!({
        "schemaVersion": 2, "mediaType": testing::MANIFEST, "config": payload, "layers": [payload],
    });
    let signature = fixture.blob(signature.to_string().into_bytes(), testing::MANIFEST);
    fixture.name(&signature, &sig(manifest["digest"].as_str().unwrap()));
    fixture.write(&scratch.join("layout"));
    let policy = scratch.join("policy.json");
    let signed = r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/nowhere"}]}"#;
    fs::write(&policy, signed).unwrap();
    let (program, pid) = (scratch.join("stalled"), scratch.join("pid"));
    let script = format!("#!/bin/sh\necho $$ >{}\nexec sleep 300\n", pid.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let resolve = |program: PathBuf| {
        let options = SourceOptions {
            spool_dir: scratch.join("spool"),
            policy_paths: vec![policy.clone()],
            skopeo: SkopeoOptions {
                program,
                idle: Duration::from_secs(2),
                ..SkopeoOptions::default()
            },
        };
        let layout = format!("oci:{}", scratch.join("layout").display());
        let sources = Sources::open(&[layout.parse().unwrap()], options).unwrap();
        let wanted = Wanted {
            platform: "linux/amd64".parse().unwrap(),
            ..Wanted::new("localhost/one:1".parse().unwrap())
        };
        let error = sources.resolve(&wanted).unwrap_err();
        let left = fs::read_dir(scratch.join("spool")).unwrap().count();
        assert_eq!(left, 0, "{error}");
        error
    };
    let begun = Instant::now();
    let error = resolve(program);
    assert!(matches!(error, SourceError::Timeout { .. }), "{error}");
    assert_eq!(error.failing(), Failing::Transient);
    let pid = fs::read_to_string(pid).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{pid} still runs"
        );
        thread::sleep(Duration::from_millis(20));
    }
    let error = resolve("/nowhere/skopeo".into());
    assert!(matches!(error, SourceError::NoSkopeo { .. }), "{error}");
}
