#!/usr/bin/env python3
"""Proves that compare.py sees every kind of difference: selftest.py DIRECTORY."""

import os
import stat
import sys

import compare


def make(root):
    os.mkdir(root)
    for name in ("file", "other"):
        with open(f"{root}/{name}", "wb") as file:
            file.write(b"content")
    os.mkdir(f"{root}/directory", 0o755)
    os.symlink("target", f"{root}/symlink")
    os.mkfifo(f"{root}/fifo")
    os.mknod(f"{root}/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.link(f"{root}/file", f"{root}/second")
    os.setxattr(f"{root}/file", "user.a", b"value")
    for name in [*os.listdir(root), ""]:
        os.utime(f"{root}/{name}", ns=(0, 10**18 + 5), follow_symlinks=False)


def again(path, make_it):
    os.unlink(path)
    make_it(path)
    os.utime(path, ns=(0, 10**18 + 5), follow_symlinks=False)


def rewritten(path):
    with open(path, "r+b") as file:
        file.write(b"CONTENT")
    os.utime(path, ns=(0, 10**18 + 5))


CHANGES = {
    "content": lambda r: rewritten(f"{r}/other"),
    "size": lambda r: (
        os.truncate(f"{r}/other", 3),
        os.utime(f"{r}/other", ns=(0, 10**18 + 5)),
    ),
    "mode": lambda r: os.chmod(f"{r}/other", 0o4644),
    "owner": lambda r: os.chown(f"{r}/other", 0, 7),
    "symlink's owner": lambda r: os.lchown(f"{r}/symlink", 7, 0),
    "mtime": lambda r: os.utime(f"{r}/other", ns=(0, 10**18 + 6)),
    "directory's mtime": lambda r: os.utime(f"{r}/directory", ns=(0, 10**18 + 6)),
    "root's mode": lambda r: os.chmod(r, 0o700),
    "xattr added": lambda r: os.setxattr(f"{r}/other", "user.b", b""),
    "xattr changed": lambda r: os.setxattr(f"{r}/file", "user.a", b"valuf"),
    "xattr removed": lambda r: os.removexattr(f"{r}/file", "user.a"),
    "target": lambda r: again(f"{r}/symlink", lambda p: os.symlink("targe", p)),
    "device": lambda r: again(
        f"{r}/device", lambda p: os.mknod(p, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    ),
    "type": lambda r: again(f"{r}/fifo", lambda p: open(p, "wb").close()),
    "missing": lambda r: os.unlink(f"{r}/fifo"),
    "added": lambda r: os.mkfifo(f"{r}/directory/fifo"),
    "hardlink broken": lambda r: again(
        f"{r}/second", lambda p: os.system(f"cp --preserve=all {r}/file {p}")
    ),
    "hardlink to another": lambda r: (
        os.unlink(f"{r}/other"),
        os.link(f"{r}/file", f"{r}/other"),
    ),
}


def main(where):
    expected = os.fsencode(f"{where}/expected")
    make(os.fsdecode(expected))
    for number, (what, change) in enumerate(CHANGES.items()):
        actual = f"{where}/{number}"
        make(actual)
        assert not list(compare.compare(expected, os.fsencode(actual))), "equal trees differ"
        change(actual)
        # The change alone must be seen, not the time it left on a directory.
        if what != "directory's mtime":
            os.utime(f"{actual}/directory", ns=(0, 10**18 + 5))
        os.utime(actual, ns=(0, 10**18 + 5))
        found = list(compare.compare(expected, os.fsencode(actual)))
        assert found, f"not seen: {what}"
        print(f"{what}: {'; '.join(found)}")
    excepted(f"{where}/excepted")


def excepted(root):
    """An exception holds for what it names, and its own rule holds then."""
    one, two = os.fsencode(f"{root}-1"), os.fsencode(f"{root}-2")
    make(os.fsdecode(one)), make(os.fsdecode(two))
    os.utime(two + b"/directory", ns=(0, 0))
    assert list(compare.compare(one, two))
    assert list(compare.compare(one, two, {b"."}))
    assert not list(compare.compare(one, two, {b"directory"}))
    os.utime(two + b"/directory", ns=(0, 1))
    assert list(compare.compare(one, two, {b"directory"}))
    os.utime(two + b"/directory", ns=(0, 10**18 + 5))
    os.setxattr(two + b"/file", "user.empty", b"")
    assert list(compare.compare(one, two))
    assert not list(compare.compare(one, two, (), True))
    assert list(compare.compare(two, one, (), True))
    os.setxattr(two + b"/file", "user.full", b"x")
    assert list(compare.compare(one, two, (), True))
    within_a_rootfs(root)


def within_a_rootfs(root):
    """In a store, two rootfs may have one inode; one has not two for one."""
    stores = [os.fsencode(f"{root}-{which}") for which in ("apart", "shared")]
    for store in stores:
        for layer in (b"1", b"2"):
            os.makedirs(store + b"/overlay/" + layer + b"/diff")
            for name in (b"a", b"b"):
                path = store + b"/overlay/" + layer + b"/diff/" + name
                open(path, "wb").close()
                os.utime(path, ns=(0, 5))
    one, shared = (store + b"/overlay/" for store in stores)
    os.unlink(shared + b"2/diff/a")
    os.link(shared + b"1/diff/a", shared + b"2/diff/a")
    for folder, _, _ in [*os.walk(stores[0]), *os.walk(stores[1])]:
        os.utime(folder, ns=(0, 5))
    assert list(compare.compare(*stores))
    assert not list(compare.compare(*stores, store=True))
    os.unlink(shared + b"2/diff/b")
    os.link(shared + b"2/diff/a", shared + b"2/diff/b")
    os.utime(shared + b"2/diff", ns=(0, 5))
    assert list(compare.compare(*stores, store=True))


if __name__ == "__main__":
    main(sys.argv[1])
