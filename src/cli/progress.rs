//! What a sync tells while it works: lines for people, or for programs.

use std::{cell::RefCell, collections::HashMap};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::output::{Output, bytes};
use crate::{
    deployment::SyncEvent, error::with_causes, name::ImageName, repo::DeploymentId,
    source::FetchStep,
};

/// How progress is told on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Progress {
    // Lines for people.
    #[default]
    Plain,
    // One JSON object a line.
    Json,
}

/// Tells of one deployment's sync.
pub(super) struct Teller<'a> {
    output: &'a Output,
    progress: Progress,
    deployment: &'a DeploymentId,
    /// Bytes of each image that came and were not told of.
    came: RefCell<HashMap<ImageName, u64>>,
}

/// Bytes that come are told of in steps of this many.
const STEP: u64 = 1 << 20;

impl<'a> Teller<'a> {
    pub(super) fn new(
        output: &'a Output,
        progress: Progress,
        deployment: &'a DeploymentId,
    ) -> Self {
        Self {
            output,
            progress,
            deployment,
            came: RefCell::default(),
        }
    }

    pub(super) fn tell(&self, event: &SyncEvent<'_>) {
        if self.progress == Progress::Plain {
            return plain(self.output, event);
        }
        if let SyncEvent::Fetching { found, step } = event {
            let mut came = self.came.borrow_mut();
            let came = came.entry(found.image.name.clone()).or_default();
            if let FetchStep::Came { bytes } = step {
                *came += bytes;
                if *came < STEP {
                    return;
                }
            }
            let bytes = std::mem::take(came);
            if bytes > 0 {
                let step = FetchStep::Came { bytes };
                let event = SyncEvent::Fetching { found, step };
                self.output.line(&machine(self.deployment, &event));
            }
            if matches!(step, FetchStep::Came { .. }) {
                return;
            }
        }
        self.output.line(&machine(self.deployment, event));
    }
}

pub(super) fn plain(output: &Output, event: &SyncEvent<'_>) {
    match event {
        SyncEvent::Resolved(found) => {
            let image = &found.image;
            let (name, digest) = (&image.name, &image.manifest_digest);
            output.detail(&format!(
                "{name} is {digest}, from {}: {}",
                found.origin, image.verdict
            ));
        }
        SyncEvent::Fetching { found, step } => {
            let name = &found.image.name;
            match step {
                FetchStep::Begun { digest, size } => {
                    output.say(&format!("{name}: fetching {digest}, {}", bytes(*size)));
                }
                FetchStep::Reused { digest, .. } => {
                    output.say(&format!("{name}: {digest} was fetched before"));
                }
                _ => {}
            }
        }
        SyncEvent::Retrying { name, error, pause } => output.warn(&format!(
            "{name}: {error}: trying again in {} s",
            pause.as_secs()
        )),
        SyncEvent::Importing {
            name,
            layer,
            of,
            blob_bytes,
        } => {
            output.say(&format!(
                "{name}: layer {} of {of}, {}",
                layer + 1,
                bytes(*blob_bytes)
            ));
        }
        SyncEvent::Keeping(image) => output.say(&format!(
            "keeping {}, which was {}: something in podman's own store stands on it",
            image.manifest_digest, image.name
        )),
        SyncEvent::Squashing(name) => output.detail(&format!("{name}: squashing")),
        SyncEvent::Leftover(error) => output.warn(&with_causes(*error)),
    }
}

/// An event as an object: `event` says which, `docs/cli.md` what they have.
fn machine(deployment: &DeploymentId, event: &SyncEvent<'_>) -> Value {
    match event {
        SyncEvent::Resolved(found) => json!({
            "event": "resolved", "deployment": deployment, "image": found.image.name,
            "manifest_digest": found.image.manifest_digest, "origin": found.origin,
        }),
        SyncEvent::Fetching { found, step } => {
            let image = &found.image.name;
            match step {
                FetchStep::Reused { digest, size } => json!({
                    "event": "reused", "deployment": deployment, "image": image,
                    "blob": digest, "bytes": size,
                }),
                FetchStep::Begun { digest, size } => json!({
                    "event": "fetching", "deployment": deployment, "image": image,
                    "blob": digest, "bytes": size,
                }),
                FetchStep::Came { bytes } => json!({
                    "event": "came", "deployment": deployment, "image": image, "bytes": bytes,
                }),
                FetchStep::Done { digest } => json!({
                    "event": "fetched", "deployment": deployment, "image": image, "blob": digest,
                }),
            }
        }
        SyncEvent::Retrying { name, error, pause } => json!({
            "event": "retrying", "deployment": deployment, "image": name,
            "error": error, "pause_seconds": pause.as_secs(),
        }),
        SyncEvent::Importing {
            name,
            layer,
            of,
            blob_bytes,
        } => json!({
            "event": "importing", "deployment": deployment, "image": name,
            "layer": layer, "layers": of, "bytes": blob_bytes,
        }),
        SyncEvent::Keeping(image) => json!({
            "event": "keeping", "deployment": deployment, "image": image.name,
            "manifest_digest": image.manifest_digest,
        }),
        SyncEvent::Squashing(name) => json!({
            "event": "squashing", "deployment": deployment, "image": name,
        }),
        SyncEvent::Leftover(error) => json!({
            "event": "leftover", "deployment": deployment, "path": error.path,
            "error": with_causes(*error),
        }),
    }
}
