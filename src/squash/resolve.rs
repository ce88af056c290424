//! Paths through a layer's own directories and symlinks.

use super::{
    EntryFault, EntryName, LayerDiff,
    diff::{DiffNode, DirId, ROOT},
    tree::{Directory, Inode, InodeContent, Node},
};

/// How many symlinks Linux follows in one path.
const MAX_SYMLINKS: usize = 40;

/// For whom the parents of a path are looked up, and made where missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// An entry: its parents come to be whatever hid them.
    Entry,
    /// A whiteout or opaque marker: below a hidden name or a file it says
    /// nothing.
    Marker,
}

/// One step of a path.
enum Step {
    Into(DirId),
    /// The symlink's target takes the place of the component.
    Follow(Box<[u8]>),
    /// Nothing of that name in this layer.
    Missing,
    Hidden,
    File,
}

impl LayerDiff {
    /// Finds the directory at `path`, following this layer's symlinks inside
    /// the root and making missing directories. `None` only for a marker where
    /// no directory can be.
    pub(super) fn walk<'a>(
        &mut self,
        path: impl DoubleEndedIterator<Item = &'a [u8]>,
        walk: Walk,
    ) -> Result<Option<DirId>, EntryFault> {
        let mut rest: Vec<Vec<u8>> = Vec::new();
        let mut path = path;
        let mut dir = ROOT;
        let mut followed = 0;
        loop {
            let owned;
            let part = match rest.pop() {
                Some(part) => {
                    owned = part;
                    owned.as_slice()
                }
                None => match path.next() {
                    Some(part) => part,
                    None => break,
                },
            };
            match part {
                b"" | b"." => continue,
                b".." => {
                    dir = self.dirs[dir].parent;
                    continue;
                }
                _ if part.len() > EntryName::COMPONENT_MAX => {
                    return Err(EntryFault::NotADirectory(lossy(part)));
                }
                _ => {}
            }
            dir = match (self.step(dir, part), walk) {
                (Step::Into(next), _) => next,
                (Step::Missing, _) | (Step::Hidden, Walk::Entry) => {
                    self.make_directory(dir, part, walk == Walk::Entry)?
                }
                (Step::Hidden | Step::File, Walk::Marker) => return Ok(None),
                (Step::File, Walk::Entry) => return Err(EntryFault::NotADirectory(lossy(part))),
                (Step::Follow(target), _) => {
                    followed += 1;
                    if followed > MAX_SYMLINKS {
                        return Err(EntryFault::SymlinkLoop(lossy(part)));
                    }
                    push_target(&mut rest, &target);
                    if target.starts_with(b"/") { ROOT } else { dir }
                }
            };
            if walk == Walk::Entry {
                self.dirs[dir].wanted = true;
            }
        }
        Ok(Some(dir))
    }

    /// Finds what a hard link names: in this layer so far, else below it.
    pub(super) fn link_target(&self, target: &EntryName) -> Result<DiffNode, EntryFault> {
        let missing = || EntryFault::LinkTargetMissing(target.clone());
        let mut parents = target.components();
        let Some(base) = parents.next_back() else {
            return Err(EntryFault::LinkToDirectory(target.clone()));
        };
        let mut rest: Vec<Vec<u8>> = parents.rev().map(<[u8]>::to_vec).collect();
        let mut dir = ROOT;
        let mut followed = 0;
        while let Some(part) = rest.pop() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    dir = self.dirs[dir].parent;
                    continue;
                }
                _ => {}
            }
            match self.step(dir, &part) {
                Step::Into(next) => dir = next,
                Step::Follow(link) => {
                    followed += 1;
                    if followed > MAX_SYMLINKS {
                        return Err(EntryFault::SymlinkLoop(lossy(&part)));
                    }
                    push_target(&mut rest, &link);
                    if link.starts_with(b"/") {
                        dir = ROOT;
                    }
                }
                Step::Missing => {
                    // from here on only the tree below can know the path
                    rest.push(part);
                    rest.reverse();
                    rest.push(base.to_vec());
                    let lower = self.dirs[dir].lower.as_deref().ok_or_else(missing)?;
                    return below(lower, &rest, target);
                }
                Step::Hidden | Step::File => return Err(missing()),
            }
        }
        let dir = &self.dirs[dir];
        match dir.entries.get(base) {
            Some(DiffNode::Directory(_)) => Err(EntryFault::LinkToDirectory(target.clone())),
            Some(node) => Ok(node.clone()),
            None => {
                let lower = dir.lower.as_deref().ok_or_else(missing)?;
                below(lower, &[base.to_vec()], target)
            }
        }
    }

    fn step(&self, dir: DirId, part: &[u8]) -> Step {
        match self.dirs[dir].entries.get(part) {
            None => Step::Missing,
            Some(DiffNode::Directory(id)) => Step::Into(*id),
            Some(DiffNode::Whiteout) => Step::Hidden,
            Some(DiffNode::Inode(id)) => step_over(&self.inodes[*id]),
            Some(DiffNode::Lower(inode)) => step_over(inode),
        }
    }
}

fn step_over(inode: &Inode) -> Step {
    match &inode.content {
        InodeContent::Symlink(target) => Step::Follow(target.clone()),
        _ => Step::File,
    }
}

/// Puts a symlink's components before what is left of the path; `rest` is read
/// from its end.
fn push_target(rest: &mut Vec<Vec<u8>>, target: &[u8]) {
    rest.extend(target.rsplit(|&byte| byte == b'/').map(<[u8]>::to_vec));
}

/// Looks a hard link's target up in the tree below, without its symlinks.
fn below(lower: &Directory, path: &[Vec<u8>], target: &EntryName) -> Result<DiffNode, EntryFault> {
    match lower.lookup(path.iter().map(Vec::as_slice)) {
        Some(Node::Inode(inode)) => Ok(DiffNode::Lower(inode.clone())),
        Some(Node::Directory(_)) => Err(EntryFault::LinkToDirectory(target.clone())),
        None => Err(EntryFault::LinkTargetMissing(target.clone())),
    }
}

fn lossy(part: &[u8]) -> String {
    String::from_utf8_lossy(part).into_owned()
}
