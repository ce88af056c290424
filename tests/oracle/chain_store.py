#!/usr/bin/env python3
"""Turns a podman-made store into one of squashed trees, with cp(1).

    chain_store.py REFERENCE STORE

What the project's own stores must be equal to, made without any of its code:
the tests hold the oracle and the podman battery against it. Needs root.
"""

import os
import shutil
import subprocess
import sys

import prefixes


def main(reference, store):
    os.mkdir(store)
    for part in ("overlay-images", "overlay-layers"):
        shutil.copytree(f"{reference}/{part}", f"{store}/{part}")
    for part in ("overlay/l", "vfs-images", "vfs-layers"):
        os.makedirs(f"{store}/{part}")
    for lock in ("vfs-images/images.lock", "vfs-layers/layers.lock"):
        open(f"{store}/{lock}", "wb").close()
    for layer in os.listdir(f"{reference}/overlay-layers"):
        layer = layer.removesuffix(".tar-split.gz")
        home = f"{store}/overlay/{layer}"
        if not os.path.isdir(f"{reference}/overlay/{layer}"):
            continue
        for part in ("", "/empty", "/merged"):
            os.mkdir(home + part)
        with prefixes.overlay_view(reference, layer) as view:
            subprocess.run(["cp", "-a", view, f"{home}/diff"], check=True)
        shutil.copy(f"{reference}/overlay/{layer}/link", f"{home}/link")
        with open(f"{home}/link") as file:
            os.symlink(f"../{layer}/diff", f"{store}/overlay/l/{file.read()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
