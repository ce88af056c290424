//! What a registry can do wrong, with the real registry and skopeo and a proxy
//! between them: the right retry or the right error, nothing wrong kept.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "common/fault_proxy.rs"]
mod fault_proxy;
#[path = "common/layout.rs"]
mod layout;

use std::{
    fs,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use boundstore::{repo::RepoView, sys::DirLock};
use common::{
    Scratch,
    boundstore::Boundstore,
    image::{Image, sha256},
    ready,
    registry::Registry,
};
use fault_proxy::{Fault, FaultProxy, status};
use layout::{LayerBlob, Layout, content, tar};

const OLD: &str = "localhost/old:1";
const ALWAYS: Range<usize> = 0..usize::MAX;

type Rules<'a> = Vec<(&'a str, Range<usize>, Fault)>;

/// A registry with an image of two layers behind the proxy, and a host that
/// has the set "a" of another one.
struct Bench {
    scratch: Scratch,
    registry: Registry,
    proxy: FaultProxy,
    app: Image,
    layout: Layout,
}

/// How a sync ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn new() -> Option<Self> {
        if !ready(&["skopeo", "docker-registry"]) {
            return None;
        }
        let scratch = Scratch::new();
        let mut layout = Layout::new(&scratch.join("layout"));
        let layer = |seed| LayerBlob::plain(&tar(&[("file", &content(seed, 100_000))]));
        layout.image("app", &[layer(1), layer(2)]);
        layout.image("old", &[layer(3)]);
        let app = Image::read(&layout.path, "app");
        let registry = Registry::start(&scratch);
        registry.put(&app, "app:1");
        let proxy = FaultProxy::start(&registry.address);
        scratch.dir("root/etc/boundstore");
        Some(Self {
            scratch,
            registry,
            proxy,
            app,
            layout,
        })
    }

    /// From now on, only `rules`. Only stalls are to meet a short limit, however
    /// slow the machine is.
    fn fail(&self, rules: &[(&str, Range<usize>, Fault)]) {
        // skopeo waits as long as a lasting 429 says, and that again and again.
        let stalls = |seen: &Range<usize>, fault: &Fault| {
            use Fault::{Answer, Drip, Silence, StallAfter};
            match fault {
                Silence | StallAfter(_) | Drip(_) => true,
                Answer(429, ..) => *seen == ALWAYS,
                _ => false,
            }
        };
        let stalled = rules.iter().any(|(_, seen, fault)| stalls(seen, fault));
        let seconds = if stalled { 3 } else { 60 };
        let config = format!("[sync]\nidle-timeout = \"{seconds}s\"\n");
        let path = self.scratch.join("root/etc/boundstore/config.toml");
        fs::write(path, config).unwrap();
        self.proxy.set(rules);
    }

    /// A store of its own, with the old set.
    fn host(&self, name: &str) -> Boundstore {
        let host = Boundstore::new(&self.scratch, name);
        host.sync("a", &[self.layout.arg(OLD, "old")]);
        host
    }

    fn args(&self, host: &Boundstore, retry_for: u32) -> String {
        let image = format!("{0}/app:1", self.proxy.address);
        let root = self.scratch.join("root");
        let root = root.display();
        let sync = host.sync_args("a", &[image]);
        format!("-v --host-root {root} {sync} --no-tls-verify --retry-for {retry_for}")
    }

    fn sync(&self, host: &Boundstore, retry_for: u32, more: &str) -> Ended {
        let mut command = host.command(&format!("{} {more}", self.args(host, retry_for)));
        let output = common::output(&mut command);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn spool(&self, name: &str) -> PathBuf {
        self.scratch.join(format!("{name}-host/spool"))
    }

    /// All is as it was before a sync that failed, and what is in the spool
    /// under a digest's name has that digest.
    fn nothing_changed(&self, host: &Boundstore, name: &str) {
        let images = host.json("images")["images"].to_string();
        assert!(images.contains(OLD), "{name}: {images}");
        assert!(!images.contains("/app:1"), "{name}: {images}");
        host.ok("verify --deep");
        for path in files_below(&self.spool(name)) {
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            if let Some(hex) = file.strip_prefix("sha256-")
                && !file.ends_with(".part")
            {
                let found = sha256(fs::File::open(&path).unwrap());
                assert_eq!(found, format!("sha256:{hex}"), "{name}");
            }
        }
    }

    fn blob(&self, index: usize) -> String {
        self.app.blobs()[index].clone()
    }
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten();
    let files = entries.flat_map(|entry| {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        match (kind.is_dir(), kind.is_file()) {
            (true, _) => files_below(&path),
            (_, true) => vec![path],
            _ => Vec::new(),
        }
    });
    files.collect()
}

