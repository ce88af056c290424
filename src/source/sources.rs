//! All sources together: what is at hand first, then an image's own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Access, Artifact, ContainersStorage, DockerArchive, LayerData, Layout, ResolvedImage,
    SourceError, SourceRef, Wanted,
    artifacts::in_layout,
    policy::judge_native,
    registry::{FetchStep, Registry},
    signatures::judge_signed,
    skopeo::SkopeoOptions,
    spool::Spool,
};
use crate::name::ImageName;

/// What all sources need to know of the host. The library reads no environment:
/// whoever calls it fills this in.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Where compressed archives are decompressed to, as unnamed files, and where
    /// skopeo is shown the signatures of a layout, in a folder that is removed.
    pub spool_dir: PathBuf,
    /// Where the host's policy.json may be, in order: the user's, then
    /// `/etc/containers/policy.json`. For native sources, and for a skopeo before
    /// 1.14; later ones find it themselves.
    pub policy_paths: Vec<PathBuf>,
    /// How skopeo is run.
    pub skopeo: SkopeoOptions,
}

/// The sources that images are looked for in, in order: the lookasides
/// (`--from`), then each image's own SOURCE or the registry of its name.
#[derive(Debug)]
pub struct Sources {
    lookasides: Vec<Arc<Source>>,
    options: SourceOptions,
}

/// One opened source.
#[derive(Debug)]
enum Source {
    ContainersStorage(ContainersStorage),
    Layout(Arc<Layout>),
    DockerArchive(DockerArchive),
    Registry(Registry),
}

/// An image that was found, with the source it was found in.
#[derive(Debug, Clone)]
pub struct Found {
    /// The image.
    pub image: ResolvedImage,
    /// The source, as text.
    pub origin: String,
    source: Arc<Source>,
    access: Access,
}

impl Sources {
    /// Opens the lookasides.
    ///
    /// # Errors
    /// [`SourceError`]: one is missing, damaged or of no known kind. An empty
    /// one is none.
    pub fn open(lookasides: &[SourceRef], options: SourceOptions) -> Result<Self, SourceError> {
        let open = |reference| Source::open(reference, &options).map(Arc::new);
        Ok(Self {
            lookasides: lookasides.iter().map(open).collect::<Result<_, _>>()?,
            options,
        })
    }

    /// Resolves `wanted`: the first lookaside that holds it by full name or by
    /// digest, else its own SOURCE, else the registry of its name.
    ///
    /// Damage in a lookaside that holds it is an error and not passed over: the
    /// next one may have another image of this name.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn resolve(&self, wanted: &Wanted) -> Result<Found, SourceError> {
        for source in &self.lookasides {
            if let Some(image) = source.find(wanted)? {
                return self.accept(wanted, image, Arc::clone(source));
            }
        }
        let source = match &wanted.source {
            Some(reference) => Source::open(reference, &self.options)?,
            None => Source::registry(&wanted.name, &self.options),
        };
        let image = source.resolve(wanted)?;
        self.accept(wanted, image, Arc::new(source))
    }

    fn accept(
        &self,
        wanted: &Wanted,
        image: ResolvedImage,
        source: Arc<Source>,
    ) -> Result<Found, SourceError> {
        let origin = source.origin();
        let verdict = match &*source {
            Source::Registry(_) => image.verdict.clone(),
            Source::Layout(layout) => judge_signed(&image, wanted.locked, layout, &self.options)?,
            _ => {
                let paths = &self.options.policy_paths;
                let judged = judge_native(&wanted.name, wanted.locked, paths);
                judged.map_err(|source| SourceError::Denied {
                    wanted: wanted.name.to_string(),
                    origin: origin.clone(),
                    source: Box::new(source),
                })?
            }
        };
        let image = image.with_verdict(verdict);
        Ok(Found {
            image,
            origin,
            source,
            access: wanted.access.clone(),
        })
    }
}

impl Source {
    fn open(reference: &SourceRef, options: &SourceOptions) -> Result<Self, SourceError> {
        let spool_dir = &options.spool_dir;
        Ok(match reference {
            SourceRef::Docker(name) => Self::registry(name, options),
            SourceRef::Oci { path, reference } => {
                Self::Layout(Layout::open_dir(path, reference.as_deref())?.into())
            }
            SourceRef::OciArchive { path, reference } => {
                Self::Layout(Layout::open_archive(path, reference.as_deref(), spool_dir)?.into())
            }
            SourceRef::DockerArchive { path, reference } => {
                Self::DockerArchive(DockerArchive::open(path, reference.as_deref(), spool_dir)?)
            }
            SourceRef::ContainersStorage {
                path,
                driver,
                reference,
            } => Self::ContainersStorage(ContainersStorage::open(
                path.as_deref(),
                driver.as_deref(),
                reference.as_deref(),
            )?),
        })
    }

