//! How much memory a sync and a deep verify take at most: it must not grow with
//! the bytes of a layer, and only so much with its entries.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "common/host.rs"]
mod host;
#[path = "common/layout.rs"]
mod layout;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::Path,
    process::Command,
};

use flate2::{Compression, write::GzEncoder};
use host::Host;
use layout::{LayerBlob, Layout, StoredBlob};
use sha2::{Digest, Sha256};

const MIB: u64 = 1 << 20;
/// What no sync may need, however large its layers are.
const LIMIT: u64 = 128 * MIB;
/// What the program, its buffers and its codecs take before the first entry.
const BASE: u64 = 32 * MIB;
/// For each entry of the trees that the set image holds.
const PER_ENTRY: u64 = 1024;

/// Runs its arguments and prints the largest resident size they ever had, KiB.
const MEASURE: &str = "import os, sys
pid = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))";

/// The peak memory in bytes of the sync of `image`, which must succeed.
fn peak(host: &Host, image: &str) -> u64 {
    let bytes = peak_of(&host.command(&["-q", "sync", "--deployment", "d", "--image", image]));
    println!("{image}: {} MiB", bytes >> 20);
    bytes
}

/// The peak memory in bytes of a command, which must succeed.
fn peak_of(command: &Command) -> u64 {
    let output = Command::new("python3")
        .args(["-c", MEASURE])
        .arg(command.get_program())
        .args(command.get_args())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let kib: u64 = text.lines().last().unwrap().parse().unwrap();
    kib << 10
}

/// A writer that hashes what passes.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        let hash = Sha256::new();
        Self { inner, hash }
    }

    fn finish(self) -> (String, W) {
        let digest = format!("sha256:{}", hex::encode(self.hash.finalize()));
        (digest, self.inner)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.hash.update(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Bytes that no compressor makes much smaller (xorshift).
struct Noise(u64);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for chunk in buffer.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
        Ok(buffer.len())
    }
}

/// An image of one gzip layer that holds one file of `size` random bytes.
fn one_large_file(directory: &Path, size: u64) -> String {
    let mut layout = Layout::new(directory);
    let blob_path = directory.join("blob");
    let blob = BufWriter::with_capacity(1 << 20, File::create_new(&blob_path).unwrap());
    let gzip = GzEncoder::new(Hashing::new(blob), Compression::none());
    let mut tar = tar::Builder::new(Hashing::new(gzip));
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size);
    tar.append_data(&mut header, "large", Noise(size | 1).take(size))
        .unwrap();
    let (diff_id, gzip) = tar.into_inner().unwrap().finish();
    let (digest, mut blob) = gzip.finish().unwrap().finish();
    blob.flush().unwrap();
    let blob_size = fs::metadata(&blob_path).unwrap().len();
    fs::rename(&blob_path, layout.blob_path(&digest)).unwrap();
    let blob = StoredBlob {
        digest,
        size: blob_size,
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
        diff_id,
    };
    layout.image_of_stored("1", &[blob]);
    layout.arg("localhost/large:1", "1")
}

fn peak_of_one_large_file(size: u64) -> u64 {
    let host = Host::new();
    let image = one_large_file(&host.path("layout"), size);
    peak(&host, &image)
}

#[test]
fn memory_does_not_grow_with_bytes() {
    let (small, large) = (
        peak_of_one_large_file(32 * MIB),
        peak_of_one_large_file(512 * MIB),
    );
    assert!(large < LIMIT, "{large}");
    assert!(large < small + 8 * MIB, "{small}, then {large}");
}

#[test]
#[ignore = "needs 6 GiB of disk: `make test-long`"]
fn a_layer_of_3_gib_stays_under_the_limit() {
    let found = peak_of_one_large_file(3 << 30);
    assert!(found < LIMIT, "{found}");
}

