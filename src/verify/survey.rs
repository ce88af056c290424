//! What a check has found, in the terms that mending it needs.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Problem, Verified, VerifiedDeployment, objects,
    recover::recover,
    set_image::{self, Judged},
    usage::Usages,
};
use crate::{
    error::with_causes,
    name::{DiffId, ManifestDigest, ObjectId},
    repo::{DeploymentId, ImageStream, RepoError, RepoView, SetRecord, StreamParts},
};

/// Everything that was looked at, each thing once, however many sets have it.
pub(super) struct Survey {
    pub(super) sets: Vec<SurveyedSet>,
    pub(super) layers: BTreeMap<DiffId, SurveyedLayer>,
    /// The bad objects, each with what is wrong.
    pub(super) bad: BTreeMap<ObjectId, String>,
    pub(super) objects: BTreeSet<ObjectId>,
    bytes_hashed: u64,
}

/// A layer stream: its object, and what it refers to.
pub(super) struct SurveyedLayer {
    pub(super) parts: Result<StreamParts, String>,
    pub(super) stream: Option<ObjectId>,
}

impl SurveyedLayer {
    fn read(view: &RepoView, layer: &DiffId) -> Self {
        Self {
            parts: view.layer_parts(layer).map_err(|error| with_causes(&error)),
            stream: view.layer_stream(layer).ok().flatten(),
        }
    }

    /// The layer stream's object and all that it refers to.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectId> {
        let parts = self.parts.iter().flat_map(StreamParts::all);
        parts.chain(&self.stream)
    }
}

/// What a deployment's ref leads to.
pub(super) struct SurveyedSet {
    pub(super) id: DeploymentId,
    /// Its record, as far as the pin can be read.
    pub(super) set: Option<SetRecord>,
    /// Whether the pin is to be written again.
    pub(super) pin_is_bad: bool,
    /// Images whose manifest and config are damaged.
    pub(super) bad_images: BTreeSet<ManifestDigest>,
    objects: BTreeSet<ObjectId>,
    problems: Vec<Problem>,
}

impl Survey {
    /// Looks at the sets of all deployments, or of some; `deep` hashes every
    /// object but those that are `known` to be good.
    pub(super) fn take(
        view: &RepoView,
        only: Option<&[DeploymentId]>,
        deep: bool,
        known: &BTreeSet<ObjectId>,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, RepoError> {
        let ids = match only {
            Some(ids) => ids.to_vec(),
            None => view.deployments()?,
        };
        let mut survey = Self {
            sets: Vec::new(),
            layers: BTreeMap::new(),
            bad: BTreeMap::new(),
            objects: BTreeSet::new(),
            bytes_hashed: 0,
        };
        for id in ids {
            let set = survey.set(view, id);
            survey.objects.extend(&set.objects);
            survey.sets.push(set);
        }
        let unknown: Vec<ObjectId> = survey.objects.difference(known).copied().collect();
        let (bad, bytes_hashed) = objects::check(view, &unknown, deep, progress);
        // What reading says of a set image comes before what its parser said.
        survey.bad.extend(bad);
        survey.bytes_hashed = bytes_hashed;
        Ok(survey)
    }

    fn set(&mut self, view: &RepoView, id: DeploymentId) -> SurveyedSet {
        let mut found = SurveyedSet {
            id,
            set: None,
            pin_is_bad: false,
            bad_images: BTreeSet::new(),
            objects: BTreeSet::new(),
            problems: Vec::new(),
        };
        if let Err(error) = self.follow(view, &mut found) {
            found.pin_is_bad = true;
            found.problem(with_causes(&error));
        }
        found
    }

    /// Ends at the first thing without which nothing can be followed.
    fn follow(&mut self, view: &RepoView, found: &mut SurveyedSet) -> Result<(), RepoError> {
        let set_image = view.set_image_of(&found.id)?;
        let pin = set_image.map(|id| SetRecord::stream_name(&id));
        found.objects.extend(set_image);
        if let Some(pin) = pin {
            found.objects.extend(view.stream(&pin)?);
        }
        let set = match view.set(&found.id) {
            Ok(set) => set,
            Err(error) => {
                found.pin_is_bad = true;
                found.problem(with_causes(&error));
                let Some(set) = set_image.and_then(|id| recover(view, &id)) else {
                    return Ok(());
                };
                Some(set)
            }
        };
        let Some(set) = set else {
            let id = &found.id;
            found.problem(format!(
                "no set is published: run `boundstore sync --deployment {id}`"
            ));
            return Ok(());
        };
        self.images(view, found, &set);
        let parts = view.pin_parts(&set);
        let image = set.set_image;
        let set = found.set.insert(set);
        let pin = parts?;
        let Judged { wrong, uncovered } = set_image::judge(view, set, &pin);
        if let Some(wrong) = wrong {
            self.bad
                .insert(image, format!("object {image} is damaged: {wrong}"));
        }
        if let Some(object) = uncovered {
            found.pin_is_bad = true;
            found.problem(format!("no garbage collection is told to keep {object}"));
        }
        for (name, id) in &pin.named {
            if view.stream(name)? != Some(*id) {
                found.pin_is_bad = true;
                found.problem(with_causes(&RepoError::MissingStream(name.clone())));
            }
        }
        found.objects.extend(pin.all());
        Ok(())
    }

    fn images(&mut self, view: &RepoView, found: &mut SurveyedSet, set: &SetRecord) {
        for image in set.all_images() {
            if !matches!(view.image(&image.manifest_digest), Ok(Some(_))) {
                found.bad_images.insert(image.manifest_digest);
                found.problem(format!(
                    "the stored manifest and config of {} are damaged",
                    image.name
                ));
            }
            let stream = ImageStream::stream_name(&image.manifest_digest);
            found.objects.extend(view.stream(&stream).ok().flatten());
            for layer in &image.layers {
                let read = || SurveyedLayer::read(view, layer);
                let layer = self.layers.entry(*layer).or_insert_with(read);
                found.objects.extend(layer.objects());
                if let Err(error) = &layer.parts {
                    found.problem(error.clone());
                }
            }
        }
    }

    /// For people and documents.
    pub(super) fn report(&self, view: &RepoView, deep: bool) -> Verified {
        let usages = Usages::of(view, &self.layers, &self.bad);
        let judge = |set: &SurveyedSet| {
            let bad = self.bad.iter().filter(|(id, _)| set.objects.contains(id));
            let of_objects = bad.map(|(id, message)| Problem {
                object: Some(*id),
                message: message.clone(),
                used_as: set
                    .set
                    .as_ref()
                    .map_or(Vec::new(), |set| usages.in_set(set, id)),
            });
            VerifiedDeployment {
                id: set.id.clone(),
                problems: set.problems.iter().cloned().chain(of_objects).collect(),
            }
        };
        Verified {
            repository: view.path().to_owned(),
            secure: view.is_secure(),
            deep,
            objects: self.objects.len(),
            bytes_hashed: self.bytes_hashed,
            deployments: self.sets.iter().map(judge).collect(),
        }
    }
}

impl SurveyedSet {
    /// Each once: images share layers.
    fn problem(&mut self, message: String) {
        if self.problems.iter().any(|said| said.message == message) {
            return;
        }
        self.problems.push(Problem {
            object: None,
            message,
            used_as: Vec::new(),
        });
    }
}
