//! What sets take on disk, and share: by the bytes of objects, each of which is
//! there once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
};

use serde::Serialize;

use crate::{
    name::{ImageName, ManifestDigest, ObjectId},
    repo::{DeploymentId, ImageStream, RepoError, RepoView, SetRecord},
};

/// What all sets take.
#[derive(Debug, Clone, Serialize)]
pub struct DiskUsage {
    /// Where the repository is.
    pub repository: PathBuf,
    /// The repository as a whole.
    pub bytes: RepositoryBytes,
    /// Each deployment that has a set.
    pub deployments: Vec<DeploymentUsage>,
    /// Each image of any set, by its manifest.
    pub images: Vec<ImageUsage>,
}

/// Bytes of a repository's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RepositoryBytes {
    /// All there are.
    pub total: u64,
    /// Those that are only in sets.
    pub sets: u64,
    /// Those that others alone have: the host's own files, on a composefs host.
    pub host: u64,
    /// Those that both have.
    pub both: u64,
    /// Those of neither: what was mounted or an unfinished sync keeps, and garbage.
    pub rest: u64,
}

/// The set of a deployment.
#[derive(Debug, Clone, Serialize)]
pub struct DeploymentUsage {
    /// Whose.
    pub id: DeploymentId,
    /// Its set image.
    pub set_image: ObjectId,
    /// What it takes; `shared` is with other deployments' sets.
    pub bytes: Bytes,
}

/// An image.
#[derive(Debug, Clone, Serialize)]
pub struct ImageUsage {
    /// Its manifest.
    pub manifest_digest: ManifestDigest,
    /// The names it is bound under.
    pub names: BTreeSet<ImageName>,
    /// The deployments that have it.
    pub deployments: Vec<DeploymentId>,
    /// What its layers take; `shared` is with other images.
    pub bytes: Bytes,
}

/// Bytes of objects. The last three make up the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// All that it needs.
    pub total: u64,
    /// What nobody else has: about what removing it would free.
    pub unique: u64,
    /// What others of its kind have, too, and the host has not.
    pub shared: u64,
    /// What the host has, too: streams and images that are not ours.
    pub host: u64,
}

/// Measures all sets. Takes no lock.
///
/// # Errors
/// A set, or a stream or image of others, is damaged.
pub fn disk_usage(view: &RepoView) -> Result<DiskUsage, RepoError> {
    let sizes = view.object_sizes()?;
    let host = view.reach_of_others()?.objects;
    let streams = view.streams()?;
    let mut sets = Vec::new();
    let mut images: BTreeMap<ManifestDigest, ImageUsage> = BTreeMap::new();
    for id in view.deployments()? {
        let Some(set) = view.set(&id)? else {
            continue;
        };
        for image in set.all_images() {
            let usage = images.entry(image.manifest_digest);
            let usage = usage.or_insert_with(|| ImageUsage {
                manifest_digest: image.manifest_digest,
                names: BTreeSet::new(),
                deployments: Vec::new(),
                bytes: Bytes::default(),
            });
            usage.names.insert(image.name.clone());
            if usage.deployments.last() != Some(&id) {
                usage.deployments.push(id.clone());
            }
        }
        let pin = SetRecord::stream_name(&set.set_image);
        let objects = streams.reach([&pin])?.objects;
        sets.push((id, set.set_image, objects));
    }
    let image_objects = images.keys().map(|manifest| {
        let stream = ImageStream::stream_name(manifest);
        Ok(streams.reach([&stream])?.objects)
    });
    let image_objects: Vec<_> = image_objects.collect::<Result<_, RepoError>>()?;
    let measure = |all: &[&BTreeSet<ObjectId>]| measure(all, &sizes, &host);
    let of_images = measure(&image_objects.iter().collect::<Vec<_>>());
    for (image, bytes) in images.values_mut().zip(of_images) {
        image.bytes = bytes;
    }
    let of_sets = measure(
        &sets
            .iter()
            .map(|(_, _, objects)| objects)
            .collect::<Vec<_>>(),
    );
    let ours: BTreeSet<_> = sets.iter().flat_map(|(_, _, objects)| objects).collect();
    Ok(DiskUsage {
        repository: view.path().to_owned(),
        bytes: of_repository(&sizes, &ours, &host),
        deployments: sets
            .iter()
            .zip(of_sets)
            .map(|((id, set_image, _), bytes)| DeploymentUsage {
                id: id.clone(),
                set_image: *set_image,
                bytes,
            })
            .collect(),
        images: images.into_values().collect(),
    })
}

type Sizes = BTreeMap<ObjectId, u64>;

/// The bytes of each of several that may share objects.
fn measure(all: &[&BTreeSet<ObjectId>], sizes: &Sizes, host: &BTreeSet<ObjectId>) -> Vec<Bytes> {
    let mut owners: HashMap<&ObjectId, usize> = HashMap::new();
    for id in all.iter().copied().flatten() {
        *owners.entry(id).or_default() += 1;
    }
    let one = |objects: &&BTreeSet<ObjectId>| {
        let mut bytes = Bytes::default();
        for id in *objects {
            let size = sizes.get(id).copied().unwrap_or_default();
            bytes.total += size;
            if host.contains(id) {
                bytes.host += size;
            } else if owners.get(id).is_some_and(|owners| *owners > 1) {
                bytes.shared += size;
            } else {
                bytes.unique += size;
            }
        }
        bytes
    };
    all.iter().map(one).collect()
}

fn of_repository(
    sizes: &Sizes,
    ours: &BTreeSet<&ObjectId>,
    host: &BTreeSet<ObjectId>,
) -> RepositoryBytes {
    let mut bytes = RepositoryBytes {
        total: 0,
        sets: 0,
        host: 0,
        both: 0,
        rest: 0,
    };
    for (id, size) in sizes {
        bytes.total += size;
        let part = match (ours.contains(id), host.contains(id)) {
            (true, true) => &mut bytes.both,
            (true, false) => &mut bytes.sets,
            (false, true) => &mut bytes.host,
            (false, false) => &mut bytes.rest,
        };
        *part += size;
    }
    bytes
}
