#!/usr/bin/env python3
"""Compares two directory trees, entry by entry, and prints what differs.

    compare.py [--made-up FILE] [--empty-xattrs-lost] [--store] EXPECTED ACTUAL

Type, content, mode, owner, mtime to the nanosecond, device number, symlink
target, extended attributes and hardlink groups. Written against no code of
the project. Not compared: the link count (podman shows a stale one after a
whiteout; the names that share an inode are compared instead), directory sizes,
atime and ctime.

Two exceptions can be asked for, with the rule that then holds instead:
--made-up names a JSON file with a list of directories that the image does not
describe. podman stamps those with the time of extraction; in ACTUAL it
must be 1970. --empty-xattrs-lost: EXPECTED may lack xattrs with an empty value,
which podman 4.3.1 drops.
--store: the trees are stores, in which hard links are such within one
`overlay/<layer>/diff` only, even where several show one inode.
Exit status: 0 equal, 1 different, 2 usage.
"""

import argparse
import hashlib
import json
import os
import stat
import sys

# Bookkeeping of overlayfs and of SELinux; no part of an image.
INTERNAL = ("trusted.overlay.", "security.selinux")


def xattrs(path):
    names = os.listxattr(path, follow_symlinks=False)
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in names
        if not name.startswith(INTERNAL)
    }


def content(path):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def describe(path):
    """What is compared of one entry, by name of the property."""
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    facts = {
        "type": oct(kind),
        "mode": oct(stat.S_IMODE(st.st_mode)),
        "owner": (st.st_uid, st.st_gid),
        "mtime": st.st_mtime_ns,
        "xattrs": xattrs(path),
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


def compare(expected, actual, made_up=(), empty_xattrs_lost=False, store=False):
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
        want, want_st = describe(ours[name])
        got, got_st = describe(theirs[name])
        if name in made_up:
            want["mtime"] = 0
        if empty_xattrs_lost:
            lost = {key: value for key, value in got["xattrs"].items() if not value}
            want["xattrs"] = lost | want["xattrs"]
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
            rootfs = rootfs_of(name) if store else None
            for links, st in (expected_links, want_st), (actual_links, got_st):
                links.setdefault((rootfs, st.st_dev, st.st_ino), []).append(name)
    want, got = groups(expected_links), groups(actual_links)
    for name in sorted(want.keys() & got.keys()):
        if want[name] != got[name] and name in (want[name][0], got[name][0]):
            yield f"{os.fsdecode(name)!a}: hardlinks must be {want[name]}, are {got[name]}"


def rootfs_of(name):
    parts = name.split(b"/")
    return parts[1] if parts[0] == b"overlay" and parts[2:3] == [b"diff"] else None


def json_file(path):
    with open(path) as file:
        return json.load(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--made-up", metavar="FILE")
    parser.add_argument("--empty-xattrs-lost", action="store_true")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("expected")
    parser.add_argument("actual")
    args = parser.parse_args()
    trees = os.fsencode(args.expected), os.fsencode(args.actual)
    made_up = set(map(os.fsencode, json_file(args.made_up) if args.made_up else []))
    count = 0
    for line in compare(*trees, made_up, args.empty_xattrs_lost, args.store):
        count += 1
        print(line)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
