#!/usr/bin/env python3
"""What a user would run today against lxd-image, paired and interleaved in one run.

usage: benches/peers.py INPUTS [--bin lxd-image] [--runs 3] [--only unpack,hash,squashfs,pack] [--out result.json] [--work DIR]
INPUTS is made by benches/make-inputs.sh. Without --bin only the peers are measured. Prints, for each input, the minimum wall time, CPU time,
peak memory and the ratio to the first line, which is what LXD does: hash the file, then decode and extract it. --work is where trees
are written (default /dev/shm, so that a slow disk hides nothing); it needs 1 GB. Root is needed for a fair comparison (owners).
"""
import argparse, json, os, shutil, statistics, subprocess, sys, time

ap = argparse.ArgumentParser()
ap.add_argument("inputs"); ap.add_argument("--bin"); ap.add_argument("--runs", type=int, default=3)
ap.add_argument("--only", default="hash,unpack,squashfs"); ap.add_argument("--out"); ap.add_argument("--work", default="/dev/shm")
a = ap.parse_args()
U, S, out = a.inputs + "/unified/", a.inputs + "/split/", os.path.join(a.work, "lxi-bench-out")

def run(cmd):
    shutil.rmtree(out, ignore_errors=True); os.sync()
    t = time.monotonic()
    p = subprocess.run(["/usr/bin/time", "-f", "%U %S %M", "bash", "-c", "set -eo pipefail; " + cmd], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wall = time.monotonic() - t
    if p.returncode: sys.exit(f"failed: {cmd}\n{p.stderr.decode(errors='replace')[-400:]}")
    u, s, m = p.stderr.decode(errors="replace").strip().splitlines()[-1].split()
    return wall, float(u) + float(s), int(m) / 1024

def group(name, cmds):
    got = {k: [] for k in cmds}
    for _ in range(a.runs):
        for k, c in cmds.items(): got[k].append(run(c))
    base = min(x[0] for x in next(iter(got.values())))
    print("##", name); res = {}
    for k, v in got.items():
        w = [x[0] for x in v]; best = min(v)
        res[k] = {"min_s": min(w), "median_s": statistics.median(w), "cpu_s": best[1], "peak_mib": max(x[2] for x in v), "ratio": min(w) / base}
        print(f"  {k:34s} min {min(w):7.3f} s  median {statistics.median(w):7.3f}  cpu {best[1]:7.3f}  peak {res[k]['peak_mib']:5.0f} MiB  ratio {res[k]['ratio']:.3f}", flush=True)
    return res

R, only, fps = {}, a.only.split(","), dict(reversed(l.split("  ", 1)) for l in open(a.inputs + "/fingerprints").read().splitlines())
tar = f"mkdir -p {out}; tar --numeric-owner --xattrs --xattrs-include='*' -C {out} -xf -"
if "hash" in only:
    f = U + "image.tar"
    R["hash"] = group("sha256 of 393 MB", {"sha256sum": f"sha256sum {f}", "openssl": f"openssl dgst -sha256 {f}", **({"lxd-image fingerprint": f"{a.bin} fingerprint {f}"} if a.bin else {})})
if "unpack" in only:
    for f, z, best in (("image-1block.tar.xz", "xz -d", "xz -T0 -d"), ("image-blocks.tar.xz", "xz -T1 -d", "xz -T0 -d"), ("image.tar.gz", "gzip -d", "igzip -d" if shutil.which("igzip") else "pigz -d"), ("image-3.tar.zst", "zstd -dq", "zstd -dq"), ("image-19.tar.zst", "zstd -dq", "zstd -dq"), ("image.tar", "cat", "cat"), ("image.tar.bz2", "bzip2 -d", "lbzip2 -d" if shutil.which("lbzip2") else "bzip2 -d")):
        p = U + f
        R[f] = group("verify + unpack " + f, {
            "LXD: sha256sum, then decode | tar": f"sha256sum {p}; {z} <{p} | ({tar})",
            "best pipe: sha256sum & mt | tar": f"sha256sum {p} & {best} <{p} | ({tar}); wait",
            **({"lxd-image unpack, verified": f"{a.bin} unpack {p} {out} --fingerprint {fps['unified/' + f]}"} if a.bin else {})})
if "squashfs" in only:
    for c in ("xz", "zstd", "gzip"):
        p = f"{S}rootfs-{c}.squashfs"
        R["squashfs-" + c] = group("verify + unpack SquashFS " + c, {
            "LXD: sha256sum, then unsquashfs": f"cat {S}meta.tar.xz {p} | sha256sum; unsquashfs -f -d {out} -n {p}",
            **({"lxd-image unpack, verified": f"{a.bin} unpack {S}meta.tar.xz {p} {out} --fingerprint {fps['split/meta.tar.xz+split/rootfs-' + c + '.squashfs']}"} if a.bin else {})})
if "pack" in only:
    src, o = a.inputs + "/rootfs", os.path.join(a.work, "lxi-bench-pack")
    t = f"tar --numeric-owner --xattrs --xattrs-include='*' --sort=name -C {src} -cf - ."
    for c, z in (("zstd", "zstd -q -3 -T0"), ("gzip", "pigz -6"), ("xz", "xz -6 -T0")):
        R["pack-" + c] = group("pack " + c, {"tar | " + z: f"{t} | {z} >{o}; sha256sum {o}", **({"lxd-image pack": f"rm -f {o}; {a.bin} pack {src} {o} --metadata {a.inputs}/meta/metadata.yaml --compression {c}"} if a.bin else {})})
        print("   bytes of the last:", os.path.getsize(o))
    os.remove(o)
shutil.rmtree(out, ignore_errors=True)
if a.out: json.dump(R, open(a.out, "w"), indent=1)
