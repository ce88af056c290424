#!/usr/bin/env python3
"""`make bench`: boundstore beside its peers, whole processes, one run.

Same images, same machine, one after the other in turns, so that whatever else
goes on befalls all of them alike. Prints a table of medians and ratios; leaves
results.json, results.md and results.svg in target/bench.

  benches/run.py [--short] [--rounds N] [--only PART..] [--peers NAME..] [--memory]
                 [--programs target/release]

What is measured is listed in docs/performance.md.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "target/bench"
# The size of the filesystem that is measured on.
DISK_GIB = 12


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Failed(Exception):
    pass


def run(argv, env=None):
    """Seconds, CPU seconds and the largest process' MiB of a whole process."""
    with tempfile.TemporaryFile() as said:
        begun = time.monotonic()
        process = subprocess.Popen([str(arg) for arg in argv], stdout=said, stderr=said,
                                   stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    if process.returncode:
        raise Failed(f"{' '.join(map(str, argv))}: exit {process.returncode}:\n{text}")
    return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime,
            "mib": usage.ru_maxrss / 1024, "said": text}


def remove(path):
    overlay = path / "root/overlay"
    if overlay.exists():
        subprocess.run(["umount", "-l", overlay], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(path, ignore_errors=True)


class Bench:
    def __init__(self, programs, work, images, rounds, short, among=None):
        self.program, self.peer = programs / "boundstore", programs / "peer"
        self.work, self.images, self.rounds = work, images, rounds
        self.short, self.results, self.facts, self.number = short, {}, {}, 0
        self.among = among
        policy = work / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.policy = policy

    def fresh(self):
        self.number += 1
        path = self.work / str(self.number)
        path.mkdir()
        return path

    # The programs.

    def boundstore(self, home, *args):
        return [self.program, "-q", "--sysroot", home, "--repo", home / "repo",
                "--allow-missing-verity", *args]

    def sync(self, home, deployment, images, *more):
        wanted = []
        for name, source in images:
            wanted += ["--image", f"{name}={source}" if source else name]
        return self.boundstore(home, "sync", "--deployment", deployment, "--policy", self.policy,
                               "--spool", home / "spool", *more, *wanted)

    def oci(self, layout, tag):
        return f"localhost/{tag}:1", f"oci:{self.images / layout}:{tag}"

    def podman(self, home, store=None):
        conf = (ROOT / "tests/common/containers.conf").read_text()
        (home / "containers.conf").write_text(conf.replace("@HOME@", str(home)))
        more = f'[storage.options]\nadditionalimagestores = ["{store}"]\n' if store else ""
        (home / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{home}/root"\n'
            f'runroot = "{home}/run"\n{more}')
        return {"CONTAINERS_CONF": str(home / "containers.conf"),
                "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"), "HOME": str(home)}

    def skopeo(self, home, layout, tag):
        return ["skopeo", "--policy", self.policy, "copy", "--quiet", f"oci:{self.images / layout}:{tag}",
                f"containers-storage:[overlay@{home}/root+{home}/run]localhost/{tag}:1"]

    # Measuring.

    def case(self, name, peers, rounds=None):
        """Each peer: (home -> what is done before, home -> what is measured)."""
        say(name)
        for _ in range(rounds or self.rounds):
            for peer, (before, measured) in peers.items():
                if self.among and peer not in self.among:
                    continue
                home = self.fresh()
                env = before(home) or {}
                # What was written before is nobody's to wait for.
                os.sync()
                found = run(measured(home), env)
                ended = time.monotonic()
                os.sync()
                self.note(name, peer, found, time.monotonic() - ended)
                remove(home)

    def note(self, case, peer, found, synced):
        said = found.pop("said")
        if said.startswith("{"):
            found["parts"] = json.loads(said)
            found["seconds"] = sum(found["parts"].values())
        # When all of it would outlive a power cut, also of those who do not wait for that.
        found["durable"] = found["seconds"] + synced
        self.results.setdefault(case, {}).setdefault(peer, []).append(found)

    def median(self, case, peer, what="seconds"):
        runs = self.results.get(case, {}).get(peer)
        return statistics.median(run[what] for run in runs) if runs else None


