//! `docker://`: registries, through skopeo.

use std::path::{Path, PathBuf};

use super::{
    Access, Artifact, Failing, LayerData, LayerForm, ResolvedImage, SourceError, Wanted,
    artifacts::in_repository,
    choose::choose,
    credentials::Credentials,
    files::verified,
    image::Documents,
    policy::judge_for_old_skopeo,
    skopeo::{Judge, Session, Skopeo, SkopeoOptions, runtime},
    spool::Spool,
};
use crate::{
    document::{DOCUMENT_LIMIT_BYTES, Descriptor, DocumentError, parse_manifest},
    name::{BlobDigest, ImageName, ManifestDigest},
};

/// A repository of a registry, and the way to ask it.
///
/// The top-level document's bytes come from `skopeo inspect --raw`: by tag once,
/// from then on by the digest of what came. skopeo's proxy, opened on that
/// digest, decides by the host's policy and serves the blobs; its `GetManifest`
/// is never asked, for it answers with converted bytes. All that skopeo hands
/// over is hashed here before it is parsed. Proxies before skopeo 1.14 ask no
/// policy at all: then only one that accepts anything lets the image in.
///
/// The policy is thus asked about `repository@digest`: a scope of policy.json
/// that names one tag does not apply, that of the repository does.
#[derive(Debug, Clone)]
pub struct Registry {
    options: SkopeoOptions,
    policy_paths: Vec<PathBuf>,
    location: ImageName,
}

/// What a fetch has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchStep {
    /// The blob is in the spool already.
    Reused {
        /// Which.
        digest: BlobDigest,
        /// Its size in bytes.
        size: u64,
    },
    /// The blob is asked for.
    Begun {
        /// Which.
        digest: BlobDigest,
        /// Its size in bytes.
        size: u64,
    },
    /// So many more bytes of the blob came.
    Came {
        /// How many.
        bytes: u64,
    },
    /// The blob is whole.
    Done {
        /// Which.
        digest: BlobDigest,
    },
}

impl Registry {
    /// The repository of `location`, and its tag or digest where what is wanted
    /// does not say another.
    ///
    /// The `policy_paths` are read where skopeo's proxy (before 1.14) asks no
    /// policy and the options name none.
    pub fn new(location: ImageName, options: SkopeoOptions, policy_paths: Vec<PathBuf>) -> Self {
        Self {
            options,
            policy_paths,
            location,
        }
    }

    /// Resolves `wanted` here: as the location's digest, the digest of the
    /// wanted name, that of its lock, or the location's tag.
    ///
    /// # Errors
    /// [`SourceError`]; its kind tells refusals, the network and damage apart.
    pub fn resolve(&self, wanted: &Wanted) -> Result<ResolvedImage, SourceError> {
        let skopeo = self.skopeo(&wanted.access)?;
        let runtime = runtime()?;
        let origin = self.origin();
        let pin = self.location.pinned().or_else(|| wanted.pins().next());

        let reference = match pin {
            Some(pin) => self.at(&pin),
            None => origin.clone(),
        };
        let top = runtime.block_on(skopeo.raw_document(&reference))?;
        if let Some(pin) = pin {
            let found = ManifestDigest::of(&top);
            if found != pin {
                return Err(SourceError::Mismatch {
                    what: "the manifest".into(),
                    origin: reference,
                    expected: pin.to_string(),
                    found: found.to_string(),
                });
            }
        }
        let top_digest = ManifestDigest::of(&top);
        let chosen = choose(top, &wanted.platform, &origin, &mut |child| {
            let reference = self.at(&child.digest.cast());
            let bytes = runtime.block_on(skopeo.raw_document(&reference))?;
            verified(bytes, child, "document", &origin)
        })?;
        let manifest =
            parse_manifest(&chosen.manifest).map_err(|source| SourceError::Document {
                what: format!("manifest {}", ManifestDigest::of(&chosen.manifest)),
                origin: origin.clone(),
                source,
            })?;

        let opened = self.at(&top_digest);
        let fetched = runtime.block_on(async {
            let session = skopeo.open(&opened).await?;
            let verdict = self.verdict(&session, &opened)?;
            let config = blob_in_memory(&session, &manifest.config, &origin).await?;
            Ok::<_, SourceError>((config, verdict))
        });
        runtime.shutdown_background();
        let (config, verdict) = fetched?;
        let documents = Documents {
            name: wanted.name.clone(),
            indexes: chosen.indexes,
            manifest: chosen.manifest,
            config,
            verdict,
        };
        wanted.resolved(documents, &origin)
    }

