#!/usr/bin/env python3
"""What the line between C, Go and Rust costs: an image unpacked and verified by a program in each of them, in turns, in one run.

usage: benches/ffi.py IMAGE... --bin PROGRAM --prefix PREFIX [--runs 11] [--work DIR]
PREFIX is where ffi/install.sh installed the library; benches/ffi.c and benches/ffi-go are compiled against it by pkg-config (without
go on the path, Go is left out; "Go, reader" passes every byte of the image through an io.Reader). PROGRAM is ffi/examples/unpack.rs, built
of the same library with the same profile.
Prints minimum and median of wall and processor time, and the ratios to Rust. Of two equal programs the minimum over many runs is what
other load on the machine disturbs least. --work is where trees are written (default /dev/shm, so that a slow disk hides nothing).
"""
import argparse, hashlib, os, resource, shutil, statistics, subprocess, sys, tempfile, time

ap = argparse.ArgumentParser()
ap.add_argument("images", nargs="+"); ap.add_argument("--bin", required=True); ap.add_argument("--prefix", required=True)
ap.add_argument("--runs", type=int, default=11); ap.add_argument("--work", default="/dev/shm")
a = ap.parse_args()
work = tempfile.mkdtemp(prefix="lxi-ffi-", dir=a.work)
out = os.path.join(work, "out")

def run(command):
    shutil.rmtree(out, ignore_errors=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

try:
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(a.prefix, "lib/pkgconfig"))
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "lxd_image"], env=env, check=True, capture_output=True, text=True).stdout.split()
    program, source = os.path.join(work, "unpack"), os.path.join(os.path.dirname(os.path.abspath(__file__)), "ffi.c")
    subprocess.run(["cc", "-std=c11", "-O2", source, *flags, f"-Wl,-rpath,{a.prefix}/lib", "-o", program], check=True)
    with_go = shutil.which("go") is not None
    if with_go:
        go_env = dict(env, CGO_LDFLAGS=f"-O2 -g -Wl,-rpath,{a.prefix}/lib")
        subprocess.run(["go", "build", "-a", "-o", program + "-go", "."], cwd=os.path.join(os.path.dirname(source), "ffi-go"), env=go_env, check=True)
    else: print("go is not there: left out")
    for image in a.images:
        with open(image, "rb") as f: fingerprint = hashlib.file_digest(f, "sha256").hexdigest()
        ways = {"Rust": [a.bin, image, out, fingerprint], "C": [program, image, out, fingerprint]}
        if with_go:
            ways["Go"] = [program + "-go", image, out, fingerprint]
            ways["Go, reader"] = ["env", "THROUGH_READER=1"] + ways["Go"]
        got = {name: [] for name in ways}
        for turn in range(a.runs):
            # Who comes first changes, so that nobody always profits.
            for name in sorted(ways, reverse=turn % 2 == 0): got[name].append(run(ways[name]))
        print(f"## {os.path.basename(image)}, {a.runs} runs each")
        best = {}
        for name, runs in got.items():
            (wall, cpu) = zip(*runs)
            best[name] = (min(wall), min(cpu), statistics.median(wall), statistics.median(cpu))
            print("  %-10s wall min %.3f s, median %.3f; processor min %.3f s, median %.3f" % (name, best[name][0], best[name][2], best[name][1], best[name][3]))
        for name in best:
            if name != "Rust": print("  %s / Rust: wall min %.3f, processor min %.3f" % (name, *(best[name][i] / best["Rust"][i] for i in (0, 1))), flush=True)
finally:
    shutil.rmtree(work, ignore_errors=True)
