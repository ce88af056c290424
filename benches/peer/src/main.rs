//! What `make bench` compares with and that is no program of its own.
//!
//! ```text
//! peer composefs-oci LAYOUT TAG REPO   composefs-oci's native import
//! peer proxy REFERENCE                 skopeo's proxy, its blobs to nowhere
//! peer floor LAYOUT TAG DIR            each thing that an import must do, alone
//! ```

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use boundstore::{name::Algorithm, repo::fs_verity_digest};
use composefs::{
    fsverity::{Algorithm as Alg, Sha512HashValue},
    repository::{Repository, RepositoryConfig},
};
use composefs_oci::{
    oci_layout::{OciLayoutKind, import_oci_layout},
    progress::NullReporter,
};
use containers_image_proxy::{ImageProxy, ImageProxyConfig};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zlib_rs::{Inflate, InflateFlush, Status};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["composefs-oci", layout, tag, repo] => in_runtime(composefs_oci(layout, tag, repo)),
        ["proxy", reference] => in_runtime(proxy(reference)),
        ["floor", layout, tag, dir] => floor(Path::new(layout), tag, Path::new(dir)),
        _ => bail!("usage: peer composefs-oci|proxy|floor ..: see its source"),
    }
}

fn in_runtime(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(work)
}

async fn composefs_oci(layout: &str, tag: &str, repo: &str) -> Result<()> {
    let config = RepositoryConfig::new(Alg::Sha512 { lg_blocksize: 12 }).set_insecure();
    let at = File::open("/")?;
    let (repo, _) = Repository::<Sha512HashValue>::init_path(&at, repo, config)?;
    let (repo, layout) = (Arc::new(repo), Path::new(layout));
    let kind = OciLayoutKind::Directory;
    import_oci_layout(&repo, kind, layout, Some(tag), Arc::new(NullReporter)).await?;
    Ok(())
}

async fn proxy(reference: &str) -> Result<()> {
    let mut config = ImageProxyConfig::default();
    config.insecure_skip_tls_verification = Some(true);
    let proxy = ImageProxy::new_with_config(config).await?;
    let opened = proxy.open_image(reference).await?;
    let (_, manifest) = proxy.fetch_manifest(&opened).await?;
    for layer in manifest.layers() {
        let (mut blob, driver) = proxy
            .get_blob(&opened, layer.digest(), layer.size())
            .await?;
        let mut nowhere = tokio::io::sink();
        let (copied, driven) = tokio::join!(tokio::io::copy(&mut blob, &mut nowhere), driver);
        driven?;
        copied?;
    }
    Ok(())
}

/// The layers' blobs of an image in a layout.
fn blobs(layout: &Path, tag: &str) -> Result<Vec<Vec<u8>>> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let document = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes);
    let blob = |digest: &Value| {
        let digest = digest.as_str().unwrap_or_default().replace(':', "/");
        read(&layout.join("blobs").join(digest))
    };
    let index = document(read(&layout.join("index.json"))?)?;
    let manifests = index["manifests"].as_array().context("no index")?;
    let is_it = |it: &&Value| it["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let found = manifests.iter().find(is_it).context("no such tag")?;
    let manifest = document(blob(&found["digest"])?)?;
    let layers = manifest["layers"].as_array().context("no layers")?;
    layers.iter().map(|layer| blob(&layer["digest"])).collect()
}

fn unpack(blob: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Vec::new();
    if blob.starts_with(&[0x1f, 0x8b]) {
        // Not flate2, which has composefs-oci's zlib here.
        let (mut inflate, mut piece) = (Inflate::new(true, 16 + 15), vec![0; 256 << 10]);
        let mut status = Status::Ok;
        while status != Status::StreamEnd {
            let read = usize::try_from(inflate.total_in())?;
            let inflated = inflate.decompress(&blob[read..], &mut piece, InflateFlush::NoFlush);
            status = inflated.map_err(|error| anyhow!("inflate: {error:?}"))?;
            ensure!(read < blob.len(), "a gzip without end");
            let made = usize::try_from(inflate.total_out())? - tar.len();
            tar.extend_from_slice(&piece[..made]);
        }
    } else if blob.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        tar = zstd::decode_all(blob)?;
    }
    Ok(tar)
}

/// Prints how many seconds one core takes for each part; what it writes is
/// durable at the end.
fn floor(layout: &Path, tag: &str, dir: &Path) -> Result<()> {
    let mut seconds = serde_json::Map::new();
    let mut timed = |what: &str, work: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let begun = Instant::now();
        work()?;
        let spent = begun.elapsed().as_secs_f64();
        seconds.insert(what.to_owned(), json!(spent));
        Ok(())
    };
    let blobs = blobs(layout, tag)?;
    let mut tars = Vec::new();
    timed("decompress", &mut || {
        tars = blobs
            .iter()
            .map(|blob| unpack(blob))
            .collect::<Result<_>>()?;
        Ok(())
    })?;
    let is_packed = |at: usize| !tars[at].is_empty();
    let tars: Vec<&[u8]> = (0..blobs.len())
        .map(|at| {
            if is_packed(at) {
                &*tars[at]
            } else {
                &*blobs[at]
            }
        })
        .collect();
    timed("SHA-256 of the tars", &mut || {
        for tar in &tars {
            std::hint::black_box(Sha256::digest(tar));
        }
        Ok(())
    })?;
    // An uncompressed blob is the tar: once is enough.
    timed("SHA-256 of the blobs", &mut || {
        for (blob, tar) in blobs.iter().zip(&tars) {
            if blob.len() != tar.len() {
                std::hint::black_box(Sha256::digest(blob));
            }
        }
        Ok(())
    })?;
    let mut files = Vec::new();
    for tar in &tars {
        for entry in tar::Archive::new(*tar).entries()? {
            let entry = entry?;
            let (at, size) = (entry.raw_file_position(), entry.size());
            let (at, end) = (usize::try_from(at)?, usize::try_from(at + size)?);
            if size > 64 && entry.header().entry_type().is_file() {
                files.push(&tar[at..end]);
            }
        }
    }
    let mut names = Vec::new();
    timed("fs-verity digests, SHA-512", &mut || {
        let digest =
            |file: &&[u8]| hex::encode(fs_verity_digest(Algorithm::Sha512, file).as_bytes());
        names = files.iter().map(digest).collect();
        Ok(())
    })?;
    for folder in 0..=255 {
        fs::create_dir_all(dir.join(format!("{folder:02x}")))?;
    }
    timed("files: made, written, linked, durable", &mut || {
        for (file, name) in files.iter().zip(&names) {
            const O_TMPFILE: i32 = 0o20_200_000;
            let folder = dir.join(&name[..2]);
            let path = folder.join(&name[2..]);
            let mut options = fs::OpenOptions::new();
            let mut made = options.write(true).custom_flags(O_TMPFILE).open(&folder)?;
            made.write_all(file)?;
            let linked = rustix::fs::linkat(
                &made,
                "",
                rustix::fs::CWD,
                &path,
                rustix::fs::AtFlags::EMPTY_PATH,
            );
            if !matches!(linked, Ok(()) | Err(rustix::io::Errno::EXIST)) {
                linked?;
            }
        }
        rustix::fs::syncfs(File::open(dir)?)?;
        Ok(())
    })?;
    writeln!(std::io::stdout(), "{}", Value::Object(seconds))?;
    Ok(())
}
