#!/usr/bin/env python3
"""What the line between C, Go and Rust costs: an image unpacked and verified by a program in each of them, in turns, in one run.

usage: benches/ffi.py IMAGE... --bin PROGRAM --prefix PREFIX [--runs 11] [--work DIR] [--pack] [--most RATIO]
PREFIX is where ffi/install.sh installed the library; benches/ffi.c and benches/ffi-go are compiled against it by pkg-config (without
go on the path, Go is left out; "Go, reader" passes every byte of the image through an io.Reader). PROGRAM is ffi/examples/unpack.rs, built
of the same library with the same profile.
With --pack each verifies, unpacks and packs again. With --most it fails if C or Go takes more than that much of Rust's processor time.
Prints minimum and median of wall and processor time, the peak memory, and the ratios to Rust. Of two equal programs the minimum over many runs is what
other load on the machine disturbs least. --work is where trees are written (default /dev/shm, so that a slow disk hides nothing).
"""
import argparse, hashlib, os, shutil, statistics, subprocess, sys, tempfile, time

ap = argparse.ArgumentParser()
ap.add_argument("images", nargs="+"); ap.add_argument("--bin", required=True); ap.add_argument("--prefix", required=True)
ap.add_argument("--pack", action="store_true"); ap.add_argument("--most", type=float)
ap.add_argument("--runs", type=int, default=11); ap.add_argument("--work", default="/dev/shm")
a = ap.parse_args()
work = tempfile.mkdtemp(prefix="lxi-ffi-", dir=a.work)
out, packed = os.path.join(work, "out"), os.path.join(work, "packed.tar.zst")

def run(command):
    shutil.rmtree(out, ignore_errors=True)
    if a.pack:
        if os.path.exists(packed): os.remove(packed)
        command = command + [packed]
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - start
    if status != 0: sys.exit(f"{command} failed")
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024

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
    over = []
    for image in a.images:
        with open(image, "rb") as f: fingerprint = hashlib.file_digest(f, "sha256").hexdigest()
        ways = {"Rust": [a.bin, image, out, fingerprint], "C": [program, image, out, fingerprint]}
        if with_go:
            ways["Go"] = [program + "-go", image, out, fingerprint]
            # A stream is read once, which is too little for verifying before unpacking.
            if not a.pack: ways["Go, reader"] = ["env", "THROUGH_READER=1"] + ways["Go"]
        got = {name: [] for name in ways}
        for turn in range(a.runs):
            # Who comes first changes, so that nobody always profits.
            for name in sorted(ways, reverse=turn % 2 == 0): got[name].append(run(ways[name]))
        print(f"## {os.path.basename(image)}, {a.runs} runs each")
        best = {}
        for name, runs in got.items():
            (wall, cpu, peak) = zip(*runs)
            best[name] = (min(wall), min(cpu), statistics.median(peak), statistics.median(wall), statistics.median(cpu))
            print("  %-10s wall min %.3f s, median %.3f; processor min %.3f s, median %.3f; peak %.1f MiB" % (name, best[name][0], best[name][3], best[name][1], best[name][4], best[name][2]))
        for name in best:
            if name == "Rust": continue
            ratios = [best[name][i] / best["Rust"][i] for i in (0, 1, 2)]
            print("  %s / Rust: wall min %.3f, processor min %.3f, peak %.3f" % (name, *ratios), flush=True)
            # What passes through an io.Reader is copied twice more, and not what is compared.
            if a.most and name in ("C", "Go") and ratios[1] > a.most: over.append(f"{name} takes more than {a.most} of Rust's processor time")
    if over: sys.exit("\n".join(over))
finally:
    shutil.rmtree(work, ignore_errors=True)
