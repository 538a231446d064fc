#!/usr/bin/env python3
"""Deltas against `xdelta3 -9`: paired, in turns, in one run.

usage: benches/delta.py --bin lxd-image [--old FILE --new FILE] [--runs 3] [--work DIR]
Without files, two SquashFS images are made of this machine's /usr/bin and Python library: of the new one a part of the files is changed, removed
and renamed. Makes a delta with each program, and applies both deltas with both. Prints wall time, CPU time, peak memory and size, and the ratios.
--work must have room for six times the image (default /dev/shm).
"""
import argparse, glob, os, random, shutil, statistics, subprocess, sys, tempfile, time

ap = argparse.ArgumentParser()
ap.add_argument("--bin", required=True); ap.add_argument("--old"); ap.add_argument("--new"); ap.add_argument("--runs", type=int, default=3); ap.add_argument("--work", default="/dev/shm")
a = ap.parse_args()
for program in ("xdelta3", *(() if a.old else ("mksquashfs",))):
    if not shutil.which(program): sys.exit(f"{program} is needed and not here")
if bool(a.old) != bool(a.new): sys.exit("--old and --new belong together")
work = tempfile.mkdtemp(prefix="lxi-delta-", dir=a.work)

def run(cmd):
    t = time.monotonic()
    p = subprocess.run(["/usr/bin/time", "-f", "%U %S %M", *cmd], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wall = time.monotonic() - t
    if p.returncode: raise RuntimeError(f"failed: {cmd}\n{p.stderr[-600:]}")
    user, system, peak = p.stderr.strip().splitlines()[-1].split()
    return wall, float(user) + float(system), int(peak) / 1024

def same(one, other):
    return subprocess.run(["cmp", "-s", one, other]).returncode == 0

def make_images():
    chance = random.Random(1)
    tree = work + "/tree"; os.makedirs(tree)
    for source in ["/usr/bin", *glob.glob("/usr/lib/python3*")]: shutil.copytree(source, os.path.join(tree, source.strip("/").replace("/", "_")), symlinks=True, ignore_dangling_symlinks=True)
    pack = lambda to: subprocess.run(["mksquashfs", tree, to, "-comp", "gzip", "-noappend", "-quiet", "-no-progress", "-all-time", "1700000000", "-mkfs-time", "1700000000"], check=True, stdout=subprocess.DEVNULL)
    pack(work + "/old")
    files = sorted(os.path.join(d, f) for d, _, names in os.walk(tree) for f in names)
    for path in [f for f in files if os.path.isfile(f) and not os.path.islink(f)]:
        lot = chance.random()
        if lot < 0.03: os.remove(path)
        elif lot < 0.05: os.rename(path, os.path.join(os.path.dirname(path), "a-" + os.path.basename(path)))
        elif lot < 0.12 and os.path.getsize(path) > 100:
            with open(path, "rb") as f: data = bytearray(f.read())
            for _ in range(len(data) // 400 + 1): data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            with open(path, "wb") as f: f.write(data)
    pack(work + "/new"); shutil.rmtree(tree)
    return work + "/old", work + "/new"

try:
    old, new = (a.old, a.new) if a.old else make_images()
    out = lambda name: f"{work}/{name}"
    ways = {
        "make: xdelta3 -9": (["xdelta3", "-e", "-9", "-f", "-s", old, new, out("theirs")], None, "theirs"),
        "make: lxd-image": ([a.bin, "delta", "make", old, new, out("ours"), "-q"], None, "ours"),
        "apply theirs: xdelta3": (["xdelta3", "-d", "-f", "-s", old, out("theirs"), out("made")], new, None),
        "apply theirs: lxd-image": ([a.bin, "delta", "apply", old, out("theirs"), out("made"), "-q"], new, None),
        "apply ours: xdelta3": (["xdelta3", "-d", "-f", "-s", old, out("ours"), out("made")], new, None),
        "apply ours: lxd-image": ([a.bin, "delta", "apply", old, out("ours"), out("made"), "-q"], new, None),
    }
    got = {name: [] for name in ways}
    for _ in range(a.runs):
        for name, (command, result, target) in ways.items():
            for stale in [target] if target else ["made"]:
                if os.path.exists(out(stale)): os.remove(out(stale))
            got[name].append(run(command))
            if result and not same(out("made"), result): sys.exit(f"{name} made another file")
    print(f"## from {os.path.getsize(old)} to {os.path.getsize(new)} bytes; delta of xdelta3 -9: {os.path.getsize(out('theirs'))}, ours: {os.path.getsize(out('ours'))}")
    for name, v in got.items():
        print(f"  {name:24s} min {min(x[0] for x in v):7.3f} s  median {statistics.median(x[0] for x in v):7.3f}  cpu {min(x[1] for x in v):7.3f}  peak {max(x[2] for x in v):6.1f} MiB")
    best = lambda name: min(x[0] for x in got[name])
    print(f"  ours to theirs: size {os.path.getsize(out('ours')) / os.path.getsize(out('theirs')):.3f}, time to make {best('make: lxd-image') / best('make: xdelta3 -9'):.2f}, "
          f"to apply theirs {best('apply theirs: lxd-image') / best('apply theirs: xdelta3'):.2f}, to apply ours {best('apply ours: lxd-image') / best('apply ours: xdelta3'):.2f}")
finally:
    shutil.rmtree(work, ignore_errors=True)
