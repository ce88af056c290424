//! Records: what an imported image and a published set consist of.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    Repo, RepoError, RepoView, StagedStream, StoredLayer, StreamParts, stream::layer_name,
};
use crate::name::{ConfigDigest, DiffId, ImageName, IndexDigest, ManifestDigest, ObjectId};

/// `bndimag1`, little endian: the content type of an image stream.
const IMAGE: u64 = u64::from_le_bytes(*b"bndimag1");
/// `bndset_1`, little endian: the content type of a pin.
const SET: u64 = u64::from_le_bytes(*b"bndset_1");

/// The name of a deployment: ours to choose for hosts without bootc, else
/// ostree's `<stateroot>-<checksum>.<serial>` or composefs' digest.
///
/// It is a file name below `refs/`: 1 to 200 of `[A-Za-z0-9._-]`, not beginning with a dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct DeploymentId(String);

/// A text that names no deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no deployment id: 1 to 200 of [A-Za-z0-9._-], not beginning with a dot (booted, staged, rollback and all are roles, not ids)"
)]
pub struct DeploymentIdError(String);

/// Words that stand for deployments by their role.
const RESERVED: [&str; 4] = ["booted", "staged", "rollback", "all"];

impl DeploymentId {
    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn reference(&self) -> String {
        format!("deployments/{}", self.0)
    }
}

impl FromStr for DeploymentId {
    type Err = DeploymentIdError;

    fn from_str(text: &str) -> Result<Self, DeploymentIdError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let valid = (1..=200).contains(&text.len())
            && !text.starts_with('.')
            && text.bytes().all(plain)
            && !RESERVED.contains(&text);
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(DeploymentIdError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for DeploymentId {
    type Error = DeploymentIdError;

    fn try_from(text: String) -> Result<Self, DeploymentIdError> {
        text.parse()
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An imported image: its documents, and by their DiffIDs its layers.
///
/// `boundstore-image-v1-<manifest digest>`: inline a JSON document of this
/// shape; a named reference for each layer stream, so that what keeps the
/// image keeps its layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageStream {
    /// The manifest's digest.
    pub manifest_digest: ManifestDigest,
    /// The manifest's bytes, base64.
    #[serde(with = "base64_bytes")]
    pub manifest: Vec<u8>,
    /// The config's digest.
    pub config_digest: ConfigDigest,
    /// The config's bytes, base64.
    #[serde(with = "base64_bytes")]
    pub config: Vec<u8>,
    /// The layers, base first.
    pub layers: Vec<DiffId>,
}

/// A published set: what `status` and `mount` need to know, without rendering.
///
/// `boundstore-set-v1-<set image>`, the pin: inline a JSON document of this
/// shape; a named reference for each image and layer stream and an object
/// reference for every object of the set, the set image included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRecord {
    /// The number of what rendered these inputs to these bytes. A newer
    /// boundstore may have published it: [`SetFormat`](crate::name::SetFormat)
    /// is what this one renders.
    pub format: u32,
    /// fs-verity digest of the set image: its object's name.
    pub set_image: ObjectId,
    /// The set image's size in bytes.
    pub set_image_bytes: u64,
    /// The bound images, by name.
    pub images: Vec<SetImageRecord>,
    /// Images that the set has besides, without their names, for what stands
    /// on them on the host; by image ID. `name` is that they were bound under.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub kept: Vec<SetImageRecord>,
}

/// One bound image of a published set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetImageRecord {
    /// The name it is bound under.
    pub name: ImageName,
    /// Its manifest.
    pub manifest_digest: ManifestDigest,
    /// The index it was chosen from, where its name pins that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub index_digest: Option<IndexDigest>,
    /// Its config: the image ID.
    pub config_digest: ConfigDigest,
    /// Its layers, base first.
    pub layers: Vec<DiffId>,
    /// The size of all its layers' tars in bytes.
    pub bytes: u64,
    /// Why it was accepted.
    pub verdict: String,
}

impl ImageStream {
    /// The name of the stream of an image.
    pub fn stream_name(manifest: &ManifestDigest) -> String {
        format!("boundstore-image-v1-{manifest}")
    }
}

impl SetRecord {
    pub(super) const STREAM_PREFIX: &str = "boundstore-set-v1-";