    fn registry(name: &ImageName, options: &SourceOptions) -> Self {
        let (skopeo, policies) = (options.skopeo.clone(), options.policy_paths.clone());
        Self::Registry(Registry::new(name.clone(), skopeo, policies))
    }

    fn origin(&self) -> String {
        match self {
            Self::ContainersStorage(storage) => storage.origin().to_owned(),
            Self::Layout(layout) => layout.origin().to_owned(),
            Self::DockerArchive(archive) => archive.origin().to_owned(),
            Self::Registry(registry) => registry.origin(),
        }
    }

    fn resolve(&self, wanted: &Wanted) -> Result<ResolvedImage, SourceError> {
        match self {
            Self::ContainersStorage(storage) => storage.resolve(wanted),
            Self::Layout(layout) => layout.resolve(wanted),
            Self::DockerArchive(archive) => archive.resolve(wanted),
            Self::Registry(registry) => registry.resolve(wanted),
        }
    }

    fn find(&self, wanted: &Wanted) -> Result<Option<ResolvedImage>, SourceError> {
        match self {
            Self::ContainersStorage(storage) => storage.find(wanted),
            Self::Layout(layout) => layout.find(wanted),
            Self::DockerArchive(archive) => archive.find(wanted),
            Self::Registry(registry) => registry.find(wanted),
        }
    }
}

impl Found {
    /// Whether layers must be fetched before they can be opened.
    pub fn needs_fetch(&self) -> bool {
        matches!(*self.source, Source::Registry(_))
    }

    /// How many bytes [`Found::fetch`] would bring over the network for
    /// `layers`, besides what `spool` holds.
    pub fn bytes_to_fetch(&self, layers: &[usize], spool: Option<&Spool>) -> u64 {
        if !self.needs_fetch() {
            return 0;
        }
        let mut blobs: Vec<_> = layers
            .iter()
            .filter_map(|index| self.image.layers.get(*index))
            .map(|layer| (layer.blob_digest, layer.blob_size))
            .filter(|(digest, size)| !spool.is_some_and(|spool| spool.holds(digest, *size)))
            .collect();
        blobs.sort_unstable();
        blobs.dedup();
        blobs.iter().map(|(_, size)| size).sum()
    }

    /// Brings the blobs of `layers` into `spool`, hashed; does nothing where the
    /// source is at hand. Hold no lock of a repository meanwhile.
    ///
    /// # Errors
    /// [`SourceError`]; blobs that came before it stay for the next try.
    pub fn fetch(
        &self,
        layers: &[usize],
        spool: &Spool,
        progress: &mut dyn FnMut(FetchStep),
    ) -> Result<(), SourceError> {
        match &*self.source {
            Source::Registry(registry) => {
                registry.fetch(&self.image, &self.access, layers, spool, progress)
            }
            _ => Ok(()),
        }
    }

    /// Signatures, attestations and SBOMs of the image, and of the index it was
    /// chosen from: those of a layout, or of a registry, which are then copied into
    /// `work`. Nobody has judged them.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn artifacts(&self, work: &Path) -> Result<Vec<Artifact>, SourceError> {
        let mut subjects = vec![self.image.manifest_digest.cast()];
        subjects.extend(self.image.index.iter().map(|(digest, _)| digest.cast()));
        match &*self.source {
            Source::Registry(registry) => registry.artifacts(&self.access, &subjects, work),
            Source::Layout(layout) => {
                let found = subjects.iter().map(|subject| in_layout(layout, subject));
                Ok(found.collect::<Result<Vec<_>, _>>()?.concat())
            }
            Source::ContainersStorage(_) | Source::DockerArchive(_) => Ok(Vec::new()),
        }
    }

    /// Opens layer `index`: from `spool` if it had to be fetched.
    ///
    /// # Errors
    /// [`SourceError`]: not fetched, missing, of the wrong size, unreadable.
    pub fn open_layer(
        &self,
        index: usize,
        spool: Option<&Spool>,
    ) -> Result<LayerData, SourceError> {
        match (&*self.source, spool) {
            (Source::ContainersStorage(storage), _) => storage.open_layer(&self.image, index),
            (Source::Layout(layout), _) => layout.open_layer(&self.image, index),
            (Source::DockerArchive(archive), _) => archive.open_layer(&self.image, index),
            (Source::Registry(registry), Some(spool)) => {
                registry.open_layer(&self.image, index, spool)
            }
            (Source::Registry(_), None) => Err(SourceError::NotFetched {
                index,
                image: self.image.name.to_string(),
            }),
        }
    }
}
