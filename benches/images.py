#!/usr/bin/env python3
"""Makes the images that `make bench` compares on, and prints their folder.

They are real: Debian's packages, unpacked by mmdebstrap, cut into layers.

  <dir>/none, gzip, zstd    OCI layouts of `big`: three layers, compressed so
  <dir>/gzip                besides, all of the same files:
    package                   `big` with the files of one folder changed
    six, six-changed          six layers; the fourth is another one
    second                    `big`'s base with a layer of its own
    app-0 .. app-19           `big` with a small layer each on top
    five, sixty               the same files in as many layers
  <dir>/host                a tree with most of those files, as one layer

  benches/images.py [--short]   short: a sixth of the files, for a quick run
"""

import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("BOUNDSTORE_CACHE", ROOT / ".cache"))
PACKAGES = "gcc,g++,git,python3"
TIME = 1_700_000_000


def say(text):
    print(f"images: {text}", file=sys.stderr)


def tree(path, include):
    """A Debian root filesystem as a tar, made with this machine's apt sources."""
    if path.exists():
        return
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)",
         "Created-By: Packages", "Origin: Debian"],
        check=True, capture_output=True, text=True).stdout
    suite = next(line.split("=")[1].strip().strip('"') for line in open("/etc/os-release")
                 if line.startswith("VERSION_CODENAME="))
    say(f"a {suite} root filesystem: {path.name}")
    made = path.with_suffix(".part.tar")
    subprocess.run(["mmdebstrap", "--quiet", "--mode=root", *include, suite, made, "-"],
                   input="\n".join(sorted(set(listed.splitlines()))), text=True, check=True)
    made.rename(path)


class Layer:
    """A layer's tar, written entry by entry."""

    def __init__(self, path):
        self.path = path
        self.tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)

    def add(self, member, data=None, changed=b""):
        if data is not None:
            content = data.read() + changed
            member.size = len(content)
            data = io.BytesIO(content)
        self.tar.addfile(member, data)

    def text(self, name, content):
        member = tarfile.TarInfo(name)
        member.mtime = TIME
        self.add(member, io.BytesIO(content))

    def close(self):
        self.tar.close()
        return self.path


def group(name, count):
    """Which of so many layers has a path: whole folders stay together."""
    folder = "/".join(name.split("/")[:-1])
    return int.from_bytes(hashlib.sha256(folder.encode()).digest()[:4], "big") % count


def read(path):
    with tarfile.open(path) as tar:
        for member in tar:
            member.name = member.name.removeprefix("./").strip("/") or "."
            if member.islnk():
                member.linkname = member.linkname.removeprefix("./")
            if member.name != "." and not member.name.startswith("dev/"):
                yield member, tar.extractfile(member) if member.isreg() else None


def cut(source, base, work, name, count, changed=lambda group, name: b""):
    """The files of a tar that are not in its base, as so many layers: a hard link
    in that of its file."""
    layers = [Layer(work / f"{name}-{at}.tar") for at in range(count)]
    for member, data in read(source):
        if member.name in base:
            continue
        at = group(member.linkname if member.islnk() else member.name, count)
        layers[at].add(member, data, changed(at, member.name) if data else b"")
    return [layer.close() for layer in layers]


class Layout:
    """An OCI layout."""

    def __init__(self, path, compression):
        self.path, self.compression, self.index, self.known = path, compression, [], {}
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, content):
        digest = hashlib.sha256(content).hexdigest()
        (self.path / "blobs/sha256" / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    def layer(self, tar):
        if tar not in self.known:
            content = tar.read_bytes()
            diff_id = "sha256:" + hashlib.sha256(content).hexdigest()
            pack = {"none": ["cat"], "gzip": ["gzip", "-6", "-n"], "zstd": ["zstd", "-3", "-q"]}
            packed = subprocess.run(pack[self.compression], input=content, check=True,
                                    capture_output=True).stdout
            suffix = "" if self.compression == "none" else f"+{self.compression}"
            media = {"mediaType": f"application/vnd.oci.image.layer.v1.tar{suffix}"}
            self.known[tar] = diff_id, media | self.blob(packed)
        return self.known[tar]

    def image(self, tag, tars):
        layers = [self.layer(tar) for tar in tars]
        config = self.blob(json.dumps({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["/bin/sh", "-c", "echo started"], "Labels": {"tag": tag}},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for diff_id, _ in layers]},
        }).encode())
        manifest = self.blob(json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json"} | config,
            "layers": [layer for _, layer in layers],
        }).encode())
        self.index.append({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest,
            "annotations": {"org.opencontainers.image.ref.name": tag}})

    def close(self):
        (self.path / "index.json").write_text(
            json.dumps({"schemaVersion": 2, "manifests": self.index}))


def build(short, made):
    cache = made.parent
    if short:
        full, base = cache / "short.tar", None
        tree(full, ["--variant=extract", "--include=base-files,dash,coreutils,grep,perl-base"])
        folder = "usr/bin/"
    else:
        base, full = cache / "base.tar", cache / "full.tar"
        tree(base, ["--variant=minbase"])
        tree(full, ["--variant=minbase", f"--include={PACKAGES}"])
        folder = "usr/lib/git-core/"
    work = made.with_suffix(".work")
    shutil.rmtree(work, ignore_errors=True)
    (work / "tars").mkdir(parents=True)
    tars, out = work / "tars", work / "out"

    say("layers")
    if short:
        halves = cut(full, set(), tars, "half", 2)
        base_layer = halves[0]
    else:
        layer = Layer(tars / "base.tar")
        for member, data in read(base):
            layer.add(member, data)
        base_layer = layer.close()
    with tarfile.open(base_layer) as tar:
        held = {member.name for member in tar}
    change = lambda _, name: b"\nchanged\n" if name.startswith(folder) else b""
    two = cut(full, held, tars, "two", 2)
    package = cut(full, held, tars, "package", 2, change)
    five = cut(full, held, tars, "six", 5)
    changed = cut(full, held, tars, "six-changed", 5,
                  lambda at, _: b"\nchanged\n" if at == 2 else b"")
    four = cut(full, held, tars, "five", 4)
    many = cut(full, held, tars, "sixty", 59)
    host = cut(full, set(), tars, "host", 1)
    apps = []
    for at in range(20):
        layer = Layer(tars / f"app-{at}.tar")
        for file in range(20):
            layer.text(f"app/{at}/{file}", f"{at} {file}\n".encode() * 2000)
        apps.append(layer.close())
    layer = Layer(tars / "second.tar")
    for file in range(200):
        layer.text(f"opt/second/{file}", f"second {file}\n".encode() * 4000)
    second = layer.close()

    big = [base_layer, *two]
    for compression in ("none", "zstd", "gzip"):
        say(f"layout: {compression}")
        layout = Layout(out / compression, compression)
        layout.image("big", big)
        if compression == "gzip":
            layout.image("package", [base_layer, *package])
            layout.image("six", [base_layer, *five])
            layout.image("six-changed", [base_layer, *five[:2], changed[2], *five[3:]])
            layout.image("second", [base_layer, second])
            layout.image("five", [base_layer, *four])
            layout.image("sixty", [base_layer, *many])
            for at, app in enumerate(apps):
                layout.image(f"app-{at}", [*big, app])
        layout.close()
    layout = Layout(out / "host", "none")
    layout.image("host", host)
    layout.close()
    out.rename(made)
    shutil.rmtree(work)


def main():
    short = "--short" in sys.argv[1:]
    key = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()[:16]
    made = CACHE / "bench" / f"{'short' if short else 'long'}-{key}"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        build(short, made)
    print(made)


if __name__ == "__main__":
    main()