    /// The name of the pin of a set image.
    pub fn stream_name(set_image: &ObjectId) -> String {
        format!("{}{set_image}", Self::STREAM_PREFIX)
    }

    /// All images whose layers the store tree has: bound ones and kept ones.
    pub fn all_images(&self) -> impl Iterator<Item = &SetImageRecord> {
        self.images.iter().chain(&self.kept)
    }
}

fn to_json(value: &impl Serialize, name: &str) -> Result<Vec<u8>, RepoError> {
    serde_json::to_vec(value).map_err(|error| RepoError::Write {
        what: name.to_owned(),
        source: error.into(),
    })
}

fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], name: &str) -> Result<T, RepoError> {
    serde_json::from_slice(bytes).map_err(|error| RepoError::BadStream {
        name: name.to_owned(),
        source: error.into(),
    })
}

impl Repo {
    /// Stages the record of an imported image, whose layer streams these are.
    ///
    /// # Errors
    /// Whatever writing says.
    pub fn stage_image(
        &self,
        image: &ImageStream,
        layers: &[StoredLayer],
    ) -> Result<StagedStream, RepoError> {
        let layers = layers.iter();
        let layers = layers.map(|layer| (layer_name(&layer.diff_id), layer.stream));
        self.stage_image_of(image, &layers.collect::<Vec<_>>())
    }

    fn stage_image_of(
        &self,
        image: &ImageStream,
        layers: &[(String, ObjectId)],
    ) -> Result<StagedStream, RepoError> {
        let name = ImageStream::stream_name(&image.manifest_digest);
        let content = to_json(image, &name)?;
        let staged = self.stage_record(IMAGE, &name, &content, layers, &[])?;
        Ok(staged.kept_as(image.manifest_digest.hex()))
    }

    /// Registers an imported image, kept by a partial ref. Its layers must be
    /// registered already.
    ///
    /// # Errors
    /// [`RepoError::MissingStream`] where a layer is not there.
    pub fn register_image(&self, image: &ImageStream) -> Result<(), RepoError> {
        let layers = self.layer_references(&image.layers)?;
        self.register(&[self.stage_image_of(image, &layers)?])
    }

    fn layer_references(&self, layers: &[DiffId]) -> Result<Vec<(String, ObjectId)>, RepoError> {
        layers
            .iter()
            .map(|diff_id| {
                let name = layer_name(diff_id);
                let id = self.view().stream(&name)?;
                id.map(|id| (name.clone(), id))
                    .ok_or(RepoError::MissingStream(name))
            })
            .collect()
    }

    /// THE COMMIT POINT: lets `deployment` have this set. Before it returns,
    /// all that the set needs is durable and covered by the pin; a crash at
    /// any instant leaves the old set or the new one.
    ///
    /// # Errors
    /// [`RepoError::MissingObject`], [`RepoError::MissingStream`] where a part
    /// is not there: nothing was published then.
    pub fn publish(
        &self,
        deployment: &DeploymentId,
        set: &SetRecord,
        objects: &[ObjectId],
    ) -> Result<(), RepoError> {
        self.pin(set, objects)?;
        let name = SetRecord::stream_name(&set.set_image);
        self.set_reference(&deployment.reference(), &name)?;
        self.drop_partial(set)
    }

    /// Writes the pin of a set, durably; whichever refs name it go on doing so.
    ///
    /// # Errors
    /// As those of [`Repo::publish`]; the pin is as it was then.
    pub fn pin(&self, set: &SetRecord, objects: &[ObjectId]) -> Result<(), RepoError> {
        let mut streams = Vec::new();
        for image in set.all_images() {
            let name = ImageStream::stream_name(&image.manifest_digest);
            let id = self.view().stream(&name)?;
            streams.push((name.clone(), id.ok_or(RepoError::MissingStream(name))?));
            streams.extend(self.layer_references(&image.layers)?);
        }
        streams.sort();
        streams.dedup();
        let mut all = objects.to_vec();
        all.extend(streams.iter().map(|(_, id)| *id));
        if let Some(missing) = self.view().missing_object(&all)? {
            return Err(RepoError::MissingObject(missing));
        }
        let name = SetRecord::stream_name(&set.set_image);
        let content = to_json(set, &name)?;
        self.register(&[self.stage_record(SET, &name, &content, &streams, objects)?])
    }

