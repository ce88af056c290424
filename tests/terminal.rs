//! What others made is shown to people without acting on their terminal: names,
//! paths and messages, in results, errors and warnings.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/host.rs"]
mod host;
#[path = "common/layout.rs"]
mod layout;
#[path = "common/raw_tar.rs"]
mod raw_tar;

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::symlink,
    process::Command,
    thread,
};

use host::Host;
use layout::{LayerBlob, Layout, content};
use raw_tar::RawTar;

/// Clears a screen, sets a title, rings, goes back in the line, reorders.
const EVIL: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\r\u{9b}31m\u{202e}\u{2066}\u{7f}";
/// The same as it must be shown.
const SHOWN: &str = r"\x1b[2J\x1b]0;x\x07\x0d\x9b31m\u{202e}\u{2066}\x7f";
/// What would look like a message of ours.
const LINE: &str = "\nError: all is lost";

fn boundstore(host: &Host, args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boundstore"));
    command
        .args(["--verbose", "--allow-missing-verity", "--repo"])
        .arg(host.path("repo"))
        .arg("--sysroot")
        .arg(host.path(""))
        .args(args);
    command
}

/// Runs it; both streams hold no character that acts. What they say, and
/// whether it went well.
#[track_caller]
fn shown(command: &mut Command) -> (String, String, bool) {
    let output = command.output().unwrap();
    let harmless = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        let acts = text.chars().find(|&c| {
            (c.is_control() && c != '\n' && c != '\t')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        });
        assert_eq!(acts, None, "{text:?}");
        assert!(!text.contains("panicked"), "{text}");
        assert!(!text.lines().any(|line| line == &LINE[1..]), "{text}");
        text
    };
    let stderr = harmless(output.stderr);
    (harmless(output.stdout), stderr, output.status.success())
}

#[track_caller]
fn refused(command: &mut Command, words: &[&str]) {
    let (_, stderr, ok) = shown(command);
    assert!(!ok, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in: {stderr}");
    }
}

#[test]
fn arguments() {
    let host = Host::new();
    let evil = format!("{EVIL}{LINE}");
    // Some quote it, and then Rust escapes it; clap leaves whole sequences out.
    let of = |args: &[&str]| refused(&mut boundstore(&host, args), &["31m"]);
    of(&["sync", "--deployment", &evil]);
    of(&["sync", "--deployment", "d", "--root", &evil]);
    of(&["--json", "sync", "--deployment", "d", "--root", &evil]);
    of(&["sync", &format!("--no-such{evil}")]);
    of(&[&evil]);
    of(&["sync", "--deployment", "d", "--image", &evil]);
    let evil_root = host.path(EVIL).display().to_string();
    of(&["--host-root", &evil_root, "generator", "/nowhere"]);
    for source in ["oci:", "oci-archive:", "docker-archive:", "nothing:"] {
        let image = format!("localhost/x:1={source}/nowhere{EVIL}/x");
        of(&["sync", "--deployment", "d", "--image", &image]);
    }
}

#[test]
fn units_of_a_root() {
    let host = Host::new();
    let root = host.path("root");
    let folder = root.join("usr/lib/bootc/bound-images.d");
    fs::create_dir_all(&folder).unwrap();
    let unit = root.join("unit.image");
    let sync = || {
        let root = root.display().to_string();
        boundstore(&host, &["sync", "--deployment", "d", "--root", &root])
    };
    // The entry's name, where its link leads, and what the unit says.
    for (name, target, image) in [
        (format!("{EVIL}{LINE}.image"), "/unit.image", "no name"),
        (format!("{EVIL}{LINE}"), "/unit.image", "localhost/x:1"),
        ("a.image".to_owned(), EVIL, "localhost/x:1"),
        ("a.image".to_owned(), "/unit.image", EVIL),
    ] {
        fs::write(&unit, format!("[Image]\nImage={image}\n")).unwrap();
        let entry = folder.join(name);
        symlink(target, &entry).unwrap();
        refused(&mut sync(), &["bound-images.d/"]);
        fs::remove_file(entry).unwrap();
    }
    // Two folders that disagree about one entry.
    let ours = root.join("usr/lib/boundstore/bound-images.d");
    fs::create_dir_all(&ours).unwrap();
    let (one, two) = (
        folder.join(format!("{EVIL}.image")),
        ours.join(format!("{EVIL}.image")),
    );
    fs::write(root.join("other.image"), "[Image]\nImage=localhost/y:1\n").unwrap();
    fs::write(&unit, "[Image]\nImage=localhost/x:1\n").unwrap();
    symlink("/unit.image", one).unwrap();
    symlink("/other.image", two).unwrap();
    refused(&mut sync(), &["localhost/x:1", "localhost/y:1", "31m"]);
}