/// One layer of `files` small files, each an object.
fn many_files(layer: usize, files: usize) -> LayerBlob {
    let mut tar = tar::Builder::new(Vec::new());
    for file in 0..files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000 + file as u64);
        header.set_size(100);
        let name = format!("layer-{layer}/directory-{:04}/file-{file:06}", file / 100);
        let content = format!("{:0100}", file % 1000);
        tar.append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    LayerBlob::gzip(&tar.into_inner().unwrap())
}

/// Each layer's tree holds those below it, so 4 layers of 20,000 files make a
/// set image of 200,000.
#[test]
fn memory_grows_with_entries_by_so_much_each() {
    for (layers, files) in [(1, 60_000), (4, 20_000)] {
        let host = Host::new();
        let mut layout = Layout::new(&host.path("layout"));
        let blobs: Vec<_> = (0..layers).map(|layer| many_files(layer, files)).collect();
        layout.image("1", &blobs);
        let in_one = (files + files / 100 + 1) as u64;
        let entries = in_one * (1..=layers as u64).sum::<u64>();
        let found = peak(&host, &layout.arg("localhost/many:1", "1"));
        println!(
            "{layers} layers, {entries} entries: {} bytes each",
            found / entries
        );
        assert!(found < BASE + entries * PER_ENTRY, "{found} for {entries}");
    }
}

/// An image of one layer of `files` files, each an object of `size` bytes that
/// no other has.
fn many_objects(layout: &mut Layout, files: u64, size: usize) -> String {
    let mut tar = tar::Builder::new(Vec::new());
    let mut content = vec![0; size];
    for file in 0..files {
        Noise(file + 1).read_exact(&mut content).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(size as u64);
        let name = format!("{:04}/{file:06}", file / 100);
        tar.append_data(&mut header, name, &content[..]).unwrap();
    }
    let tag = format!("{files}x{size}");
    layout.image(&tag, &[LayerBlob::plain(&tar.into_inner().unwrap())]);
    layout.arg("localhost/many:1", &tag)
}

/// What a deep verify of so many objects needs at most.
fn peak_of_verify(files: u64, size: usize, measure: impl FnOnce(&Host)) -> u64 {
    let host = Host::new();
    let mut layout = Layout::new(&host.path("layout"));
    let image = many_objects(&mut layout, files, size);
    host.ok(&["sync", "--deployment", "d", "--image", &image]);
    fs::remove_dir_all(&layout.path).unwrap();
    measure(&host);
    let peak = peak_of(&host.command(&["-q", "verify", "--deep"]));
    println!(
        "deep verify of {files} objects of {size} bytes: {} MiB",
        peak >> 20
    );
    assert!(peak < BASE + files * PER_ENTRY, "{peak} for {files}");
    peak
}

#[test]
fn a_deep_verify_does_not_grow_with_bytes() {
    let [small, large] = [512, 64 << 10].map(|size| peak_of_verify(1000, size, |_| {}));
    assert!(large < small + 8 * MIB, "{small}, then {large}");
}

/// Prints how fast it is, and how fast sha512sum is on the same files.
#[test]
#[ignore = "long: 100,000 objects, 1 GiB of disk"]
fn a_deep_verify_of_100_000_objects() {
    peak_of_verify(100_000, 8 << 10, |host| {
        let objects = host.path("repo/objects");
        let sum = "find . -type f -print0 | xargs -0 -P $(nproc) -n 256 sha512sum >/dev/null";
        let verify = || {
            let found = host.ok(&["-q", "verify", "--deep"]);
            assert!(found["objects"].as_u64().unwrap() > 100_000, "{found}");
        };
        let sha512sum = || {
            let mut command = Command::new("sh");
            command.args(["-c", sum]).current_dir(&objects);
            assert!(command.status().unwrap().success());
        };
        let timed = |what: &dyn Fn()| {
            let begun = std::time::Instant::now();
            what();
            begun.elapsed()
        };
        // Once each to have the files in the page cache, for both alike.
        for _ in 0..2 {
            println!(
                "sha512sum {:?}, verify --deep {:?}",
                timed(&sha512sum),
                timed(&verify)
            );
        }
    });
}
