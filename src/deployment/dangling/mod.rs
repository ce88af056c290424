//! Dangling users: containers and image records in podman's own store that
//! stand on layers of a set that is not shown any more.
//!
//! Such a container cannot start, and on podman 4 one such image record makes
//! `podman images` fail for all: an outage that a normal upgrade would make.
//! `docs/bootc.md` has what was measured.

mod condition;
mod keep;
mod primary;

use std::collections::HashSet;

pub use condition::dangling_condition;
pub use keep::keep_referenced;
pub(super) use keep::read_kept;
pub use primary::{ContainerRecord, PrimaryError, PrimaryStore};

use crate::{
    name::{ConfigDigest, DiffId, LayerId},
    repo::SetRecord,
};

/// What a store tree has: the IDs of its images and layers.
#[derive(Debug, Clone, Default)]
pub struct StoreContent {
    images: HashSet<String>,
    layers: HashSet<String>,
}

impl StoreContent {
    /// That of a published set.
    pub fn of(set: &SetRecord) -> Self {
        let mut content = Self::default();
        for image in set.all_images() {
            content.add(&image.config_digest, &image.layers);
        }
        content
    }

    /// Adds an image with its layers, base first.
    pub fn add<'l>(&mut self, config: &ConfigDigest, layers: impl IntoIterator<Item = &'l DiffId>) {
        self.images.insert(config.hex());
        let ids = LayerId::chain(layers).into_iter().map(|id| id.hex());
        self.layers.extend(ids);
    }
}

/// What a user of a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserKind {
    /// A container, running or not.
    Container,
    /// An image record: a name given to an image of the store, or an image
    /// that was built on one.
    Image,
}

/// A container or image record that stands on what is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dangling {
    /// Which of both it is.
    pub kind: UserKind,
    /// Its ID.
    pub id: String,
    /// Its names; an image may have none.
    pub names: Vec<String>,
    /// The topmost layer that is nowhere.
    pub layer: Option<String>,
    /// The image whose documents are nowhere: a container's, or the record's
    /// own, where it is but a name for an image of the store.
    pub image: Option<String>,
}

impl Dangling {
    /// Whether podman fails because of it. A container without its image's
    /// documents starts all the same; it only cannot be committed.
    pub fn breaks(&self) -> bool {
        self.layer.is_some() || self.kind == UserKind::Image
    }
}

/// Who in `primary` stands on layers or images that neither `primary` itself
/// has, nor another store that podman reads, nor `content`: pure. Containers
/// that go with their end are left out.
pub fn dangling(primary: &PrimaryStore, content: &StoreContent) -> Vec<Dangling> {
    let lacks_layer = |top: &str| {
        let id = primary.outside_layer(top)?;
        (!content.layers.contains(id)).then(|| id.to_owned())
    };
    let lacks_image = |id: &str| !primary.has_image(id) && !content.images.contains(id);
    let lasting = primary.containers.iter().filter(|it| !it.is_volatile());
    let containers = lasting.map(|container| Dangling {
        kind: UserKind::Container,
        id: container.id.clone(),
        names: container.names.clone(),
        // Without its own layer it is not us whom it lacks.
        layer: Some(&container.layer)
            .filter(|layer| primary.has_layer(layer))
            .and_then(|layer| lacks_layer(layer)),
        image: Some(&container.image)
            .filter(|image| !image.is_empty() && lacks_image(image))
            .cloned(),
    });
    let images = primary.images.iter().map(|image| Dangling {
        kind: UserKind::Image,
        id: image.id.clone(),
        names: image.names.clone(),
        layer: image.layer.as_deref().and_then(lacks_layer),
        image: Some(&image.id)
            .filter(|id| image.big_data_names.is_empty() && lacks_image(id))
            .cloned(),
    });
    let found = containers.chain(images);
    found
        .filter(|user| user.layer.is_some() || user.image.is_some())
        .collect()
}

#[cfg(test)]
mod tests;
