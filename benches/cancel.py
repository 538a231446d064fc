#!/usr/bin/env python3
"""How long each verb runs on after Ctrl-C, for each codec: milliseconds from SIGINT to the end of the process, the worst of some moments.

    benches/cancel.py [--program target/release/lxd-image] [--mib 24] [--moments 0.05,0.4,1.2] [--verbs …] [--codecs …]

A cell is the worst time; `done` means that the verb was over before the first moment came, `left: …` that something stayed behind.
The exit status is 1 when something stayed behind or a verb ran on for more than --limit milliseconds.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CODECS = ["none", "gzip", "bzip2", "xz", "zstd", "lz4", "squashfs"]
VERBS = ["pack", "convert", "unpack", "verify", "import", "export", "copy"]


class Bench:
    def __init__(self, program, work):
        self.program, self.work = program, work
        self.environment = {
            **os.environ,
            "LXD_IMAGE_STORE": str(work / "store"),
            "LXD_IMAGE_CONFIG": str(work / "config"),
            "TMPDIR": str(work / "tmp"),
        }
        (work / "tmp").mkdir()

    def start(self, arguments):
        return subprocess.Popen(
            [self.program, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self.environment,
            cwd=self.work,
        )

    def run(self, arguments):
        process = self.start(arguments)
        _, errors = process.communicate()
        if process.returncode != 0:
            sys.exit(f"{' '.join(map(str, arguments))} ends with {process.returncode}: {errors.decode()}")

    def tree(self, mib):
        """Text that codecs work on for a while, and holes in nothing."""
        words = random.Random(7)
        vocabulary = [bytes(words.choices(range(97, 123), k=6)) for _ in range(60_000)]
        rootfs = self.work / "rootfs"
        (rootfs / "etc").mkdir(parents=True)
        for part in range(4):
            text = b" ".join(words.choices(vocabulary, k=mib * (1 << 20) // 28))
            (rootfs / f"text{part}").write_bytes(text)

    def options(self, codec):
        if codec == "squashfs":
            return ["--rootfs-format", "squashfs", "--compression", "xz"]
        return ["--compression", codec]

    def image(self, codec):
        """The files of an image with that codec, made once."""
        made = self.work / "inputs" / codec
        files = [made] if codec != "squashfs" else [made, made.with_name("squashfs.root")]
        if not made.exists():
            made.parent.mkdir(exist_ok=True)
            split = ["--split"] if codec == "squashfs" else []
            self.run(["pack", "rootfs", made, "--architecture", "x86_64", *split, *self.options(codec)])
        return files

    def arguments(self, verb, codec):
        """The command, and the names it may leave where it is done."""
        if verb == "pack":
            split = ["--split"] if codec == "squashfs" else []
            return ["pack", "rootfs", "out", "--architecture", "x86_64", *split, *self.options(codec)]
        if verb == "convert":
            to = ["--to", "split"] if codec == "squashfs" else []
            return ["convert", *self.image("none"), "out", *to, *self.options(codec)]
        files = self.image(codec)
        if verb == "unpack":
            return ["unpack", *files, "out"]
        if verb == "verify":
            return ["verify", *files]
        if verb == "import":
            return ["import", *files]
        if verb == "export":
            self.run(["import", *files, "--alias", "it"])
            return ["export", "it", "out"]
        self.run(["--store", "other", "import", *files, "--alias", "it", "--public"])
        self.run(["simplestreams", "add", "www", *files, "--property", "os=Case", "--property", "release=1"])
        if not (self.work / "config" / "remotes.yaml").exists():
            self.run(["remote", "add", "tree", f"file://{self.work}/www", "--protocol", "simplestreams"])
        return ["copy", "tree:Case/1/default", "local:"]

    def clean(self):
        for name in ["out", "out.root", "store", "other", "www"]:
            path = self.work / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        for path in self.work.glob("out*"):
            path.unlink()

    def left(self):
        """What stands where nothing should."""
        stays = {"rootfs", "inputs", "config", "store", "other", "www", "tmp"}
        found = [path.name for path in self.work.iterdir() if path.name not in stays]
        found += [f"tmp/{path.name}" for path in (self.work / "tmp").iterdir()]
        for store in ["store", "other"]:
            staging = self.work / store / "staging"
            found += [f"staging/{path.name}" for path in staging.iterdir()] if staging.is_dir() else []
        return found

    def cell(self, verb, codec, moments, repeat):
        worst, stopped, left = 0.0, False, []
        for moment in moments * repeat:
            self.clean()
            arguments = self.arguments(verb, codec)
            process = self.start(arguments)
            time.sleep(moment)
            began = time.monotonic()
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.communicate()
            if process.returncode == 0:
                continue
            stopped = True
            worst = max(worst, (time.monotonic() - began) * 1000)
            left += self.left()
            if process.returncode != 130:
                left.append(f"status {process.returncode}")
        self.clean()
        return worst, stopped, left


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/lxd-image")
    parser.add_argument("--mib", type=int, default=24, help="how much text the image holds")
    parser.add_argument("--moments", default="0.05,0.3,0.8", help="seconds before Ctrl-C")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--verbs", default=",".join(VERBS))
    parser.add_argument("--codecs", default=",".join(CODECS))
    parser.add_argument("--limit", type=int, default=1000)
    given = parser.parse_args()
    program = str(Path(given.program).resolve())
    moments = [float(moment) for moment in given.moments.split(",")]
    codecs = given.codecs.split(",")
    failed = False
    print("| ms from SIGINT to exit | " + " | ".join(codecs) + " |")
    print("|---" * (len(codecs) + 1) + "|")
    with tempfile.TemporaryDirectory(prefix="lxd-image-cancel-") as work:
        bench = Bench(program, Path(work))
        bench.tree(given.mib)
        for verb in given.verbs.split(","):
            row = []
            for codec in codecs:
                worst, stopped, left = bench.cell(verb, codec, moments, given.repeat)
                failed |= bool(left) or worst > given.limit
                shown = f"{worst:.0f}" if stopped else "done"
                row.append(shown + (f" left: {', '.join(sorted(set(left)))}" if left else ""))
            print(f"| {verb} | " + " | ".join(row) + " |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