def nothing(_home):
    return None


def cold(bench):
    for layout in ("gzip", "zstd", "none"):
        def tar(home, layout=layout):
            index = json.loads((bench.images / layout / "index.json").read_text())
            blob = lambda it: bench.images / layout / "blobs" / it["digest"].replace(":", "/")
            manifest = json.loads(blob(index["manifests"][0]).read_text())
            unpack = [f"tar -C {home} -xf {blob(layer)}" for layer in manifest["layers"]]
            return ["sh", "-ec", "; ".join([*unpack, f"sync -f {home}"])]
        peers = {
            "boundstore": (nothing, lambda home, layout=layout:
                           bench.sync(home, "d", [bench.oci(layout, "big")])),
            "skopeo": (nothing, lambda home, layout=layout: bench.skopeo(home, layout, "big")),
            "composefs-oci": (nothing, lambda home, layout=layout: [
                bench.peer, "composefs-oci", bench.images / layout, "big", home / "repo"]),
            "floor": (nothing, lambda home, layout=layout: [
                bench.peer, "floor", bench.images / layout, "big", home / "objects"]),
            "tar x": (nothing, tar),
        }
        if layout == "gzip" and shutil.which("umoci"):
            peers["umoci"] = nothing, lambda home: [
                "umoci", "unpack", "--image", f"{bench.images / 'gzip'}:big", home / "bundle"]
        bench.case(f"cold, {layout}", peers)


@contextlib.contextmanager
def registry(bench):
    home = bench.fresh()
    log = home / "log"
    (home / "config.yml").write_text(
        "version: 0.1\nlog: {level: info}\nhttp: {addr: '127.0.0.1:0'}\n"
        f"storage: {{filesystem: {{rootdirectory: '{home}/data'}}}}\n")
    with open(log, "w") as said:
        process = subprocess.Popen(["docker-registry", "serve", home / "config.yml"],
                                   stdout=said, stderr=said,
                                   env={**os.environ, "OTEL_TRACES_EXPORTER": "none"})
    try:
        for _ in range(600):
            text = log.read_text()
            if "listening on " in text:
                break
            time.sleep(0.05)
        address = text.split("listening on ")[1].split('"')[0].split()[0].split(",")[0]
        run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false",
             f"oci:{bench.images / 'gzip'}:big", f"docker://{address}/big:1"])
        yield address
    finally:
        process.kill()
        process.wait()


def from_registry(bench):
    with registry(bench) as address:
        name = f"{address}/big:1"
        bench.case("registry, gzip", {
            "boundstore": (nothing, lambda home: bench.sync(
                home, "d", [(name, None)], "--no-tls-verify")),
            "podman pull": (bench.podman, lambda home: [
                "podman", "pull", "--quiet", "--tls-verify=false", name]),
            "skopeo's proxy to nowhere": (nothing, lambda home: [
                bench.peer, "proxy", f"docker://{name}"]),
        })


def updates(bench):
    def after(*before):
        def prepare(home):
            for at, (layout, tag) in enumerate(before):
                run(bench.sync(home, f"before-{at}", [bench.oci(layout, tag)]))
        return prepare

    def then(tag, deployment="d"):
        return lambda home: bench.sync(home, deployment, [bench.oci("gzip", tag)])
    for case, before, tag in (
            ("one package changed in a layer", [("gzip", "big")], "package"),
            ("six layers", [], "six"),
            ("one of six layers changed", [("gzip", "six")], "six-changed"),
            ("a second image on the base", [("gzip", "big")], "second"),
            ("most objects are the host's", [("host", "host")], "big"),
            ("nothing changed", [("gzip", "big")], "big")):
        deployment = "before-0" if case == "nothing changed" else "d"
        bench.case(case, {"boundstore": (after(*before), then(tag, deployment))})


