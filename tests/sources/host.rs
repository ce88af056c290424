//! What the tests need of the machine: skopeo, a registry on the loopback.

use std::{
    fs,
    io::Read as _,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use boundstore::{
    document::Compression,
    name::{BlobDigest, DiffId, ManifestDigest},
    source::{Found, LayerForm, SkopeoOptions, SourceOptions, SourceRef, Sources, Spool, Wanted},
};
use tempfile::TempDir;

use crate::testing::{self, Fixture};

/// Whether all of `tools` are there. In CI they must be; elsewhere the test is
/// skipped, and says so.
pub fn have(tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = tools
        .iter()
        .find(|tool| !std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()));
    let Some(missing) = missing else {
        return true;
    };
    assert!(std::env::var_os("CI").is_none(), "CI lacks {missing}");
    eprintln!("SKIPPED: {missing} is not installed");
    false
}

/// Runs a command that must succeed; returns its output.
pub fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// A folder with the usual layout in `oci`, a spool and a policy.
pub struct Bench {
    pub dir: TempDir,
    pub fixture: Fixture,
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fixture = testing::usual();
        fixture.write(&dir.path().join("oci"));
        let accept = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
        fs::write(dir.path().join("accept.json"), accept).unwrap();
        let reject = r#"{"default":[{"type":"reject"}]}"#;
        fs::write(dir.path().join("reject.json"), reject).unwrap();
        Self { dir, fixture }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn oci(&self, name: &str) -> String {
        format!("oci:{}:{name}", self.text("oci"))
    }

    pub fn options(&self) -> SourceOptions {
        SourceOptions {
            spool_dir: self.dir.path().into(),
            policy_paths: vec![self.path("accept.json")],
            skopeo: SkopeoOptions {
                policy: Some(self.path("accept.json")),
                tls_verify: false,
                idle: Duration::from_secs(60),
                ..SkopeoOptions::default()
            },
        }
    }

    pub fn sources(&self) -> Sources {
        Sources::open(&[], self.options()).unwrap()
    }

    pub fn spool(&self) -> Spool {
        Spool::open(&self.path("spool")).unwrap()
    }

    /// The digest of entry `at` of the layout: 0 is the index, 1 the manifest.
    pub fn digest(&self, at: usize) -> ManifestDigest {
        let digest = self.fixture.entries[at]["digest"].as_str().unwrap();
        digest.parse().unwrap()
    }
}

pub fn wanted(name: &str, source: &str) -> Wanted {
    Wanted {
        platform: "linux/amd64".parse().unwrap(),
        source: Some(source.parse::<SourceRef>().unwrap()),
        ..Wanted::new(name.parse().unwrap())
    }
}

/// Fetches and reads all layers, checks their bytes, and returns their DiffIDs.
pub fn read_layers(found: &Found, spool: &Spool) -> Vec<DiffId> {
    let all: Vec<usize> = (0..found.image.layers.len()).collect();
    found.fetch(&all, spool, &mut |_| {}).unwrap();
    let read = |index: usize| {
        let layer = &found.image.layers[index];
        let mut data = found.open_layer(index, Some(spool)).unwrap();
        let mut bytes = Vec::new();
        data.reader.read_to_end(&mut bytes).unwrap();
        if data.form != LayerForm::Tar {
            assert_eq!(BlobDigest::of(&bytes), layer.blob_digest);
            assert_eq!(bytes.len() as u64, layer.blob_size);
            if layer.compression == Compression::Gzip {
                let mut tar = Vec::new();
                flate2::read::MultiGzDecoder::new(&bytes[..])
                    .read_to_end(&mut tar)
                    .unwrap();
                bytes = tar;
            }
        }
        assert_eq!(DiffId::of(&bytes), layer.diff_id, "layer {index}");
        layer.diff_id
    };
    all.into_iter().map(read).collect()
}

/// A registry on 127.0.0.1 with its own storage; killed when dropped.
pub struct TestRegistry {
    child: Child,
    pub address: String,
    pub storage: PathBuf,
}

impl TestRegistry {
    /// Starts one below `dir`; with `users` (a htpasswd file) it wants a login.
    pub fn start(dir: &Path, users: Option<&Path>) -> Self {
        let storage = dir.join("registry");
        fs::create_dir_all(&storage).unwrap();
        for _ in 0..5 {
            // Free now; another may take it before the registry does.
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            drop(listener);
            if let Some(child) = Self::spawn(dir, &storage, &address, users) {
                return Self {
                    child,
                    address,
                    storage,
                };
            }
        }
        panic!("no registry came up");
    }

    fn spawn(dir: &Path, storage: &Path, address: &str, users: Option<&Path>) -> Option<Child> {
        let auth = users.map(|users| {
            let users = users.display();
            format!("auth: {{htpasswd: {{realm: test, path: {users}}}}}\n")
        });
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n{}",
            storage.display(),
            auth.unwrap_or_default()
        );
        let path = dir.join("registry.yml");
        fs::write(&path, config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if TcpStream::connect(address).is_ok() {
                return Some(child);
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// Where its storage keeps a blob.
    pub fn blob(&self, digest: &BlobDigest) -> PathBuf {
        let hex = digest.hex();
        let blobs = self.storage.join("docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