#[test]
fn what_passes_is_tried_again() {
    let Some(bench) = Bench::new() else { return };
    let top = bench.blob(1);
    let config = bench.app.manifest["config"]["digest"].as_str().unwrap();
    let retry_after = |when: &str| Fault::Answer(429, vec![("Retry-After", when.into())], vec![]);
    let cases: &[(&str, &str, Fault)] = &[
        ("reset", "/manifests/1", Fault::Reset),
        ("silent-blob", &top, Fault::Silence),
        ("stalled-blob", &top, Fault::StallAfter(50_000)),
        ("cut-blob", &top, Fault::CutAfter(50_000)),
        ("503", "/manifests/1", status(503)),
        ("500-config", config, status(500)),
        ("502-blob", &top, status(502)),
        ("429", "/manifests/1", retry_after("1")),
        (
            "429-date",
            "/manifests/1",
            retry_after("Thu, 01 Jan 1970 00:00:00 GMT"),
        ),
    ];
    for (name, path, fault) in cases {
        bench.fail(&[(path, 0..1, fault.clone())]);
        let host = bench.host(name);
        let begun = Instant::now();
        let ended = bench.sync(&host, 60, "");
        let (asked, base) = (bench.proxy.count(path), bench.proxy.count(&bench.blob(0)));
        println!(
            "{name}: {} requests, base layer {base:?}, {:?}",
            asked.requests,
            begun.elapsed()
        );
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.stderr);
        assert!(asked.requests >= 2, "{name}: the fault was not met");
        // What was whole before the failure is not fetched again.
        assert_eq!(base.requests, 1, "{name}");
        host.ok("verify --deep");
        assert!(files_below(&bench.spool(name)).is_empty(), "{name}");
    }
}

#[test]
fn what_stays_is_an_error_that_says_what_to_do() {
    let Some(bench) = Bench::new() else { return };
    let top = bench.blob(1);
    let config = bench.app.manifest["config"]["digest"].as_str().unwrap();
    let huge = Fault::Answer(200, vec![], vec![b' '; 6 << 20]);
    let wait = |when: &str| Fault::Answer(429, vec![("Retry-After", when.into())], vec![]);
    let moved = |to: &str| Fault::Answer(307, vec![("Location", to.into())], vec![]);
    let round = moved(&format!(
        "http://{}/v2/app/blobs/{top}",
        bench.proxy.address
    ));
    let cases: &[(&str, &str, Fault, i32)] = &[
        ("silence", "/v2/", Fault::Silence, 4),
        ("silent-manifest", "/manifests/", Fault::Silence, 4),
        ("dripping-blob", &top, Fault::Drip(100), 4),
        ("resets", "/manifests/1", Fault::Reset, 4),
        ("503s", "/manifests/1", status(503), 4),
        ("429s", "/manifests/1", wait("3600"), 4),
        ("429s-blob", &top, wait("1"), 4),
        ("401s", "/manifests/1", status(401), 1),
        ("403s", "/manifests/1", status(403), 1),
        ("404", "/manifests/1", status(404), 1),
        ("404-blob", &top, status(404), 1),
        ("wrong-blob", &top, Fault::Flip, 1),
        ("wrong-config", config, Fault::Flip, 1),
        ("huge-manifest", "/manifests/1", huge, 1),
        ("redirect-loop", &top, round, 1),
    ];
    for (name, path, fault, code) in cases {
        bench.fail(&[(path, ALWAYS, fault.clone())]);
        let host = bench.host(name);
        let begun = Instant::now();
        let ended = bench.sync(&host, 0, "");
        let last = ended.stderr.lines().last().unwrap_or_default();
        println!("{name}: {:?} {last}", begun.elapsed());
        assert_eq!(ended.code, Some(*code), "{name}: {}", ended.stderr);
        // The image, the registry.
        let image = format!("{}/app", bench.proxy.address);
        assert!(ended.stderr.contains(&image), "{name}: {}", ended.stderr);
        assert!(bench.proxy.count(path).requests > 0, "{name}");
        bench.nothing_changed(&host, name);
        // And when it is over, the rest is all that comes.
        bench.fail(&[]);
        let whole = bench.spool(name).join(bench.blob(0).replace(':', "-"));
        let expected = usize::from(!whole.exists());
        assert_eq!(bench.sync(&host, 0, "").code, Some(0), "{name}");
        assert_eq!(
            bench.proxy.count(&bench.blob(0)).requests,
            expected,
            "{name}"
        );
    }
}

