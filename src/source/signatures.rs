//! Signatures of images from a layout: brought before skopeo, which judges.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{
    Layout, ResolvedImage, SourceError, SourceOptions,
    policy::{HostPolicy, PolicyError, pinned},
    skopeo::{Skopeo, SkopeoOptions, runtime},
    spool::create_spool_dir,
};
use crate::{
    error::{Doing, PathError},
    name::{BlobDigest, ManifestDigest},
    sys::WorkDir,
};

/// One signature of sigstore. Whoever made the layout wrote every byte of it.
#[derive(Debug)]
pub(super) struct Signature {
    /// What is signed.
    pub(super) payload: Vec<u8>,
    pub(super) media_type: String,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Signature {
    /// The file of a `dir:` that holds it (containers/image,
    /// `internal/signature`).
    fn to_file(&self) -> Vec<u8> {
        let json = json!({
            "mimeType": self.media_type,
            "payload": STANDARD.encode(&self.payload),
            "annotations": self.annotations,
        });
        format!("\0sigstore-json\n{json}").into_bytes()
    }
}

/// The document that is signed.
#[derive(Debug, Clone, Copy)]
enum Signed {
    /// The manifest of the platform.
    Manifest,
    /// The index that it was chosen from.
    Index,
}

/// The signatures that a layout holds of an image.
struct Attached {
    signed: Signed,
    digest: BlobDigest,
    signatures: Vec<Signature>,
}

/// The verdict on an image from a layout: as for any native source, but where
/// the policy asks for a signature of sigstore, skopeo checks the layout's own.
///
/// The signature of the manifest counts first, as for podman; where only the
/// index has one, that does, as for skopeo's proxy and so for a registry.
///
/// # Errors
/// [`SourceError::Denied`]: refused. All else: skopeo could not be asked.
pub(super) fn judge_signed(
    image: &ResolvedImage,
    locked: Option<ManifestDigest>,
    layout: &Layout,
    options: &SourceOptions,
) -> Result<String, SourceError> {
    if let Some(verdict) = pinned(&image.name, locked) {
        return Ok(verdict);
    }
    let denied = |source| SourceError::Denied {
        wanted: image.name.to_string(),
        origin: layout.origin().to_owned(),
        source: Box::new(source),
    };
    let policy = HostPolicy::load(&options.policy_paths).map_err(denied)?;
    let Some(scope) = policy.signed(&image.name).map_err(denied)? else {
        return policy.judge(&image.name).map_err(denied);
    };
    let asks = || scope.asks.clone();
    let unsigned = |reason, way_out| {
        let asks = asks();
        denied(PolicyError::Unsigned {
            asks,
            reason,
            way_out,
        })
    };
    let attached = Attached::find(image, layout).map_err(|source| {
        let (asks, source) = (asks(), Box::new(source));
        denied(PolicyError::Damaged { asks, source })
    })?;
    let Some(attached) = attached else {
        let tag = format!("sha256-{}.sig", image.manifest_digest.hex());
        return Err(unsigned(
            format!("{} has no {tag}", layout.origin()),
            "copy the image's signature into the layout under that name, or pin the image by @sha256: or by a lock",
        ));
    };
    let digest = attached.digest;
    let bench = Bench::set_up(&options.spool_dir, image, &attached)?;
    let policy = bench.write("policy.json", scope.derived.to_string().as_bytes())?;
    let skopeo = SkopeoOptions {
        policy: Some(policy),
        ..options.skopeo.clone()
    };
    match bench.judge(&skopeo, attached.signed, &image.name.to_string()) {
        Ok(true) => {
            let what = match attached.signed {
                Signed::Manifest => "manifest",
                Signed::Index => "index",
            };
            Ok(format!(
                "{}, and skopeo accepts the signature of {what} {digest} that {} holds",
                scope.asks,
                layout.origin(),
            ))
        }
        Ok(false) => Err(unsigned(
            format!(
                "only index {digest} is signed, and the proxy of a skopeo before 1.14 checks no signatures"
            ),
            "sign the manifests too (cosign sign --recursive), install a later skopeo, or pin the image by @sha256: or by a lock",
        )),
        Err(SourceError::Denied { source, .. }) => {
            let said = match *source {
                PolicyError::Skopeo { message } => message,
                other => other.to_string(),
            };
            let way_out = match said.contains("sigstore disabled") {
                true => {
                    "install a skopeo that checks signatures of sigstore (Debian 12's does not), or pin the image by @sha256: or by a lock"
                }
                false => {
                    "sign the image under this name with a key that the policy trusts, or pin it by @sha256: or by a lock"
                }
            };
            Err(unsigned(format!("skopeo says: {said}"), way_out))
        }
        Err(error) => Err(error),
    }
}

impl Attached {
    /// The signatures of the manifest, else of the index.
    fn find(image: &ResolvedImage, layout: &Layout) -> Result<Option<Self>, SourceError> {
        let index = image.index.as_ref();
        let index = index.map(|(digest, _)| (Signed::Index, digest.cast()));
        let manifest = (Signed::Manifest, image.manifest_digest.cast());
        for (signed, digest) in [manifest].into_iter().chain(index) {
            let signatures = layout.signatures(&digest)?;
            if !signatures.is_empty() {
                return Ok(Some(Self {
                    signed,
                    digest,
                    signatures,
                }));
            }
        }
        Ok(None)
    }
}

/// A folder in the spool with all that skopeo needs to judge one image; removed
/// when dropped.
struct Bench(WorkDir);

impl Bench {
    fn set_up(
        spool_dir: &Path,
        image: &ResolvedImage,
        attached: &Attached,
    ) -> Result<Self, SourceError> {
        create_spool_dir(spool_dir)?;
        let bench = Self(WorkDir::new_in(spool_dir, "signature.")?);
        bench.write("image/version", b"Directory Transport Version: 1.1\n")?;
        let document = match (attached.signed, &image.index) {
            (Signed::Index, Some((_, index))) => index,
            _ => &image.manifest,
        };
        bench.write("image/manifest.json", document)?;
        bench.write(
            &format!("image/{}", image.config_digest.hex()),
            &image.config,
        )?;
        for (at, signature) in attached.signatures.iter().enumerate() {
            bench.write(&format!("image/signature-{}", at + 1), &signature.to_file())?;
        }
        // skopeo reads no layer that is there: whoever imports it hashes it.
        for layer in &image.layers {
            bench.write(
                &format!("copy/blobs/sha256/{}", layer.blob_digest.hex()),
                b"",
            )?;
        }
        Ok(bench)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, PathError> {
        let path = self.0.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).doing("create folder", parent)?;
        }
        fs::write(&path, bytes).doing("write", &path)?;
        Ok(path)
    }

    /// Whether skopeo has checked the signatures; that they do not hold is an
    /// error. `skopeo copy` looks at those of a manifest alone, its proxy at
    /// those of what it is given.
    fn judge(
        &self,
        options: &SkopeoOptions,
        signed: Signed,
        reference: &str,
    ) -> Result<bool, SourceError> {
        let skopeo = Skopeo {
            options,
            tls_verify: true,
            credentials: None,
        };
        let (from, to) = (self.0.path().join("image"), self.0.path().join("copy"));
        let runtime = runtime()?;
        match signed {
            Signed::Manifest => {
                let judged = skopeo.judge_dir(&from, &to, reference);
                runtime.block_on(judged).map(|()| true)
            }
            Signed::Index => runtime.block_on(async {
                let session = skopeo.open(&format!("dir:{}", from.display())).await?;
                Ok(session.has_judged)
            }),
        }
    }
}