def twenty(bench):
    names = [bench.oci("gzip", f"app-{at}") for at in range(20)]
    pinned = []
    index = json.loads((bench.images / "gzip/index.json").read_text())
    digests = {it["annotations"]["org.opencontainers.image.ref.name"]: it["digest"]
               for it in index["manifests"]}
    for at, (_, source) in enumerate(names):
        pinned.append((f"localhost/app-{at}@{digests[f'app-{at}']}", source))
    again = [*names, ("localhost/again:1", names[0][1])]
    home = bench.fresh()
    full = lambda images, deployment="d": lambda _: bench.sync(home, deployment, images)
    bench.case("twenty images", {"boundstore": (
        nothing, lambda home: bench.sync(home, "d", names))})
    run(bench.sync(home, "d", pinned))
    bench.case("twenty pinned images, nothing changed", {"boundstore": (nothing, full(pinned))})
    # Another set of the same layers: nothing to import, all to render.

    def forget(_):
        run(bench.boundstore(home, "remove", "--deployment", "again"))
        run(bench.boundstore(home, "gc"))
    run(bench.sync(home, "again", again))
    bench.case("twenty images, rendered", {"boundstore": (forget, full(again, "again"))})
    status = json.loads(run([*bench.boundstore(home, "--json", "status")])["said"])
    bench.facts["set image of twenty images, bytes"] = find(status, "set_image_bytes")
    target = home / "mounted"
    target.mkdir()

    def unmounted(_):
        subprocess.run(["umount", "-l", target], stderr=subprocess.DEVNULL, check=False)
    bench.case("mount of twenty images", {"boundstore": (
        unmounted, lambda _: bench.boundstore(home, "mount", "--deployment", "d", target))})
    unmounted(home)
    for verb in ("status", "gc", "verify"):
        args = [verb, "--dry-run"] if verb == "gc" else [verb]
        bench.case(f"{verb} of twenty images", {"boundstore": (
            nothing, lambda _, args=args: bench.boundstore(home, *args))})


def find(value, key):
    if isinstance(value, dict):
        if key in value:
            return value[key]
        value = list(value.values())
    if isinstance(value, list):
        for it in value:
            found = find(it, key)
            if found is not None:
                return found
    return None


def containers(bench):
    home, own = bench.fresh(), bench.fresh()
    run(bench.sync(home, "d", [bench.oci("gzip", "five"), bench.oci("gzip", "sixty")]))
    store = home / "store"
    store.mkdir()
    run(bench.boundstore(home, "mount", "--deployment", "d", store))
    for tag in ("five", "sixty"):
        run(bench.skopeo(own, "gzip", tag))
    beside = bench.fresh()
    ours, theirs = bench.podman(beside, store), bench.podman(own)
    # crun refuses the hybrid cgroup hierarchy: its second half is hidden.
    alone = []
    if pathlib.Path("/sys/fs/cgroup/unified/cgroup.procs").exists():
        alone = ["unshare", "--mount", "sh", "-c",
                 'umount /sys/fs/cgroup/unified && exec "$@"', "sh"]
    scripts = {"started": "true", "find": "find / -xdev >/dev/null",
               "all files read": "find / -xdev -type f -exec cat {} + >/dev/null"}
    try:
        for tag in ("five", "sixty"):
            for what, script in scripts.items():
                start = [*alone, "podman", "run", "--rm", f"localhost/{tag}:1", "sh", "-c", script]
                if bench.short and what != "started":
                    continue
                bench.case(f"container of {tag} layers: {what}", {
                    "boundstore": (lambda _: ours, lambda _, start=start: start),
                    "podman": (lambda _: theirs, lambda _, start=start: start),
                })
    finally:
        subprocess.run(["umount", "-l", store], check=False)
        for path in (beside, own):
            subprocess.run(["umount", "-l", path / "root/overlay"], check=False,
                           stderr=subprocess.DEVNULL)