    /// Brings the blobs of `layers` of an image that was resolved here into the
    /// spool, except those that are there. A blob is hashed before it is there.
    ///
    /// # Errors
    /// [`SourceError`]; blobs that came before it stay for the next try.
    pub fn fetch(
        &self,
        image: &ResolvedImage,
        access: &Access,
        layers: &[usize],
        spool: &Spool,
        progress: &mut dyn FnMut(FetchStep),
    ) -> Result<(), SourceError> {
        let origin = self.origin();
        let mut missing: Vec<Descriptor> = Vec::new();
        for index in layers {
            let layer = image.layer(*index, &origin)?;
            let blob = Descriptor {
                digest: layer.blob_digest,
                size: layer.blob_size,
            };
            if missing.contains(&blob) {
                continue;
            }
            if spool.recheck(&blob.digest, blob.size)? {
                let Descriptor { digest, size } = blob;
                progress(FetchStep::Reused { digest, size });
            } else {
                missing.push(blob);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let top = match &image.index {
            Some((index, _)) => index.cast(),
            None => image.manifest_digest,
        };
        let skopeo = self.skopeo(access)?;
        let runtime = runtime()?;
        let fetched = runtime.block_on(async {
            let session = skopeo.open(&self.at(&top)).await?;
            for blob in missing {
                let Descriptor { digest, size } = blob;
                progress(FetchStep::Begun { digest, size });
                let mut part = spool.begin(&digest, size)?;
                let write = |bytes: &[u8]| {
                    progress(FetchStep::Came {
                        bytes: bytes.len() as u64,
                    });
                    part.write(bytes, &origin)
                };
                session.blob(&blob, write).await?;
                part.finish(&origin)?;
                progress(FetchStep::Done { digest });
            }
            Ok(())
        });
        runtime.shutdown_background();
        fetched
    }

    /// Opens layer `index` of an image whose blobs were fetched.
    ///
    /// # Errors
    /// [`SourceError::NotFetched`], or the system's.
    pub fn open_layer(
        &self,
        image: &ResolvedImage,
        index: usize,
        spool: &Spool,
    ) -> Result<LayerData, SourceError> {
        let layer = image.layer(index, &self.origin())?;
        let file = spool.open_blob(&layer.blob_digest)?;
        let file = file.ok_or_else(|| SourceError::NotFetched {
            index,
            image: image.name.to_string(),
        })?;
        let form = match spool.has_hashed(&layer.blob_digest) {
            true => LayerForm::HashedBlob,
            false => LayerForm::Blob,
        };
        let reader = Box::new(file);
        Ok(LayerData { reader, form })
    }

    /// Resolves `wanted` here if it is what the location names: a registry is
    /// no lookaside for anything else.
    pub(super) fn find(&self, wanted: &Wanted) -> Result<Option<ResolvedImage>, SourceError> {
        let named = wanted.name == self.location
            || (self.location.pinned()).is_some_and(|pin| wanted.pins().any(|want| want == pin));
        match named {
            true => self.resolve(wanted).map(Some),
            false => Ok(None),
        }
    }

    /// What the repository has that is about these documents, copied into
    /// layouts in `work`. No policy is asked: whoever uses them judges.
    pub(super) fn artifacts(
        &self,
        access: &Access,
        subjects: &[BlobDigest],
        work: &Path,
    ) -> Result<Vec<Artifact>, SourceError> {
        let skopeo = self.skopeo(access)?;
        let runtime = runtime()?;
        let mut ask = |reference: &str| match runtime.block_on(skopeo.raw_document(reference)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.failing() == Failing::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let mut copy = |reference: &str, folder: &Path| {
            let to = format!("oci:{}", folder.display());
            let limit = skopeo.options.idle;
            runtime.block_on(skopeo.copy(reference, &to, Judge::Nobody, limit, None))
        };
        let mut found = Vec::new();
        for subject in subjects {
            let repository = self.location.repository();
            found.extend(in_repository(
                repository, subject, work, &mut ask, &mut copy,
            )?);
        }
        Ok(found)
    }

    pub(super) fn origin(&self) -> String {
        format!("docker://{}", self.location)
    }

    fn at(&self, digest: &ManifestDigest) -> String {
        format!("docker://{}@{digest}", self.location.repository())
    }

    /// Why the image that was opened is accepted; a skopeo that does not ask the
    /// policy is not believed to have done so.
    fn verdict(&self, session: &Session, opened: &str) -> Result<String, SourceError> {
        let own = self.options.policy.as_slice();
        if session.has_judged {
            let policy = match own {
                [path] => path.display().to_string(),
                _ => "the host's policy".to_owned(),
            };
            return Ok(format!("skopeo accepts {opened} by {policy}"));
        }
        let paths = if own.is_empty() {
            &self.policy_paths
        } else {
            own
        };
        judge_for_old_skopeo(&self.location, paths).map_err(|source| SourceError::Denied {
            wanted: opened.to_owned(),
            origin: "its registry".to_owned(),
            source: Box::new(source),
        })
    }

    fn skopeo(&self, access: &Access) -> Result<Skopeo<'_>, SourceError> {
        let own = access.auth_file.iter();
        let files = own.chain(&self.options.auth_files);
        Ok(Skopeo {
            options: &self.options,
            tls_verify: self.options.tls_verify && access.tls_verify != Some(false),
            credentials: Credentials::choose(files)?,
        })
    }
}

async fn blob_in_memory(
    session: &Session,
    blob: &Descriptor,
    origin: &str,
) -> Result<Vec<u8>, SourceError> {
    let too_long = |found| SourceError::Document {
        what: format!("config {}", blob.digest),
        origin: origin.to_owned(),
        source: DocumentError::TooLong { found },
    };
    if blob.size > DOCUMENT_LIMIT_BYTES {
        return Err(too_long(blob.size));
    }
    let mut bytes = Vec::new();
    let gather = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        let found = bytes.len() as u64;
        match found > DOCUMENT_LIMIT_BYTES {
            true => Err(too_long(found)),
            false => Ok(()),
        }
    };
    session.blob(blob, gather).await?;
    verified(bytes, blob, "config", origin)
}
