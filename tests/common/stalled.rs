//! What begins to answer and then says nothing any more.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::json;

use super::{
    common::Scratch,
    layout::{LayerBlob, Layout},
};

/// A registry with one image, `far:1`, of one layer. A request whose path has
/// `stalls_at` in it is answered half, or not at all.
pub struct StalledRegistry {
    /// `127.0.0.1:PORT`
    pub address: String,
    stalls: Arc<AtomicBool>,
}

impl StalledRegistry {
    pub fn start(scratch: &Scratch, stalls_at: &'static str, layer: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stalls = Arc::new(AtomicBool::new(false));
        let path = scratch.join(format!("stalled-{}", address.replace(':', "-")));
        let mut layout = Layout::new(&path);
        let blob = LayerBlob::plain(layer);
        let layer = blob.diff_id.clone();
        let manifest = layout.image("far", &[blob]);
        let at = Arc::clone(&stalls);
        // It lives as long as the test's process: nobody has to end it.
        thread::spawn(move || {
            let kept = Arc::new(Mutex::new(Vec::new()));
            let (path, manifest, layer) = (Arc::new(path), Arc::new(manifest), Arc::new(layer));
            for stream in listener.incoming().map_while(Result::ok) {
                let (path, manifest, layer) = (path.clone(), manifest.clone(), layer.clone());
                let (at, kept) = (at.clone(), kept.clone());
                thread::spawn(move || {
                    let of = Served {
                        path: &path,
                        manifest: &manifest,
                        layer: &layer,
                        stalls_at,
                    };
                    if of.serve(&stream) {
                        at.store(true, Ordering::SeqCst);
                        kept.lock().unwrap().push(stream);
                    }
                });
            }
        });
        Self { address, stalls }
    }

    /// Whether somebody waits for it.
    pub fn stalls(&self) -> bool {
        self.stalls.load(Ordering::SeqCst)
    }
}

struct Served<'a> {
    path: &'a Path,
    manifest: &'a str,
    layer: &'a str,
    stalls_at: &'a str,
}

impl Served<'_> {
    /// Answers what is asked; says whether it stalls.
    fn serve(&self, stream: &TcpStream) -> bool {
        let mut reader = BufReader::new(stream);
        loop {
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                match reader.read_line(&mut request) {
                    Ok(0) | Err(_) => return false,
                    Ok(_) => {}
                }
            }
            let path = request.split(' ').nth(1).unwrap_or_default();
            // Of blobs only the layer's: its config is needed before.
            let stalls = path.contains(self.stalls_at)
                && (!path.contains("/blobs/") || path.ends_with(self.layer));
            let (kind, body) = self.body(path);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
                 Docker-Content-Digest: {}\r\n\r\n",
                body.len(),
                self.manifest
            );
            let mut writer = stream;
            if stalls {
                if path.contains("/blobs/") {
                    let half = [head.as_bytes(), &body[..body.len() / 2]].concat();
                    let _gone = writer.write_all(&half);
                }
                return true;
            }
            let body = if request.starts_with("HEAD ") {
                &[][..]
            } else {
                &body
            };
            if writer.write_all(&[head.as_bytes(), body].concat()).is_err() {
                return false;
            }
        }
    }

    fn body(&self, path: &str) -> (&'static str, Vec<u8>) {
        let digest = match path {
            _ if path.contains("/manifests/") => self.manifest,
            _ => path.rsplit('/').next().unwrap_or_default(),
        };
        let Some(hex) = digest.strip_prefix("sha256:") else {
            return ("application/json", json!({}).to_string().into_bytes());
        };
        let bytes = fs::read(self.path.join("blobs/sha256").join(hex)).unwrap_or_default();
        let kind = match path.contains("/manifests/") {
            true => "application/vnd.oci.image.manifest.v1+json",
            false => "application/octet-stream",
        };
        (kind, bytes)
    }
}

/// A file of a filesystem that serves another file's bytes until somebody reads
/// in the MiB after an offset, and then answers nothing any more: FUSE, as
/// python3 speaks it.
pub struct StalledFile {
    pub path: PathBuf,
    server: Child,
}

impl StalledFile {
    /// Nothing where this machine has no FUSE.
    pub fn mount(scratch: &Scratch, file: &Path, stalls_at: u64) -> Option<Self> {
        if !Path::new("/dev/fuse").exists() {
            assert!(
                std::env::var_os("CI").is_none(),
                "this test needs /dev/fuse"
            );
            eprintln!("SKIPPED, NOT TESTED: this test needs /dev/fuse");
            return None;
        }
        let path = scratch.join("stalled-file");
        fs::write(&path, "").unwrap();
        let mut server = Command::new("python3")
            .args(["-c", SERVER])
            .arg(&path)
            .arg(file)
            .arg(stalls_at.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 8];
        server
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut said)
            .unwrap();
        assert_eq!(&said, b"mounted\n");
        // Closing it is something that is not waited for from now on.
        drop(fs::File::open(&path).unwrap());
        Some(Self { path, server })
    }
}

impl Drop for StalledFile {
    fn drop(&mut self) {
        // Without its server the filesystem answers everything with an error.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// Serves one regular file, the root of its filesystem. What it does not
/// answer it has not read either: such a request ends with its process.
const SERVER: &str = r#"
import ctypes, os, struct, sys, time
target, source, stalls_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = open(source, "rb").read()
fuse = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = "fd=%d,rootmode=100644,user_id=0,group_id=0" % fuse
if libc.mount(b"stalled", target.encode(), b"fuse", 0, options.encode()) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
print("mounted", flush=True)
attributes = struct.pack("<QQQQQQIIIIIIIIII", 1, len(data), (len(data) + 511) // 512,
    0, 0, 0, 0, 0, 0, 0o100644, 1, 0, 0, 0, 4096, 0)
def answer(unique, payload=b"", error=0):
    os.write(fuse, struct.pack("<IiQ", 16 + len(payload), error, unique) + payload)
while True:
    request = os.read(fuse, 1 << 20)
    length, opcode, unique = struct.unpack_from("<IIQ", request)
    body = request[40:]
    if opcode == 26:
        answer(unique, struct.pack("<IIIIHHI", 7, 12, 0, 0, 0, 0, 1 << 16))
    elif opcode == 3:
        answer(unique, struct.pack("<QII", 0, 0, 0) + attributes)
    elif opcode == 14:
        answer(unique, struct.pack("<QII", 1, 1, 0))
    elif opcode == 15:
        _, offset, size = struct.unpack_from("<QQI", body)
        answer(unique, data[offset:offset + size])
        if stalls_at <= offset < stalls_at + (1 << 20):
            time.sleep(1000)
    elif opcode == 18:
        answer(unique)
    elif opcode not in (2, 36):
        answer(unique, error=-38)
"#;