    /// What the set's pin covers needs no partial ref any more.
    ///
    /// # Errors
    /// Whatever removing a ref says.
    pub fn drop_partial(&self, set: &SetRecord) -> Result<(), RepoError> {
        let images = set.all_images().flat_map(|image| {
            let layers = image.layers.iter().map(DiffId::hex);
            layers.chain([image.manifest_digest.hex()])
        });
        self.remove_references(images.map(|hex| format!("partial/{hex}")))?;
        Ok(())
    }

    /// Takes a deployment's set away; says whether it had one. The objects
    /// stay until a garbage collection.
    ///
    /// # Errors
    /// Whatever removing the ref says.
    pub fn remove(&self, deployment: &DeploymentId) -> Result<bool, RepoError> {
        self.remove_reference(&deployment.reference())
    }

    /// Removes all partial refs: what unfinished syncs kept becomes garbage.
    ///
    /// # Errors
    /// Whatever removing a ref says.
    pub fn remove_partial(&self) -> Result<usize, RepoError> {
        let names = self.view().references("partial")?;
        self.remove_references(names.iter().map(|name| format!("partial/{name}")))
    }
}

impl RepoView {
    /// An imported image, where it and all its layers are there.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn image(&self, manifest: &ManifestDigest) -> Result<Option<ImageStream>, RepoError> {
        let name = ImageStream::stream_name(manifest);
        let content = match self.read_record(IMAGE, &name) {
            Ok(content) => content,
            Err(
                RepoError::MissingObject(_)
                | RepoError::BadObject { .. }
                | RepoError::BadStream { .. },
            ) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some(content) = content else {
            return Ok(None);
        };
        let image: ImageStream = from_json(&content, &name)?;
        // In an insecure repository the stream may be torn: its own digests tell.
        let intact = ManifestDigest::of(&image.manifest) == *manifest
            && ConfigDigest::of(&image.config) == image.config_digest;
        Ok(intact.then_some(image))
    }

    /// A deployment's published set.
    ///
    /// # Errors
    /// [`RepoError::BadStream`], [`RepoError::MissingObject`] where the ref is
    /// there and what it names is not whole.
    pub fn set(&self, deployment: &DeploymentId) -> Result<Option<SetRecord>, RepoError> {
        let reference = deployment.reference();
        loop {
            let Some(name) = self.reference(&reference)? else {
                return Ok(None);
            };
            match self.pinned(&name) {
                // Another has taken its place, and a gc it.
                Err(_) if self.reference(&reference)?.as_ref() != Some(&name) => {}
                set => return set.map(Some),
            }
        }
    }

    /// A set that a deployment has, or had and that is kept.
    ///
    /// # Errors
    /// As those of [`RepoView::set`]; [`RepoError::MissingStream`] without a pin.
    pub fn set_of(&self, set_image: &ObjectId) -> Result<SetRecord, RepoError> {
        self.pinned(&SetRecord::stream_name(set_image))
    }

    fn pinned(&self, name: &str) -> Result<SetRecord, RepoError> {
        let content = self.read_record(SET, name)?;
        let content = content.ok_or_else(|| RepoError::MissingStream(name.to_owned()))?;
        let set: SetRecord = from_json(&content, name)?;
        if SetRecord::stream_name(&set.set_image) != name {
            let source = format!("it is of the set image {}", set.set_image).into();
            let name = name.to_owned();
            return Err(RepoError::BadStream { name, source });
        }
        Ok(set)
    }

    /// What the pin of a set refers to: its streams by name, all its objects.
    ///
    /// # Errors
    /// [`RepoError::MissingStream`], [`RepoError::BadStream`], and what opening
    /// the pin says.
    pub fn pin_parts(&self, set: &SetRecord) -> Result<StreamParts, RepoError> {
        self.stream_parts(&SetRecord::stream_name(&set.set_image), SET)
    }
}

mod base64_bytes {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_ref()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployment_ids_are_file_names() {
        for good in ["v1", "default-ab12.0", "a_b-c.d", &"x".repeat(200)] {
            assert_eq!(good.parse::<DeploymentId>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            ".x",
            "a/b",
            "a b",
            "ä",
            &"x".repeat(201),
            "a\n",
        ] {
            assert!(bad.parse::<DeploymentId>().is_err(), "{bad}");
        }
    }
}
