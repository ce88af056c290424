//! Whether a published set needs nothing done.

use std::collections::BTreeSet;

use crate::repo::{RepoError, RepoView, SetRecord};

/// Whether all that a set consists of is there: its pin and the streams that this
/// names, which can be read, and every object. None of these is read again, nor the
/// set image: what was published was valid, `verify` finds what no longer is.
///
/// # Errors
/// The repository cannot be read. What is damaged makes the set not whole.
pub fn is_whole(view: &RepoView, set: &SetRecord) -> Result<bool, RepoError> {
    let Ok(pin) = view.pin_parts(set) else {
        return Ok(false);
    };
    for (name, id) in &pin.named {
        if view.stream(name)? != Some(*id) {
            return Ok(false);
        }
    }
    let mut layers = BTreeSet::new();
    for image in set.all_images() {
        layers.extend(&image.layers);
        if !matches!(view.image(&image.manifest_digest), Ok(Some(_))) {
            return Ok(false);
        }
    }
    if layers.iter().any(|layer| view.layer_parts(layer).is_err()) {
        return Ok(false);
    }
    if !view.has_object(&set.set_image, Some(set.set_image_bytes))? {
        return Ok(false);
    }
    let needed: Vec<_> = pin.all().copied().collect();
    Ok(view.missing_object(&needed)?.is_none())
}
