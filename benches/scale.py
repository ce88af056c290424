#!/usr/bin/env python3
"""`make scale`: what boundstore takes by the number of images and files.

25, 50, 100 and 200 generated images of 10,000 files, on five bases; five
deployments, each with one image changed. Nothing may grow faster than the
number of files does. Prints a table; leaves scale.json, scale.md and scale.svg
in target/bench.

  benches/scale.py [--most N] [--memory] [--programs target/release]
"""

import argparse
import json
import math
import multiprocessing
import pathlib
import random
import shutil
import statistics
import subprocess
import tempfile

from images import CACHE, Layer, Layout
from run import OUT, ROOT, Bench, find, machine, remove, run, say, work_dir

IMAGES, BASES, DEPLOYMENTS = (25, 50, 100, 200), 5, 5
BASE_FILES, OWN_FILES = 9000, 1000


def layer(path, top, files, seed):
    """So many small files of its own, sixty to a folder."""
    chance = random.Random(seed)
    made = Layer(path)
    for at in range(files):
        size = chance.choice((40, 150, 600, 1500, 6000))
        made.text(f"{top}/{at // 60}/file-{at}", chance.randbytes(size))
    return made.close()


def images(most):
    """An OCI layout of `0` .. and of changed ones, `0-1` ..; made once."""
    path = CACHE / "bench" / f"scale-{most}"
    if not path.exists():
        # What is measured begins as a copy of this process, and with its memory.
        maker = multiprocessing.Process(target=make, args=(most, path))
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit("scale: the images could not be made")
    return path


def make(most, path):
    made = path.with_suffix(".part")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    say(f"{most} images of {BASE_FILES + OWN_FILES} files")
    layout = Layout(made / "none", "none")
    with tempfile.TemporaryDirectory(dir=made) as work:
        work = pathlib.Path(work)
        bases = [layer(work / f"base-{at}", "usr", BASE_FILES, f"base {at}")
                 for at in range(BASES)]
        for tag in [*range(most), *(f"{at}-1" for at in range(1, DEPLOYMENTS))]:
            at = int(str(tag).split("-")[0])
            own = layer(work / "own", f"opt/{at}", OWN_FILES, f"own {tag}")
            layout.known.pop(own, None)
            layout.image(str(tag), [bases[at % BASES], own])
    layout.close()
    made.rename(path)


def bytes_of(home):
    said = subprocess.run(["du", "-s", "--block-size=1", home / "repo"], check=True,
                          capture_output=True, text=True)
    return int(said.stdout.split()[0])


def measure(bench, count):
    """Seconds and MiB of each verb, with so many images."""
    home, found = bench.fresh(), {}
    names = [bench.oci("none", str(at)) for at in range(count)]

    def note(what, argv, rounds=3):
        runs = [run(argv) for _ in range(rounds)]
        found[what] = {unit: statistics.median(it[unit] for it in runs) for unit in ("seconds", "mib")}
    note("sync, all new", bench.sync(home, "d0", names), 1)
    note("sync, nothing changed", bench.sync(home, "d0", names))
    before = bytes_of(home)
    for at in range(1, DEPLOYMENTS):
        changed = [*names[:at], (names[at][0], f"oci:{bench.images / 'none'}:{at}-1"), *names[at + 1:]]
        argv = bench.sync(home, f"d{at}", changed)
        note("sync, one image changed", argv, 1)
    found["sync, one image changed"]["bytes"] = (bytes_of(home) - before) // (DEPLOYMENTS - 1)
    target = home / "mounted"
    target.mkdir()
    note("mount", bench.boundstore(home, "mount", "--deployment", "d0", target), 1)
    subprocess.run(["umount", "-l", target], check=False)
    note("status", bench.boundstore(home, "status"))
    note("gc, nothing to do", bench.boundstore(home, "gc"))
    note("verify", bench.boundstore(home, "verify"), 1)
    status = json.loads(run([*bench.boundstore(home, "--json", "status")])["said"])
    found["set image"] = {"bytes": find(status, "set_image_bytes")}
    remove(home)
    return found


def report(results):
    counts = list(results)
    title = " | ".join(f"{count} images, {count * (BASE_FILES + OWN_FILES):,} files" for count in counts)
    lines = [f"| | {title} |", "|---" * (len(counts) + 1) + "|"]
    for what in results[counts[0]]:
        cells = []
        for count in counts:
            one = results[count][what]
            cell = [f"{one['seconds']:.2f} s, {one['mib']:.0f} MiB"] if "seconds" in one else []
            cell += [f"{one['bytes'] / 1e6:.1f} MB"] if "bytes" in one else []
            cells.append(", ".join(cell))
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(results):
    """Seconds, memory and bytes against files, both axes logarithmic."""
    counts, out = list(results), []
    colours = ("#2f6f9f", "#c0504d", "#4f8f4f", "#8064a2", "#d08a2e", "#3f9f9f", "#777777")
    for panel, (unit, title) in enumerate((("seconds", "seconds"), ("mib", "memory, MiB"),
                                           ("bytes", "bytes written, MB"))):
        left = 60 + 330 * panel
        by = 1e6 if unit == "bytes" else 1
        lines = {what: [results[count][what][unit] / by for count in counts]
                 for what in results[counts[0]] if unit in results[counts[0]][what]}
        values = [value for line in lines.values() for value in line]
        low, high = math.log(min(values)), math.log(max(values) * 1.01)
        y = lambda value, low=low, high=high: 240 - 200 * (math.log(value) - low) / (high - low)
        x = lambda at, left=left: left + 240 * at / max(len(counts) - 1, 1)
        out.append(f'<text x="{left}" y="24" font-weight="bold">{title}</text>'
                   f'<rect x="{left}" y="40" width="240" height="200" fill="none" stroke="#ccc"/>')
        for at, count in enumerate(counts):
            files = count * (BASE_FILES + OWN_FILES) / 1e6
            out.append(f'<text x="{x(at)}" y="256" text-anchor="middle">{files:g} M</text>')
        for value in (min(values), max(values)):
            out.append(f'<text x="{left - 4}" y="{y(value) + 4:.0f}" text-anchor="end">{value:.3g}</text>')
        for number, (what, line) in enumerate(lines.items()):
            points = " ".join(f"{x(at):.0f},{y(value):.0f}" for at, value in enumerate(line))
            colour = colours[number % len(colours)]
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
                       f'<text x="{left}" y="{276 + 16 * number}" fill="{colour}">{what}</text>')
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="1040" height="400" '
            'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" '
            'fill="white"/>\n' + "\n".join(out) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=IMAGES[-1])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "target/release")
    args = parser.parse_args()
    layouts = images(args.most)
    OUT.mkdir(parents=True, exist_ok=True)
    results = {}
    with work_dir(args.memory) as work:
        bench = Bench(args.programs.absolute(), work, layouts, 1, False)
        on = machine(work)
        for count in [it for it in IMAGES if it <= args.most] or [args.most]:
            say(f"{count} images")
            results[count] = measure(bench, count)
            print(report(results), flush=True)
    (OUT / "scale.json").write_text(json.dumps({"machine": on, "results": results}, indent=1))
    (OUT / "scale.md").write_text(report(results))
    (OUT / "scale.svg").write_text(plot(results))
    say("target/bench/scale.*")


if __name__ == "__main__":
    main()
