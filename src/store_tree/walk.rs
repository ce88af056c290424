//! Visiting a tree of any depth.

use crate::squash::tree::{Directory, Node};

/// Calls `visit` for every node below `top` with its path below `top`, a
/// directory before what is in it, names in byte order; goes into those for
/// which it says so. Takes no stack per level: an image may be thousands of
/// directories deep.
pub(super) fn walk<'a>(top: &'a Directory, mut visit: impl FnMut(&[u8], &'a Node) -> bool) {
    let mut open = vec![(0, top.entries.iter())];
    let mut path = Vec::new();
    while let Some((length, entries)) = open.last_mut() {
        path.truncate(*length);
        let Some((name, node)) = entries.next() else {
            open.pop();
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let into = visit(&path, node);
        if let Node::Directory(directory) = node
            && into
        {
            open.push((path.len(), directory.entries.iter()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn visits_all_in_order() {
        let mut deep = Directory::default();
        for _ in 0..3000 {
            let mut outer = Directory::default();
            outer
                .entries
                .insert(b"d"[..].into(), Node::Directory(Arc::new(deep)));
            outer
                .entries
                .insert(b"e"[..].into(), Node::Directory(Arc::default()));
            deep = outer;
        }
        let mut paths = Vec::new();
        walk(&deep, |path, _| {
            paths.push(path.to_vec());
            true
        });
        assert_eq!(paths.len(), 6000);
        assert_eq!(paths[0], b"d");
        assert_eq!(paths[1], b"d/d");
        assert_eq!(paths[2999].len(), 5999);
        assert_eq!(paths[5998], b"d/e");
        assert_eq!(paths[5999], b"e");
        let mut names = Vec::new();
        walk(&deep, |path, _| {
            names.push(path.to_vec());
            path != b"d"
        });
        assert_eq!(names, [b"d", b"e"]);
    }
}
