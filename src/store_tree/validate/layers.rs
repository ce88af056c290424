//! Checking `overlay-layers/` and `overlay/`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{find::Finder, rootfs, violation::Violation};
use crate::{
    name::{DiffId, LayerId},
    squash::tree::{Directory, FileContent},
    store_tree::{
        layers::{LayerRecord, parse_layers_json},
        tar_split::{TarSplitItem, TarSplitReader},
    },
};

/// The layers that a tree lists, as far as they could be understood.
#[derive(Default)]
pub(super) struct CheckedLayers {
    by_id: BTreeMap<String, LayerRecord>,
}

impl CheckedLayers {
    /// The records of a chain, base first; `None` where a link is missing.
    pub(super) fn chain(&self, top: &str) -> Option<Vec<&LayerRecord>> {
        let mut chain = Vec::new();
        let mut next = Some(top);
        while let Some(id) = next {
            // Parents that name each other would go round for ever.
            if chain.len() > self.by_id.len() {
                return None;
            }
            let layer = self.by_id.get(id)?;
            chain.push(layer);
            next = layer.parent.as_deref();
        }
        chain.reverse();
        Some(chain)
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(String::as_str)
    }
}

pub(super) fn check(finder: &mut Finder<'_>, json: Option<&[u8]>) -> CheckedLayers {
    let records = match json.map(parse_layers_json) {
        None => return CheckedLayers::default(),
        Some(Ok(records)) => records,
        Some(Err(source)) => {
            let path = "overlay-layers/layers.json";
            finder.violation(Violation::Json { path, source });
            return CheckedLayers::default();
        }
    };
    let all: BTreeSet<String> = records.iter().map(|layer| layer.id.clone()).collect();
    let mut ids: BTreeMap<String, LayerId> = BTreeMap::new();
    let mut layers = CheckedLayers::default();
    let mut links = Vec::new();
    let mut seen = HashSet::new();
    for layer in records {
        if layers.contains(&layer.id) {
            let layer = layer.id;
            finder.violation(Violation::DuplicateLayer { layer });
            continue;
        }
        if let Some(id) = check_record(finder, &layer, &all, &ids) {
            links.push(check_overlay(finder, &mut seen, &layer, &id));
            ids.insert(layer.id.clone(), id);
        }
        check_tar_split(finder, &layer);
        layers.by_id.insert(layer.id.clone(), layer);
    }
    finder.only("overlay", all.iter().map(String::as_str).chain(["l"]));
    finder.only("overlay/l", links.iter().map(String::as_str));
    let tar_splits: Vec<String> = all.iter().map(|id| format!("{id}.tar-split.gz")).collect();
    let files = tar_splits.iter().map(String::as_str);
    finder.only(
        "overlay-layers",
        files.chain(["layers.json", "layers.lock"]),
    );
    layers
}

/// Checks what a record says; its ID where that is certain.
fn check_record(
    finder: &mut Finder<'_>,
    record: &LayerRecord,
    all: &BTreeSet<String>,
    before: &BTreeMap<String, LayerId>,
) -> Option<LayerId> {
    let layer = || record.id.clone();
    for (key, size) in [
        ("diff-size", record.diff_size),
        ("compressed-size", record.compressed_size),
    ] {
        if let Some(size) = size.filter(|&size| size < 0) {
            finder.violation(Violation::LayerValue {
                layer: layer(),
                key,
                value: size.to_string(),
            });
        }
    }
    let compressed = record.compressed_diff_digest.as_deref();
    if compressed.is_some_and(|text| text.parse::<crate::name::BlobDigest>().is_err()) {
        finder.violation(Violation::LayerValue {
            layer: layer(),
            key: "compressed-diff-digest",
            value: compressed.unwrap_or_default().to_owned(),
        });
    }
    if !(0..=4).contains(&record.compression) {
        finder.violation(Violation::LayerValue {
            layer: layer(),
            key: "compression",
            value: record.compression.to_string(),
        });
    }
    if !record.flags.is_empty() {
        let value = record.flags.keys().cloned().collect::<Vec<_>>().join(",");
        let (layer, key) = (layer(), "flags");
        finder.violation(Violation::LayerValue { layer, key, value });
    }
    if record.diff_size.is_none() {
        finder.violation(Violation::NoDiffSize { layer: layer() });
    }
    let parent = match &record.parent {
        None => None,
        Some(parent) => match before.get(parent) {
            Some(id) => Some(*id),
            None if all.contains(parent) => {
                finder.violation(Violation::ParentAfterChild {
                    layer: layer(),
                    parent: parent.clone(),
                });
                return None;
            }
            None => {
                finder.violation(Violation::UnknownParent {
                    layer: layer(),
                    parent: parent.clone(),
                });
                return None;
            }
        },
    };
    let Some(diff_digest) = &record.diff_digest else {
        finder.violation(Violation::NoDiffDigest { layer: layer() });
        return None;
    };
    let Ok(diff_id) = diff_digest.parse::<DiffId>() else {
        finder.violation(Violation::LayerValue {
            layer: layer(),
            key: "diff-digest",
            value: diff_digest.clone(),
        });
        return None;
    };
    let id = LayerId::new(parent, &diff_id);
    if id.hex() != record.id {
        finder.violation(Violation::LayerId {
            layer: layer(),
            expected: id.hex(),
        });
        return None;
    }
    Some(id)
}

