#!/usr/bin/env python3
"""Compares every layer prefix of a store with podman's own view of it.

    prefixes.py [--made-up FILE] [--empty-xattrs-lost] REFERENCE STORE

REFERENCE is a containers-storage directory (overlay driver) into which podman
or skopeo copied the images; STORE the store to judge. For each layer of STORE,
`overlay/<layer>/diff` must equal what overlayfs shows of that layer and its
parents in REFERENCE. The options are those of compare.py, but that FILE holds
such a list for every length of a chain; the last stands for all longer ones.
Needs root, and python3 only.
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


def depths(layers):
    """Layer ID -> how many layers lie below it."""
    parents = {layer["id"]: layer.get("parent") for layer in layers}
    found = {}
    for layer in parents:
        above, depth = layer, -1
        while above:
            above, depth = parents[above], depth + 1
        found[layer] = depth
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--made-up", metavar="FILE")
    parser.add_argument("--empty-xattrs-lost", action="store_true")
    parser.add_argument("reference")
    parser.add_argument("store")
    args = parser.parse_args()
    made_up = compare.json_file(args.made_up) if args.made_up else [[]]
    layers = compare.json_file(os.path.join(args.store, "overlay-layers", "layers.json"))
    total = 0
    for layer, depth in depths(layers).items():
        diff = os.fsencode(os.path.join(args.store, "overlay", layer, "diff"))
        excepted = set(map(os.fsencode, made_up[min(depth, len(made_up) - 1)]))
        count = 0
        with overlay_view(args.reference, layer) as view:
            view = os.fsencode(view)
            entries = len(compare.walk(view))
            for line in compare.compare(view, diff, excepted, args.empty_xattrs_lost):
                count += 1
                if count <= 50:
                    print(f"{layer[:12]} {line}")
        print(f"{layer[:12]}: {entries} entries, {count} differences")
        total += count
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
