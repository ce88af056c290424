#!/usr/bin/env python3
"""Compares every layer prefix of a store with podman's own view of it.

    prefixes.py [--made-up FILE] [--empty-xattrs-lost] REFERENCE STORE

REFERENCE is a containers-storage directory (overlay driver) into which podman
or skopeo copied the images; STORE the store to judge. For each layer of STORE,
`overlay/<layer>/diff` must equal what overlayfs shows of that layer and its
parents in REFERENCE. The options are those of compare.py. Needs root, and
python3 only.
Exit status: 0 all equal, 1 something differs, 2 usage.
"""

import argparse
import contextlib
import ctypes
import json
import os
import sys
import tempfile

import compare

libc = ctypes.CDLL(None, use_errno=True)


def mount(source, target, kind, flags, data):
    if libc.mount(source, target, kind, flags, data) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"mount {data}: {os.strerror(error)}", os.fsdecode(target))


@contextlib.contextmanager
def overlay_view(graph_root, layer):
    """Mounts what containers-storage would mount for `layer`, read-only."""
    home = os.path.join(graph_root, "overlay")
    with open(os.path.join(graph_root, "overlay-layers", "layers.json")) as file:
        known = {entry["id"] for entry in json.load(file)}
    if layer not in known:
        raise KeyError(f"layer {layer} is not in the reference store {graph_root}")
    lowers = [os.path.join(layer, "diff")]
    with contextlib.suppress(FileNotFoundError):
        with open(os.path.join(home, layer, "lower")) as file:
            lowers += file.read().split(":")
    with tempfile.TemporaryDirectory(prefix="boundstore-oracle.") as temporary:
        view, empty = os.path.join(temporary, "view"), os.path.join(temporary, "empty")
        os.mkdir(view), os.mkdir(empty)
        # Short, relative names: a page is all that mount(2) takes.
        names = []
        for number, lower in enumerate(lowers):
            os.symlink(os.path.realpath(os.path.join(home, lower)), f"{temporary}/{number}")
            names.append(str(number))
        if len(names) == 1:
            names.append("empty")
        previous = os.getcwd()
        os.chdir(temporary)
        try:
            read_only = 1
            mount(b"overlay", b"view", b"overlay", read_only, f"lowerdir={':'.join(names)}".encode())
        finally:
            os.chdir(previous)
        try:
            yield view
        finally:
            detach = 2
            libc.umount2(os.fsencode(view), detach)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    compare.add_exceptions(parser)
    parser.add_argument("reference")
    parser.add_argument("store")
    args = parser.parse_args()
    with open(os.path.join(args.store, "overlay-layers", "layers.json")) as file:
        layers = [entry["id"] for entry in json.load(file)]
    total = 0
    for layer in layers:
        diff = os.fsencode(os.path.join(args.store, "overlay", layer, "diff"))
        count = 0
        with overlay_view(args.reference, layer) as view:
            view = os.fsencode(view)
            entries = len(compare.walk(view))
            for line in compare.compare(view, diff, *compare.exceptions(args)):
                count += 1
                if count <= 50:
                    print(f"{layer[:12]} {line}")
        print(f"{layer[:12]}: {entries} entries, {count} differences")
        total += count
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