/// Checks `overlay/<layer>` and its entry in `overlay/l`, whose name it
/// returns.
fn check_overlay(
    finder: &mut Finder<'_>,
    seen: &mut HashSet<*const Directory>,
    record: &LayerRecord,
    id: &LayerId,
) -> String {
    let directory = format!("overlay/{}", record.id);
    let link = id.link().as_str().to_owned();
    if finder.directory(&directory).is_some() {
        let path = format!("{directory}/link");
        if let Some(found) = finder.inline(&path)
            && found != link.as_bytes()
        {
            finder.violation(Violation::Link {
                path,
                expected: link.clone(),
                found: String::from_utf8_lossy(found).into_owned(),
            });
        }
        for name in ["empty", "merged"] {
            let path = format!("{directory}/{name}");
            finder.directory(&path);
            finder.only(&path, []);
        }
        let path = format!("{directory}/diff");
        if let Some(diff) = finder.any_directory(&path) {
            rootfs::check(finder, seen, &path, diff);
        }
        // Above all no `lower`: podman would merge what is merged already.
        finder.only(&directory, ["diff", "empty", "link", "merged"]);
    }
    let path = format!("overlay/l/{link}");
    let expected = format!("../{}/diff", record.id);
    if let Some(found) = finder.symlink(&path)
        && found != expected.as_bytes()
    {
        finder.violation(Violation::Link {
            path,
            expected,
            found: String::from_utf8_lossy(found).into_owned(),
        });
    }
    link
}

fn check_tar_split(finder: &mut Finder<'_>, record: &LayerRecord) {
    let path = format!("overlay-layers/{}.tar-split.gz", record.id);
    // An object's bytes are not at hand.
    let Some(FileContent::Inline(bytes)) = finder.file(&path) else {
        return;
    };
    let mut names = BTreeSet::new();
    let mut found = 0_u64;
    for item in TarSplitReader::new(&bytes[..]) {
        match item {
            Ok(TarSplitItem::Segment(bytes)) => found = found.saturating_add(bytes.len() as u64),
            Ok(TarSplitItem::File { name, size, .. }) => {
                found = found.saturating_add(size);
                let name = clean(&name);
                if names.contains(&name) {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    let path = path.clone();
                    finder.violation(Violation::TarSplitDuplicate { path, name });
                } else {
                    names.insert(name);
                }
            }
            Err(source) => return finder.violation(Violation::TarSplit { path, source }),
        }
    }
    if let Some(expected) = record.diff_size
        && u64::try_from(expected) != Ok(found)
    {
        finder.violation(Violation::TarSplitLength {
            path,
            expected,
            found,
        });
    }
}

/// Go's `filepath.Clean`.
fn clean(name: &[u8]) -> Vec<u8> {
    let absolute = name.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|&part| part != b"..") => {
                parts.pop();
            }
            b".." if absolute => {}
            part => parts.push(part),
        }
    }
    let mut clean = parts.join(&b'/');
    if absolute {
        clean.insert(0, b'/');
    } else if clean.is_empty() {
        clean.push(b'.');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn cleans_as_go_does() {
        for (name, expected) in [
            ("", "."),
            ("./", "."),
            ("a/", "a"),
            ("./a//b/.", "a/b"),
            ("/", "/"),
            ("/../a", "/a"),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(name.as_bytes()), expected.as_bytes(), "{name}");
        }
    }
}
