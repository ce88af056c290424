//! Whole tars in memory: for tests, fuzzing and tools.

use std::{io::Read, sync::Arc};

use super::{TarError, TarKind, TarReader};
use crate::squash::{
    Dropped, LayerEntry, RootfsChain, SquashError,
    tree::{Directory, FileContent},
};

/// How large a file [`read_layer`] takes: a sparse map can claim any size.
pub const MAX_FILE: u64 = 64 << 20;

/// Why [`squash_tar_layers`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SquashTarError {
    /// A layer is no tar.
    #[error("read layer {layer}")]
    Tar {
        /// Its place in the chain; 0 is the base.
        layer: usize,
        /// Why.
        source: TarError,
    },
    /// The layers make no tree.
    #[error(transparent)]
    Squash(#[from] SquashError),
}

/// The trees of all prefixes of a chain of uncompressed tars, base first, and
/// what was left out of them. Files are [`FileContent::Inline`], whatever
/// their size up to 64 MiB.
///
/// # Errors
/// The first thing wrong with a layer. No input makes it panic.
pub fn squash_tar_layers(
    layers: &[&[u8]],
) -> Result<(Vec<Arc<Directory>>, Dropped), SquashTarError> {
    let mut chain = RootfsChain::default();
    let mut trees = Vec::new();
    for (layer, tar) in layers.iter().enumerate() {
        let entries = read_layer(tar).map_err(|source| SquashTarError::Tar { layer, source })?;
        trees.push(chain.push(entries.into_iter().map(Ok::<_, SquashError>))?);
    }
    Ok((trees, chain.dropped()))
}

/// All entries of one uncompressed tar.
///
/// # Errors
/// What breaks the tar, and files over 64 MiB.
pub fn read_layer(mut tar: &[u8]) -> Result<Vec<LayerEntry>, TarError> {
    let mut reader = TarReader::new();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry(&mut tar)? {
        let stored = usize::try_from(entry.stored_size).unwrap_or(usize::MAX);
        let Some((data, rest)) = tar.split_at_checked(stored) else {
            return Err(TarError::Truncated {
                offset: reader.offset() - entry.stored_size + tar.len() as u64,
                inside: "a file",
            });
        };
        tar = rest;
        let content = match (&entry.kind, &entry.sparse) {
            (TarKind::Regular, None) => Some(data.to_vec()),
            (TarKind::Regular, Some(sparse)) => {
                let name = || String::from_utf8_lossy(&entry.raw_name).into_owned();
                if sparse.real_size > MAX_FILE {
                    return Err(TarError::OutOfRange {
                        offset: entry.offset,
                        name: name(),
                        field: "size",
                        value: i64::try_from(sparse.real_size).unwrap_or(i64::MAX),
                    });
                }
                let mut content = Vec::new();
                sparse
                    .expand(data, entry.stored_size)
                    .and_then(|mut expanded| expanded.read_to_end(&mut content))
                    .map_err(|source| TarError::Read {
                        offset: entry.offset,
                        source,
                    })?;
                Some(content)
            }
            _ => None,
        };
        let content = content.map(|bytes| FileContent::Inline(bytes.into()));
        entries.extend(entry.into_layer_entry(content)?);
    }
    Ok(entries)
}