/// A layer is imported while the next one stalls, and whoever wants the
/// repository for itself does not wait for the network.
#[test]
fn a_layer_is_imported_while_the_next_one_is_waited_for() {
    let Some(bench) = Bench::new() else { return };
    let top = bench.blob(1);
    bench.fail(&[(&top, ALWAYS, Fault::Silence)]);
    let config = bench.scratch.join("root/etc/boundstore/config.toml");
    fs::write(config, "[sync]\nidle-timeout = \"120s\"\n").unwrap();
    let host = bench.host("waiting");
    let mut command = host.command(&bench.args(&host, 0));
    let mut sync = command.stderr(Stdio::null()).spawn().unwrap();
    // The layers are not compressed: their blobs are their tars.
    let base = bench.blob(0).parse().unwrap();
    let view = RepoView::open(host.repo()).unwrap();
    let begun = Instant::now();
    while view.layer(&base).unwrap().is_none() {
        assert!(sync.try_wait().unwrap().is_none(), "it ended");
        assert!(begun.elapsed() < Duration::from_secs(60), "no layer came");
        sleep(Duration::from_millis(20));
    }
    let lock = DirLock::exclusive(host.repo(), Duration::from_secs(30)).unwrap();
    assert!(lock.is_some(), "the repository is locked while it waits");
    assert!(sync.try_wait().unwrap().is_none(), "it ended");
    drop(lock);
    sync.kill().unwrap();
    sync.wait().unwrap();
    // A garbage collection leaves it to the next sync, which fetches the rest.
    host.ok("gc");
    assert!(view.layer(&base).unwrap().is_some());
    bench.fail(&[]);
    let ended = bench.sync(&host, 0, "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(bench.proxy.count(&bench.blob(0)).requests, 0);
    host.ok("verify --deep");
}

#[test]
fn the_same_failure_is_told_once() {
    let Some(bench) = Bench::new() else { return };
    bench.fail(&[("/manifests/1", ALWAYS, status(503))]);
    let host = bench.host("again");
    let ended = bench.sync(&host, 8, "");
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    // Told, told briefly, and as the error at the end.
    assert_eq!(ended.stderr.matches("503").count(), 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("the same again"), "{}", ended.stderr);
}

/// A stall ends with skopeo gone, and while it lasts, skopeo's arguments show
/// no secret.
#[test]
fn secrets_are_nowhere() {
    let Some(bench) = Bench::new() else { return };
    let password = "marker-Zq7-secret";
    let login = STANDARD.encode(format!("user:{password}"));
    let address = &bench.proxy.address;
    let auth = format!(r#"{{"auths":{{"{address}":{{"auth":"{login}"}}}}}}"#);
    let file = bench.scratch.join("auth.json");
    fs::write(&file, auth).unwrap();
    let signed = "marker-signature-Zq7";
    let token = "marker-token-Zq7";
    let secrets = [password, login.as_str(), signed, token];
    let authfile = format!("--authfile {}", file.display());
    let ask = (
        "WWW-Authenticate",
        format!("Bearer realm=\"http://{address}/token?k={signed}\",service=\"x\""),
    );
    let echo = format!(
        r#"{{"errors":[{{"code":"DENIED","message":"Basic {login} {password}"}}],"token":"{token}"}}"#
    );
    let to = format!("http://127.0.0.1:1/blob?X-Amz-Signature={signed}");
    let cases: Vec<(&str, Rules<'_>)> = vec![
        (
            "echo",
            vec![(
                "/manifests/",
                ALWAYS,
                Fault::Answer(403, vec![], echo.clone().into()),
            )],
        ),
        (
            "redirect",
            vec![(
                "/blobs/",
                ALWAYS,
                Fault::Answer(307, vec![("Location", to)], vec![]),
            )],
        ),
        (
            "realm",
            vec![
                ("/v2/", ALWAYS, Fault::Answer(401, vec![ask], vec![])),
                ("/token", ALWAYS, Fault::Answer(500, vec![], echo.into())),
            ],
        ),
        ("stall", vec![("/manifests/", ALWAYS, Fault::Silence)]),
    ];
    for (name, rules) in cases {
        bench.fail(&rules);
        let host = bench.host(name);
        for form in ["", "--json", "--progress json"] {
            let ended = bench.sync(&host, 0, &format!("{authfile} {form}"));
            assert!(
                matches!(ended.code, Some(1 | 4)),
                "{name}: {}",
                ended.stderr
            );
            println!("{name}: {}", ended.stderr.lines().last().unwrap());
            for secret in secrets {
                let said = format!("{}{}", ended.stdout, ended.stderr);
                assert!(!said.contains(secret), "{name}: {secret} in {said}");
            }
        }
        for below in [format!("{name}-host"), name.to_owned(), "root".into()] {
            for path in files_below(&bench.scratch.join(below)) {
                let bytes = fs::read(&path).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                for secret in secrets {
                    assert!(!text.contains(secret), "{secret} in {}", path.display());
                }
            }
        }
    }
    // In a name, too.
    let host = bench.host("name");
    for image in [
        format!("docker.test/app:1=docker://user:{password}@{address}/app:1"),
        format!("user:{password}@{address}/app:1"),
    ] {
        let mut command = host.command(&host.sync_args("a", &[image]));
        let output = common::output(&mut command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{said}");
        assert!(!said.contains(password), "{said}");
    }

    // While it is stalled.
    bench.fail(&[("/manifests/", ALWAYS, Fault::Silence)]);
    let mut command = host.command(&format!("{} {authfile}", bench.args(&host, 0)));
    let mut running = command.stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    let skopeo = loop {
        match children_of(running.id()).first() {
            // Between fork and exec the line is that of its parent.
            Some((pid, line)) if is_skopeo(line) && line.contains("--authfile") => {
                break (*pid, line.clone());
            }
            _ => assert!(begun.elapsed() < Duration::from_secs(30), "no skopeo"),
        }
        sleep(Duration::from_millis(5));
    };
    println!("{}", skopeo.1.replace('\0', " "));
    for secret in secrets {
        assert!(!skopeo.1.contains(secret), "{}", skopeo.1);
    }
    assert!(!skopeo.1.contains("auth.json"), "{}", skopeo.1);
    assert_eq!(running.wait().unwrap().code(), Some(4));
    let mut said = String::new();
    running
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(said.contains("came for 3 s"), "{said}");
    let gone = format!("/proc/{}", skopeo.0);
    while Path::new(&gone).exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "skopeo lives");
        sleep(Duration::from_millis(20));
    }
}

fn is_skopeo(line: &str) -> bool {
    let program = line.split('\0').next();
    program.is_some_and(|program| program.ends_with("skopeo"))
}

/// The process IDs and command lines of a process' children.
fn children_of(parent: u32) -> Vec<(u32, String)> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task"));
    let lists = tasks
        .into_iter()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let pids: Vec<u32> = lists
        .flat_map(|list| {
            list.split_whitespace()
                .map(|pid| pid.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect();
    let line = |pid| {
        Some((
            pid,
            fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?,
        ))
    };
    pids.into_iter().filter_map(line).collect()
}

#[test]
fn what_is_odd_but_right_is_taken() {
    let Some(bench) = Bench::new() else { return };
    let top = bench.blob(1);
    let elsewhere = format!("http://{}/v2/app/blobs/{top}", bench.registry.address);
    let moved = Fault::Answer(307, vec![("Location", elsewhere)], vec![]);
    let html = Fault::Header("Content-Type", "text/html".into());
    for (name, path, fault) in [("moved", top.as_str(), moved), ("html", "/blobs/", html)] {
        bench.fail(&[(path, ALWAYS, fault)]);
        let host = bench.host(name);
        let ended = bench.sync(&host, 0, "");
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.stderr);
        assert!(bench.proxy.count(path).requests > 0, "{name}");
        // The tag is asked for once: what it means then holds to the end.
        assert_eq!(bench.proxy.count("/manifests/1").requests, 1, "{name}");
        host.ok("verify --deep");
    }
    // What is taken is what was hashed, not what skopeo has seen afterwards.
    bench.fail(&[("/manifests/sha256:", ALWAYS, Fault::Flip)]);
    let host = bench.host("flipped");
    assert_eq!(bench.sync(&host, 0, "").code, Some(0));
    let images = host.json("images").to_string();
    assert!(images.contains(&bench.app.manifest_digest), "{images}");
    host.ok("verify --deep");

    let host = bench.host("pinned");
    let (address, digest) = (&bench.proxy.address, &bench.app.manifest_digest);
    let sync = host.sync_args("a", &[format!("{address}/app@{digest}")]);
    let (_, said) = host.exits(1, &format!("{sync} --no-tls-verify --retry-for 0"));
    assert!(
        said.contains(&format!("expected {digest}, found sha256:")),
        "{said}"
    );
    bench.nothing_changed(&host, "pinned");
}

/// A bundle comes and goes by the same rules.
#[test]
fn a_bundle_is_tried_again_and_given_up() {
    let Some(bench) = Bench::new() else { return };
    let host = Boundstore::new(&bench.scratch, "bundle");
    let root = bench.scratch.join("root");
    let spool = bench.scratch.join("bundle-spool");
    let accept = bench.scratch.join("bundle-host/policy.json");
    let options = |retry_for: u32| {
        format!(
            "--host-root {} --policy {} --spool {} --no-tls-verify --retry-for {retry_for}",
            root.display(),
            accept.display(),
            spool.display()
        )
    };
    let image = format!("{}/app:1", bench.proxy.address);
    let remote = format!("docker://{}/bundle:1", bench.proxy.address);
    let pushed = format!("docker://{}/bundle:1", bench.registry.address);
    // What is about the image is asked for once more.
    bench.fail(&[(".sig", 0..1, status(503))]);
    host.ok(&format!(
        "bundle create --output {pushed} --image {image} {}",
        options(20)
    ));
    assert_eq!(bench.proxy.count(".sig").requests, 2);
    bench.fail(&[(".sig", ALWAYS, status(503))]);
    let create = format!(
        "bundle create --output {pushed} --image {image} {}",
        options(0)
    );
    let (_, said) = host.exits(4, &create);
    assert!(said.contains(&image), "{said}");

    let to = bench.scratch.join("applied");
    let apply = |retry_for| {
        format!(
            "bundle apply {remote} {} {}",
            to.display(),
            options(retry_for)
        )
    };
    for fault in [Fault::Silence, Fault::StallAfter(1000)] {
        bench.fail(&[("/bundle/blobs/", ALWAYS, fault)]);
        let begun = Instant::now();
        let (_, said) = host.exits(4, &apply(0));
        assert!(begun.elapsed() < Duration::from_secs(120), "{said}");
        assert!(said.contains("bundle:1"), "{said}");
        assert!(!to.exists());
    }
    bench.fail(&[]);
    host.ok(&apply(0));
    assert!(to.exists());
    assert_eq!(fs::read_dir(spool).unwrap().count(), 0);
}