def disk(bench):
    """Bytes on disk: a host's tree and four images that share its base."""
    images = [bench.oci("host", "host"), *(bench.oci("gzip", f"app-{at}") for at in range(4))]
    home, own = bench.fresh(), bench.fresh()
    run(bench.sync(home, "d", images))
    for layout, tag in [("host", "host"), *(("gzip", f"app-{at}") for at in range(4))]:
        run(bench.skopeo(own, layout, tag))
    size = lambda path: int(subprocess.run(
        ["du", "-s", "--block-size=1", path], check=True, capture_output=True, text=True,
    ).stdout.split()[0])
    unique = {}
    for _, source in images:
        layout, tag = source.removeprefix("oci:").rsplit(":", 1)
        for member, content in files(pathlib.Path(layout), tag):
            unique[content] = member
    status = json.loads(run(bench.boundstore(home, "--json", "status"))["said"])
    blocks = sum(-(-length // 4096) * 4096 for length in unique.values())
    bench.facts |= {
        "disk, host and four images: boundstore": size(home / "repo"),
        "disk, host and four images: unique files": sum(unique.values()),
        "disk, host and four images: unique files in blocks of 4 KiB": blocks,
        "disk, host and four images: set image": find(status, "set_image_bytes"),
        "disk, host and four images: containers-storage": size(own / "root"),
    }
    remove(home)
    remove(own)


def files(layout, tag):
    """Digest and length of each file above 64 bytes of an image."""
    import hashlib
    import tarfile
    blob = lambda it: layout / "blobs" / it["digest"].replace(":", "/")
    index = json.loads((layout / "index.json").read_text())
    manifest = next(it for it in index["manifests"]
                    if it["annotations"]["org.opencontainers.image.ref.name"] == tag)
    for layer in json.loads(blob(manifest).read_text())["layers"]:
        with tarfile.open(blob(layer)) as tar:
            for member in tar:
                if member.isreg() and member.size > 64:
                    content = tar.extractfile(member).read()
                    yield member.size, hashlib.sha256(content).digest()


@contextlib.contextmanager
def work_dir(in_memory):
    """An empty folder on a fresh ext4 in a file, which lies on the disk or in memory.

    Not a folder of the disk's own filesystem: how full and how old that is would
    be measured too, and an ext4 without a journal looks long for a place for a
    file where we have just deleted others."""
    # Short: podman's sockets lie below.
    work = pathlib.Path(tempfile.mkdtemp(prefix="w", dir=ROOT / "target"))
    blocks, folder = work / "m", work / "w"
    mounted = []

    def mount(*args):
        run(["mount", *args])
        mounted.append(args[-1])
    try:
        blocks.mkdir()
        folder.mkdir()
        if in_memory:
            mount("-t", "tmpfs", "-o", "size=90%", "bench", blocks)
            run(["truncate", "--size", f"{DISK_GIB}G", blocks / "disk"])
            loop, options = [], "discard"
        else:
            # All of it is written once: nobody is to wait until blocks are found for it.
            run(["dd", "if=/dev/zero", f"of={blocks / 'disk'}", "bs=1M", f"count={DISK_GIB * 1024}",
                 "oflag=direct", "status=none"])
            loop, options = ["--direct-io=on"], "defaults"
        run(["mkfs.ext4", "-q", "-E", "nodiscard", blocks / "disk"])
        device = run(["losetup", "--find", "--show", *loop, blocks / "disk"])["said"].strip()
        try:
            mount("-o", options, device, folder)
        finally:
            # It goes with its last user.
            run(["losetup", "--detach", device])
        yield folder
    finally:
        for path in reversed(mounted):
            subprocess.run(["umount", "-l", path], check=False)
        shutil.rmtree(work, ignore_errors=True)


PARTS = cold, from_registry, updates, twenty, containers, disk


def goals(bench):
    """What is asked of it: text, what was measured, and the most it may be."""
    cores = min(os.cpu_count(), 2)
    median = bench.median
    big = "cold, gzip"

    def ratio(text, case, peer, most, other=None, scale=1.0, what="seconds"):
        ours, theirs = median(case, "boundstore", what), median(other or case, peer, what)
        if ours and theirs:
            yield text, ours / (theirs * scale), most
    both = ("", "seconds"), (", until both are durable", "durable")
    for until, what in both:
        for layout, most in (("gzip", 0.30), ("zstd", 0.35), ("none", 0.30)):
            yield from ratio(f"{layout}: of skopeo copy{until}", f"cold, {layout}", "skopeo", most, what=what)
    yield from ratio("gzip: of composefs-oci's import", big, "composefs-oci", 0.70)
    for layout in ("gzip", "zstd", "none"):
        yield from ratio(f"{layout}: of the floor, spread over {cores} cores",
                         f"cold, {layout}", "floor", 1.5, scale=1 / cores)
    for until, what in both:
        yield from ratio(f"registry: of podman pull{until}", "registry, gzip", "podman pull", 0.45, what=what)
    yield from ratio("or, registry: of skopeo's proxy to nowhere", "registry, gzip",
                     "skopeo's proxy to nowhere", 1.3)
    yield from ratio("one package changed: of cold", "one package changed in a layer",
                     "boundstore", 0.5, big)
    yield from ratio("one of six layers: of cold", "one of six layers changed",
                     "boundstore", 0.25, "six layers")
    for case, most in (("twenty pinned images, nothing changed", 0.030),
                       ("mount of twenty images", 0.010), ("twenty images, rendered", 1.0)):
        if median(case, "boundstore"):
            yield f"{case}, seconds", median(case, "boundstore"), most
    for case, peers in bench.results.items():
        most = 256 if "rendered" in case else 128
        if "boundstore" in peers and "container" not in case and "registry" not in case:
            yield f"{case}: memory, MiB", median(case, "boundstore", "mib"), most
    facts, disk = bench.facts, "disk, host and four images: "
    if disk + "boundstore" in facts:
        least = facts[disk + "unique files in blocks of 4 KiB"] + facts[disk + "set image"]
        yield "disk: of unique files and set image", facts[disk + "boundstore"] / least, 1.03
    for tag, most in (("five", 1.05), ("sixty", 1.0)):
        for what in ("started", "find", "all files read"):
            yield from ratio(f"container of {tag} layers, {what}: of podman's own store",
                             f"container of {tag} layers: {what}", "podman", most)


def report(bench):
    lines = ["| case | | median | of boundstore | least .. most | durable | CPU | memory |",
             "|---|---|---|---|---|---|---|---|"]
    for case, peers in bench.results.items():
        ours = bench.median(case, "boundstore")
        for at, peer in enumerate(peers):
            seconds = [run["seconds"] for run in peers[peer]]
            median = bench.median(case, peer)
            times = f"{median / ours:.2f}" if ours and peer != "boundstore" else ""
            unit, by, places = ("s", 1, 2) if median >= 0.1 else ("ms", 1000, 1)
            shown = lambda value, by=by, places=places: f"{value * by:.{places}f}"
            lines.append(
                f"| {case if not at else ''} | {peer} | {shown(median)} {unit} | {times} | "
                f"{shown(min(seconds))} .. {shown(max(seconds))} | "
                f"{shown(bench.median(case, peer, 'durable'))} {unit} | "
                f"{bench.median(case, peer, 'cpu'):.2f} s | {bench.median(case, peer, 'mib'):.0f} MiB |")
    lines += ["", "| floor, one core | gzip | zstd | none |", "|---|---|---|---|"]
    floors = {layout: bench.results.get(f"cold, {layout}", {}).get("floor", [])
              for layout in ("gzip", "zstd", "none")}
    for part in (next(iter(floors.values())) or [{"parts": {}}])[0]["parts"]:
        row = [f"{statistics.median(run['parts'][part] for run in runs):.2f} s" if runs else ""
               for runs in floors.values()]
        lines.append(f"| {part} | {' | '.join(row)} |")
    lines += ["", "| fact | |", "|---|---|"]
    lines += [f"| {what} | {value:,} |" for what, value in bench.facts.items() if value]
    lines += ["", "| goal | measured | at most | |", "|---|---|---|---|"]
    for text, found, most in goals(bench):
        lines.append(f"| {text} | {found:.3f} | {most} | {'yes' if found <= most else 'NO'} |")
    return "\n".join(lines) + "\n"


def plot(bench):
    """Bars of the cases that have peers."""
    rows, y, widest = [], 20, 0.0
    cases = {case: peers for case, peers in bench.results.items() if len(peers) > 1}
    for case, peers in cases.items():
        widest = max(widest, *(bench.median(case, peer) for peer in peers))
    for case, peers in cases.items():
        rows.append(f'<text x="10" y="{y + 14}" font-weight="bold">{case}</text>')
        y += 22
        for peer in peers:
            seconds = bench.median(case, peer)
            width = 1 + 520 * seconds / widest
            colour = "#2f6f9f" if peer == "boundstore" else "#b9b9b9"
            rows.append(f'<text x="190" y="{y + 13}" text-anchor="end">{peer}</text>'
                        f'<rect x="200" y="{y}" width="{width:.1f}" height="16" fill="{colour}"/>'
                        f'<text x="{206 + width:.1f}" y="{y + 13}">{seconds:.2f} s</text>')
            y += 20
        y += 10
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="800" height="{y + 10}" '
            f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" '
            f'fill="white"/>\n' + "\n".join(rows) + "\n</svg>\n")


def machine(work):
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                  if line.startswith("model name")), platform.machine())
    tool = lambda *argv: subprocess.run(argv, capture_output=True, text=True,
                                        check=False).stdout.strip().splitlines()[0]
    return {"processor": model, "processors": os.cpu_count(), "kernel": platform.release(),
            "filesystem": tool("findmnt", "-n", "-o", "FSTYPE,SOURCE", "-T", str(work)),
            "skopeo": tool("skopeo", "--version"), "podman": tool("podman", "--version"),
            "date": time.strftime("%Y-%m-%d")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", nargs="+", choices=[part.__name__ for part in PARTS])
    parser.add_argument("--peers", nargs="+", metavar="NAME", help="these alone")
    parser.add_argument("--memory", action="store_true",
                        help="on an ext4 in memory, not in a file on the disk")
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "target/release")
    args = parser.parse_args()
    short = ["--short"] if args.short else []
    images = pathlib.Path(subprocess.run([ROOT / "benches/images.py", *short], check=True,
                                         stdout=subprocess.PIPE, text=True).stdout.strip())
    OUT.mkdir(parents=True, exist_ok=True)
    rounds = args.rounds or (1 if args.short else 7)
    begun = time.monotonic()
    with work_dir(args.memory) as work:
        bench = Bench(args.programs.absolute(), work, images, rounds, args.short, args.peers)
        on = machine(work)
        try:
            for part in PARTS:
                if not args.only or part.__name__ in args.only:
                    part(bench)
        finally:
            for path in work.iterdir():
                remove(path) if path.is_dir() else None
    if not any(bench.results.values()) and not bench.facts:
        sys.exit(f"bench: nothing was measured: {args.peers} are no peers of {args.only or 'anything'}")
    table = report(bench)
    (OUT / "results.json").write_text(json.dumps(
        {"machine": on, "runs": bench.results, "facts": bench.facts}, indent=1))
    (OUT / "results.md").write_text(table)
    (OUT / "results.svg").write_text(plot(bench))
    print(table)
    say(f"{bench.number} measured in {time.monotonic() - begun:.0f} s: target/bench/results.*")


if __name__ == "__main__":
    main()