#[test]
fn paths_in_layers() {
    let host = Host::new();
    let mut layout = Layout::new(&host.path("layout"));
    let name = format!("evil{EVIL}{LINE}");
    let device = RawTar::default().device(&name, b'4', 5000, 0);
    layout.image("device", &[LayerBlob::plain(&device.done())]);
    let tar = RawTar::default().file(&name, &content(3, 9000));
    layout.image("good", &[LayerBlob::gzip(&tar.done())]);
    let sync = |name: &str| {
        let image = layout.arg("localhost/evil:1", name);
        boundstore(&host, &["sync", "--deployment", "d", "--image", &image])
    };
    refused(&mut sync("device"), &["[2J"]);
    let (_, stderr, ok) = shown(&mut sync("good"));
    assert!(ok, "{stderr}");
    // The file's object is the only one with its content.
    let is_it = |object: &&std::path::PathBuf| fs::read(object).unwrap() == content(3, 9000);
    let objects = host.objects();
    let object = objects.iter().find(is_it).unwrap();
    fs::write(object, content(4, 9000)).unwrap();
    let (stdout, _, ok) = shown(&mut boundstore(&host, &["verify", "--deep"]));
    assert!(!ok && stdout.contains(SHOWN), "{stdout}");
    let (stdout, _, _) = shown(&mut boundstore(&host, &["--json", "verify", "--deep"]));
    let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(document.to_string().contains('\u{202e}'), "{document}");
    shown(&mut boundstore(&host, &["status"]));
}

/// A registry that greets, and answers all else with an error of its own.
fn insolent_registry() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let message = serde_json::to_string(&format!("gone{EVIL}{LINE}")).unwrap();
    let body = format!(r#"{{"errors":[{{"code":"DENIED","message":{message}}}]}}"#);
    let reply = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let welcome = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            let asked = request.next().unwrap_or(Ok(String::new()));
            let ping = asked.is_ok_and(|line| line.starts_with("GET /v2/ "));
            let more = |line: std::io::Result<String>| line.is_ok_and(|line| !line.is_empty());
            while request.next().is_some_and(more) {}
            let reply = if ping { welcome } else { &reply };
            let _gone = stream.write_all(reply.as_bytes());
        }
    });
    port
}

#[test]
fn words_of_a_registry() {
    let host = Host::new();
    let policy = host.path("policy.json");
    fs::write(
        &policy,
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    )
    .unwrap();
    let policy = policy.display().to_string();
    let image = format!("127.0.0.1:{}/evil:1", insolent_registry());
    let sync = ["sync", "--deployment", "d", "--no-tls-verify", "--policy"];
    let args = [&sync[..], &[&policy, "--image", &image]].concat();
    refused(&mut boundstore(&host, &args), &["gone"]);
}

#[test]
fn configuration_of_a_host() {
    let host = Host::new();
    let folder = host.path("etc/boundstore");
    fs::create_dir_all(&folder).unwrap();
    let escaped = |c| format!("\\u{:04x}", u32::from(c));
    let key: String = format!("{EVIL}{LINE}").chars().map(escaped).collect();
    fs::write(folder.join("config.toml"), format!("\"{key}\" = 1\n")).unwrap();
    let root = host.path("").display().to_string();
    let image = "localhost/x:1=oci:/nowhere";
    let sync = ["sync", "--deployment", "d", "--image", image];
    let args = [&["--host-root", &root], &sync[..]].concat();
    refused(&mut boundstore(&host, &args), &["config.toml", "2J"]);
}
