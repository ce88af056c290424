//! From the top-level document to the manifest of one platform.

use super::SourceError;
use crate::{
    document::{Descriptor, DocumentKind, IndexEntry, document_kind, parse_index},
    name::{BlobDigest, Platform},
};

/// How deep indexes may lie in indexes.
const DEPTH_LIMIT: usize = 4;
/// How many indexes are read on the way to one image.
const INDEX_LIMIT: usize = 64;

/// What the index of a bundle has, whatever copied it: its first image of the
/// platform is the host's, not what its name stands for.
pub(crate) const BUNDLE: &str = "dev.boundstore.bundle.version";

/// A manifest, and the indexes that led to it, top-level first.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) indexes: Vec<Vec<u8>>,
    pub(super) manifest: Vec<u8>,
}

/// Gets the bytes of a document and has checked them against its descriptor.
pub(super) type Fetch<'a> = dyn FnMut(&Descriptor) -> Result<Vec<u8>, SourceError> + 'a;

/// Finds the manifest for `platform` below the document `top`.
///
/// An entry of exactly this platform wins, then the first that `platform`
/// accepts, then the only one that states none. Attestations and other
/// artifacts do not count. A manifest as `top` is taken as it is.
pub(super) fn choose(
    top: Vec<u8>,
    platform: &Platform,
    origin: &str,
    fetch: &mut Fetch<'_>,
) -> Result<Chosen, SourceError> {
    let digest = BlobDigest::of(&top);
    let kind = document_kind(&top).map_err(|source| SourceError::Document {
        what: format!("document {digest}"),
        origin: origin.to_owned(),
        source,
    })?;
    if kind == DocumentKind::Manifest {
        return Ok(Chosen {
            indexes: Vec::new(),
            manifest: top,
        });
    }
    let mut search = Search {
        platform,
        origin,
        fetch,
        seen: 0,
        candidates: Vec::new(),
    };
    search.visit(&mut vec![top])?;
    let Search {
        mut candidates,
        fetch,
        ..
    } = search;
    let unstated = candidates.iter().filter(|c| c.fit == Fit::Unstated).count();
    let best = candidates
        .iter()
        .enumerate()
        .filter(|(_, c)| c.fit < Fit::Unstated || (c.fit == Fit::Unstated && unstated == 1))
        .min_by_key(|(at, c)| (c.fit, *at));
    let Some((best, _)) = best else {
        return Err(SourceError::NoPlatform {
            wanted: Box::new(platform.clone()),
            index: format!("index {digest}"),
            origin: origin.to_owned(),
            held: candidates.into_iter().map(|c| c.shown).collect(),
        });
    };
    let best = candidates.swap_remove(best);
    Ok(Chosen {
        manifest: fetch(&best.document)?,
        indexes: best.indexes,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Exact,
    Accepted,
    Unstated,
    Other,
}

struct Candidate {
    fit: Fit,
    document: Descriptor,
    indexes: Vec<Vec<u8>>,
    shown: String,
}

struct Search<'a, 'f> {
    platform: &'a Platform,
    origin: &'a str,
    fetch: &'a mut Fetch<'f>,
    seen: usize,
    candidates: Vec<Candidate>,
}

impl Search<'_, '_> {
    /// Collects what the last of `indexes` lists; true where it has an exact fit.
    fn visit(&mut self, indexes: &mut Vec<Vec<u8>>) -> Result<bool, SourceError> {
        let bytes = indexes.last().map(Vec::as_slice).unwrap_or_default();
        let digest = BlobDigest::of(bytes);
        self.seen += 1;
        if indexes.len() > DEPTH_LIMIT || self.seen > INDEX_LIMIT {
            return Err(SourceError::Unsupported {
                origin: self.origin.to_owned(),
                reason: format!(
                    "index {digest} lies deeper than {DEPTH_LIMIT} indexes, or is one of more than {INDEX_LIMIT}"
                ),
            });
        }
        let index = parse_index(bytes).map_err(|source| SourceError::Document {
            what: format!("index {digest}"),
            origin: self.origin.to_owned(),
            source,
        })?;
        if index.annotations.contains_key(BUNDLE) {
            return Err(SourceError::Unsupported {
                origin: self.origin.to_owned(),
                reason: "it is a bundle of many images: write them out with `boundstore bundle apply`, and name that"
                    .into(),
            });
        }
        let (nested, plain): (Vec<_>, Vec<_>) = index
            .entries
            .into_iter()
            .filter(|entry| !entry.is_artifact)
            .partition(|entry| entry.kind == Some(DocumentKind::Index));
        for entry in plain {
            let candidate = self.rate(entry, indexes);
            let exact = candidate.fit == Fit::Exact;
            self.candidates.push(candidate);
            if exact {
                return Ok(true);
            }
        }
        for entry in nested {
            let elsewhere = |platform: &Platform| !self.platform.accepts(platform);
            if entry.platform.as_ref().is_some_and(elsewhere) {
                continue;
            }
            let bytes = (self.fetch)(&entry.document)?;
            indexes.push(bytes);
            let exact = self.visit(indexes)?;
            indexes.pop();
            if exact {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn rate(&self, entry: IndexEntry, indexes: &[Vec<u8>]) -> Candidate {
        let fit = match &entry.platform {
            Some(offered) if offered == self.platform => Fit::Exact,
            Some(offered) if self.platform.accepts(offered) => Fit::Accepted,
            Some(_) => Fit::Other,
            None => Fit::Unstated,
        };
        let shown = match entry.platform {
            Some(platform) => platform.to_string(),
            None => format!("{} of no stated platform", entry.document.digest),
        };
        Candidate {
            fit,
            document: entry.document,
            // What does not fit is only shown.
            indexes: match fit {
                Fit::Other => Vec::new(),
                _ => indexes.to_vec(),
            },
            shown,
        }
    }
}
