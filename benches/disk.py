#!/usr/bin/env python3
"""disk.py BIN [--size MIB | --virtual GIB [--tree DIR] | --disk FILE] [--runs N] [--only TEXT] [--work DIR]: converts disks with the program
BIN and with qemu-img in turns, and prints the minimum, the ratio to qemu-img, peak memory and the size of the result for each.

Without a file the disk is made here. With --size: a third of it is text-like, a third noise in blocks, a third holes. With --virtual:
an ext4 file system of so many GiB with the files of a directory (default /usr), as `mkfs.ext4 -d` makes it. Both sides read the page
cache and write to the same file system; every result is compared with `qemu-img compare`.
"""
import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time


def run(command):
    """Seconds and peak memory in MiB of a program that must succeed."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit("%s: status %d" % (" ".join(command), process.returncode))
    return seconds, used.ru_maxrss / 1024


def make(path, mib):
    """A raw disk whose bytes are the same each time."""
    chance = random.Random(7)
    words = [bytes(chance.randrange(97, 123) for _ in range(chance.randrange(2, 10))) + b" " for _ in range(4000)]
    with open(path, "wb") as disk:
        for number in range(mib):
            if number % 3 == 0:
                text = b"".join(chance.choices(words, k=200_000))
                disk.seek(number << 20)
                disk.write(text[:1 << 20])
            elif number % 3 == 1 and number % 2:
                disk.seek(number << 20)
                disk.write(chance.randbytes(1 << 20))
        disk.truncate(mib << 20)


def make_ext4(path, gib, tree):
    """A raw disk that is an ext4 file system with the files of a directory."""
    with open(path, "wb") as disk:
        disk.truncate(gib << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", tree, path], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--size", type=int, default=1024)
    which.add_argument("--virtual", type=int)
    which.add_argument("--disk")
    parser.add_argument("--tree", default="/usr")
    parser.add_argument("--only", default="")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.work) as work:
        at = lambda name: os.path.join(work, name)
        # In a process of its own: the peak memory of a child counts what its parent had before it became the program.
        raw = asked.disk or at("raw")
        if not asked.disk:
            made = (make_ext4, (raw, asked.virtual, asked.tree)) if asked.virtual else (make, (raw, asked.size))
            maker = multiprocessing.Process(target=made[0], args=made[1])
            maker.start()
            maker.join()
            if maker.exitcode:
                sys.exit("the disk can't be made")
        about = os.stat(raw)
        print("## a disk of %.0f MiB, %.0f of them stored" % (about.st_size / 2**20, about.st_blocks * 512 / 2**20), flush=True)
        rows = []
        for kind in ("zlib", "zstd"):
            packed, option = at(kind), "compression_type=" + kind
            rows.append(("qcow2 %s -> raw" % kind, packed, [asked.bin, "-q", "convert", packed, at("a"), "--disk-format", "raw"],
                         ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", packed, at("b")], "raw"))
            rows.append(("raw -> qcow2 %s" % kind, None,
                         [asked.bin, "-q", "convert", raw, at("a"), "--disk-format", "qcow2", "--disk-input", "raw"]
                         + (["--disk-compression", kind] if kind != "zlib" else []),
                         ["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", option, raw, at("b")], "qcow2"))
        for name, packed, our, their, format in rows:
            if asked.only not in name:
                continue
            if packed:
                option = "compression_type=" + os.path.basename(packed)
                subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", "-o", option, "-f", "raw", raw, packed], check=True)
            times = {"ours": [], "qemu-img": []}
            peaks = {"ours": 0, "qemu-img": 0}
            for _ in range(asked.runs):
                for who, command, out in (("ours", our, at("a")), ("qemu-img", their, at("b"))):
                    if os.path.exists(out):
                        os.remove(out)
                    seconds, peak = run(command)
                    times[who].append(seconds)
                    peaks[who] = max(peaks[who], peak)
            subprocess.run(["qemu-img", "compare", "-q", "-f", format, "-F", "raw", at("a"), raw], check=True)
            if format == "qcow2":
                subprocess.run(["qemu-img", "check", "-q", at("a")], check=True)
            best = {who: min(seconds) for who, seconds in times.items()}
            sizes = [os.stat(at(out)).st_blocks * 512 for out in "ab"]
            print("%-18s ours %6.2f s %4.0f MiB  qemu-img %6.2f s %4.0f MiB  time %.2f  size %.3f" % (
                name, best["ours"], peaks["ours"], best["qemu-img"], peaks["qemu-img"],
                best["ours"] / best["qemu-img"], sizes[0] / sizes[1]), flush=True)


if __name__ == "__main__":
    main()
