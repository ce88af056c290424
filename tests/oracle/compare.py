#!/usr/bin/env python3
"""Compares two directory trees, entry by entry, and prints what differs.

    compare.py [--any-mtime FILE] [--ignore-xattr NAME]... EXPECTED ACTUAL

Type, content, mode, owner, mtime to the nanosecond, device number, symlink
target, extended attributes and hardlink groups. Written against no code of
the project. Not compared: the link count (podman shows a stale one after a
whiteout; the names that share an inode are compared instead), directory sizes,
atime and ctime. --any-mtime names a file of paths, one a line, whose mtime may
be anything: directories that podman stamps with the time of extraction.
Exit status: 0 equal, 1 different, 2 usage.
"""

import argparse
import hashlib
import os
import stat
import sys

# Bookkeeping of overlayfs and of SELinux; no part of an image.
INTERNAL = ("trusted.overlay.", "security.selinux")


def xattrs(path, ignored):
    found = {}
    for name in os.listxattr(path, follow_symlinks=False):
        if not name.startswith(INTERNAL) and name not in ignored:
            found[name] = os.getxattr(path, name, follow_symlinks=False)
    return found


def content(path):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def describe(path, ignored):
    """What is compared of one entry, by name of the property."""
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    facts = {
        "type": oct(kind),
        "mode": oct(stat.S_IMODE(st.st_mode)),
        "owner": (st.st_uid, st.st_gid),
        "mtime": st.st_mtime_ns,
        "xattrs": xattrs(path, ignored),
    }
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        facts["device"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
    elif kind == stat.S_IFLNK:
        facts["target"] = os.readlink(path)
    elif kind == stat.S_IFREG:
        facts["size"] = st.st_size
    return facts, st


def walk(root):
    """Relative path -> absolute path, the root as '.', in byte order."""
    found, todo = {b".": root}, [(b"", root)]
    while todo:
        prefix, directory = todo.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                name = prefix + entry.name
                found[name] = entry.path
                if entry.is_dir(follow_symlinks=False):
                    todo.append((name + b"/", entry.path))
    return found


def groups(links):
    """Path -> the sorted names that share its inode."""
    return {name: sorted(names) for names in links.values() for name in names}


def compare(expected, actual, any_mtime=(), ignored=()):
    """Yields one line for each difference."""
    ours, theirs = walk(expected), walk(actual)
    expected_links, actual_links = {}, {}
    for name in sorted(ours.keys() | theirs.keys()):
        shown = os.fsdecode(name).encode("unicode_escape", "surrogateescape").decode()
        if name not in theirs:
            yield f"{shown}: missing"
            continue
        if name not in ours:
            yield f"{shown}: must not be there"
            continue
        want, want_st = describe(ours[name], ignored)
        got, got_st = describe(theirs[name], ignored)
        if name in any_mtime:
            want.pop("mtime"), got.pop("mtime")
        differing = [key for key in want.keys() | got.keys() if want.get(key) != got.get(key)]
        for key in sorted(differing):
            yield f"{shown}: {key} must be {want.get(key)!r}, is {got.get(key)!r}"
        if "type" in differing:
            continue
        if stat.S_ISREG(want_st.st_mode) and "size" not in differing:
            hashes = content(ours[name]), content(theirs[name])
            if hashes[0] != hashes[1]:
                yield f"{shown}: content must hash to {hashes[0]}, hashes to {hashes[1]}"
        if not stat.S_ISDIR(want_st.st_mode):
            expected_links.setdefault((want_st.st_dev, want_st.st_ino), []).append(name)
            actual_links.setdefault((got_st.st_dev, got_st.st_ino), []).append(name)
    want, got = groups(expected_links), groups(actual_links)
    for name in sorted(want.keys() & got.keys()):
        if want[name] != got[name] and name in (want[name][0], got[name][0]):
            yield f"{os.fsdecode(name)!a}: hardlinks must be {want[name]}, are {got[name]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--any-mtime", metavar="FILE")
    parser.add_argument("--ignore-xattr", metavar="NAME", action="append", default=[])
    parser.add_argument("--limit", type=int, default=50, help="lines of differences to print")
    parser.add_argument("expected")
    parser.add_argument("actual")
    args = parser.parse_args()
    any_mtime = set()
    if args.any_mtime:
        with open(args.any_mtime, "rb") as file:
            any_mtime = {line.rstrip(b"\n") for line in file}
    count = 0
    for line in compare(
        os.fsencode(args.expected), os.fsencode(args.actual), any_mtime, args.ignore_xattr
    ):
        count += 1
        if count <= args.limit:
            print(line)
    if count > args.limit:
        print(f"... {count - args.limit} more")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
