//! The names containers-storage gives to the overlay layers of an image.

use std::fmt;

use super::{DiffId, Hasher};

/// The ID of an overlay layer in containers-storage.
///
/// The base layer's is its DiffID; a child's is the SHA-256 of
/// `<parent hex>+<DiffID hex>` (containers/image, `storage_dest.go`,
/// `layerID`). Any other ID makes podman extract layers again that it has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId([u8; 32]);

impl LayerId {
    /// The ID of the layer with `diff_id` on top of `parent`.
    pub fn new(parent: Option<LayerId>, diff_id: &DiffId) -> Self {
        let Some(parent) = parent else {
            return Self(*diff_id.as_bytes());
        };
        let mut hasher = Hasher::default();
        hasher.update(parent.hex().as_bytes());
        hasher.update(b"+");
        hasher.update(diff_id.hex().as_bytes());
        Self(*hasher.finish::<super::digest::kind::Diff>().as_bytes())
    }

    /// The IDs of a whole chain of layers, base first.
    pub fn chain<'a>(diff_ids: impl IntoIterator<Item = &'a DiffId>) -> Vec<LayerId> {
        let mut parent = None;
        diff_ids
            .into_iter()
            .map(|diff_id| {
                let id = LayerId::new(parent, diff_id);
                parent = Some(id);
                id
            })
            .collect()
    }

    /// The 64 hex digits: the directory's name below `overlay/`.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The short name below `overlay/l/`.
    pub fn link(&self) -> LinkId {
        let text = data_encoding::BASE32_NOPAD.encode(&self.0);
        LinkId(text[..26].to_owned())
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The 26 characters `[A-Z2-7]` that name a layer in overlayfs mount options.
///
/// podman's own are random; these are the first 130 bits of the layer ID, so
/// that containers keep finding their lower layers from one set to the next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(String);

impl LinkId {
    /// The 26 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_containers_storage() {
        // Measured on a store that podman made (contract page, worked example).
        let base = "9d451bf3af3162719f936921c2a8b28329bfb95621c80e69c63ef463c486a648";
        let top = "884388cfa4b4f7507d3fcf2cc6da53981120694869bff5cf60437b47ec47f513";
        let ids = LayerId::chain(&[
            DiffId::from_hex(base).unwrap(),
            DiffId::from_hex(top).unwrap(),
        ]);
        assert_eq!(ids[0].hex(), base);
        assert_eq!(
            ids[1].hex(),
            "390973783645b82eaeaac204255cf22522c57890cece34ec375153afedbfa335"
        );
        assert_eq!(ids[0].link().as_str().len(), 26);
        assert_ne!(ids[0].link(), ids[1].link());
    }
}
