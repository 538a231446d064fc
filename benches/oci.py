#!/usr/bin/env python3
"""Images in a registry: push and pull against `skopeo copy`, and container images against `skopeo`, `umoci` and `tar`, in one run.

oci.py [--program PATH] [--megabytes N] [--rounds N] [--tree DIR] [--only copy|convert]

Starts Debian's `docker-registry` on loopback with an empty directory and measures wall time, CPU time, peak memory, and the peak of
temporary disk, in turn. Each round uses repositories and stores of its own, so that nothing is there already.

copy: pushes and pulls an image of N megabytes that does not compress; the ratio of throughputs is more than 1 where this program is
faster. `sync` tells what a pull costs that is on the disk when it returns, as one into a store is.

convert: a container image of N megabytes of layers (gzip), made of files of a tree (/usr): a base and four layers that change some of it.
Ours: `copy` into a store (compressed with zstd, verified, on the disk), the same with the layers kept, and `unpack`, which keeps the image
too. Theirs: `skopeo copy`, `umoci unpack` and `tar`: uncompressed, with `pigz` as Incus does it, and without the `tar`.
The ratio of wall times is less than 1 where this program is faster. Run it as root: `umoci` gives files to their owners.
"""
import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import threading
import time


def measure(command, env=None):
    """Wall seconds, CPU seconds and peak MiB of a command."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, errors = process.stderr.read(), None
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command} failed: {_.decode(errors='replace')}")
    del before, errors
    return time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def start_registry(directory):
    """A registry on a free port; its process and port."""
    config = os.path.join(directory, "registry.yml")
    with open(config, "w") as out:
        out.write(f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {directory}/registry\nhttp:\n  addr: 127.0.0.1:0\n")
    process = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "listening on 127.0.0.1:" in line:
            port = int("".join(c for c in line.split("listening on 127.0.0.1:")[1].split()[0] if c.isdigit()))
            # Nobody reads the rest; a full pipe would stop it.
            subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
            return process, port
    raise SystemExit("the registry did not start")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="target/release/lxd-image")
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tree", default="/usr")
    parser.add_argument("--only", choices=["copy", "convert"])
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="lxd-image-oci-")
    registry, port = start_registry(directory)
    try:
        if arguments.only != "convert":
            run(arguments, directory, port)
        if arguments.only != "copy":
            convert(arguments, directory, port)
    finally:
        registry.terminate()
        registry.wait()
        shutil.rmtree(directory)


def run(arguments, directory, port):
    program = os.path.abspath(arguments.program)
    tree = os.path.join(directory, "tree")
    os.makedirs(f"{tree}/etc")
    with open(f"{tree}/etc/random", "wb") as out:
        for _ in range(arguments.megabytes):
            out.write(os.urandom(1 << 20))
    env = dict(os.environ, LXD_IMAGE_CONFIG=f"{directory}/config", HOME=directory, LXD_IMAGE_STORE=f"{directory}/store")

    def ours(words, **more):
        return [program, *words], dict(env, **more)

    def must(words, **more):
        command, environment = ours(words, **more)
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

    must(["pack", tree, f"{directory}/image.tar", "--architecture", "amd64", "--compression", "none"])
    must(["import", f"{directory}/image.tar", "--alias", "box"])
    must(["remote", "add", "reg", f"http://127.0.0.1:{port}", "--protocol", "oci"])
    figures = {}
    for turn in range(arguments.rounds):
        artifact = f"127.0.0.1:{port}/theirs{turn}:1"
        layout = f"oci:{directory}/layout{turn}:x"
        steps = {"ours push": ours(["copy", "box", f"reg:ours{turn}:1"])}
        steps["ours pull"] = ours(["copy", f"reg:ours{turn}:1", "local:"], LXD_IMAGE_STORE=f"{directory}/store{turn}")
        skopeo = ["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"]
        steps["skopeo pull"] = ([*skopeo, f"docker://127.0.0.1:{port}/ours{turn}:1", layout], None)
        steps["skopeo push"] = ([*skopeo, layout, f"docker://{artifact}"], None)
        steps["skopeo pull, sync"] = (["sh", "-c", f"rm -r {directory}/layout{turn} && {shown([*skopeo, f'docker://{artifact}', layout])} && sync -f {directory}/layout{turn}"], None)
        for name, (command, environment) in steps.items():
            # skopeo's push would find the blobs of ours, which the registry stores once: they go before it.
            if name == "skopeo push":
                shutil.rmtree(f"{directory}/registry/docker", ignore_errors=True)
            figures.setdefault(name, []).append(measure(command, environment))
        for path in (f"{directory}/store{turn}", f"{directory}/layout{turn}", f"{directory}/registry/docker"):
            shutil.rmtree(path, ignore_errors=True)
    print(f"{arguments.megabytes} MB, median of {arguments.rounds}: wall s, CPU s, peak MiB")
    median = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in figures.items()}
    for name, (wall, cpu, memory) in median.items():
        print(f"{name:20} {wall:7.2f} {cpu:7.2f} {memory:7.0f}")
    for what, name in (("push", "push"), ("pull", "pull"), ("pull", "pull, sync")):
        print(f"{name}: {median[f'skopeo {name}'][0] / median[f'ours {what}'][0]:.2f} times skopeo's throughput")


def shown(command):
    """A command for a shell. Its words are made here and need no quotes."""
    return " ".join(command)


class Disk:
    """The greatest number of bytes that the file system of a directory had less, by looking often: unnamed files count as well."""

    def __init__(self, path):
        self.path, self.peak, self.stop = path, 0, threading.Event()
        self.free = shutil.disk_usage(path).free
        self.thread = threading.Thread(target=self.look)
        self.thread.start()

    def look(self):
        while not self.stop.wait(0.05):
            self.peak = max(self.peak, self.free - shutil.disk_usage(self.path).free)

    def end(self):
        self.stop.set()
        self.thread.join()
        return self.peak / (1 << 20)


def make_container(arguments, directory):
    """A layout with a container image whose layers have about the wanted size: a base, and four layers upon it."""
    layout = f"{directory}/container"
    os.makedirs(f"{layout}/blobs/sha256")

    def blob(path):
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        target = f"{layout}/blobs/sha256/{digest.hexdigest()}"
        os.rename(path, target)
        return f"sha256:{digest.hexdigest()}", os.path.getsize(target)

    def text(document):
        path = f"{directory}/document"
        with open(path, "w") as out:
            json.dump(document, out)
        return blob(path)

    # What compresses to the wanted size at gzip's usual ratio for programs and texts.
    wanted, found, paths = arguments.megabytes * 2_450_000, 0, []
    for top, folders, files in os.walk(arguments.tree):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(top, name)
            if os.path.isfile(path) and not os.path.islink(path) and found < wanted:
                paths.append(path)
                found += os.path.getsize(path)
    layers, diff_ids = [], []
    changed = paths[::20]
    for number in range(5):
        tar = f"{directory}/layer.tar"
        with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as out:
            if number == 0:
                passwd = tarfile.TarInfo("etc/passwd")
                out.addfile(passwd)
            for path in paths if number == 0 else changed[number::8]:
                out.add(path, recursive=False)
            if number > 0:
                for path in changed[number + 4::8]:
                    if number % 2:
                        out.addfile(tarfile.TarInfo(os.path.join(os.path.dirname(path)[1:], ".wh." + os.path.basename(path))))
        with open(tar, "rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
        diff_ids.append(f"sha256:{digest.hexdigest()}")
        subprocess.run(f"{'pigz' if shutil.which('pigz') else 'gzip'} -nc {tar} > {tar}.gz", shell=True, check=True)
        os.remove(tar)
        layers.append(blob(f"{tar}.gz"))
    config = text({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    kind = "application/vnd.oci.image."
    entry = lambda kind, blob: {"mediaType": kind, "digest": blob[0], "size": blob[1]}
    manifest = text({"schemaVersion": 2, "mediaType": kind + "manifest.v1+json", "config": entry(kind + "config.v1+json", config),
                     "layers": [entry(kind + "layer.v1.tar+gzip", layer) for layer in layers]})
    with open(f"{layout}/oci-layout", "w") as out:
        out.write('{"imageLayoutVersion": "1.0.0"}')
    with open(f"{layout}/index.json", "w") as out:
        manifest = {**entry(kind + "manifest.v1+json", manifest), "annotations": {"org.opencontainers.image.ref.name": "x"}}
        json.dump({"schemaVersion": 2, "manifests": [manifest]}, out)
    print(f"container image: {len(paths)} files, {found >> 20} MiB, in layers of {[size >> 20 for _, size in layers]} MiB")
    return layout


def convert(arguments, directory, port):
    program = os.path.abspath(arguments.program)
    layout = make_container(arguments, directory)
    copying = ["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"]
    source = f"docker://127.0.0.1:{port}/app:1"
    subprocess.run([*copying, f"oci:{layout}:x", source], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(layout)
    env = dict(os.environ, LXD_IMAGE_CONFIG=f"{directory}/config2", HOME=directory, TMPDIR=directory)
    subprocess.run([program, "remote", "add", "app", f"http://127.0.0.1:{port}", "--protocol", "oci"], env=env, check=True)
    figures = {}
    for turn in range(arguments.rounds):
        work = f"{directory}/convert{turn}"
        os.makedirs(work)
        fetch = f"{shown([*copying, source, f'oci:{work}/layout:x'])}"
        unpack = f"{fetch} && umoci unpack --keep-dirlinks --image {work}/layout:x {work}/bundle"
        steps = {
            "ours copy": [program, "copy", "app:app:1", "local:"],
            "ours copy, kept": [program, "copy", "app:app:1", "local:"],
            "theirs with tar": ["sh", "-c", f"{unpack} && tar -C {work}/bundle/rootfs -cf {work}/rootfs.tar ."],
            "theirs with pigz": ["sh", "-c", f"{unpack} && tar -C {work}/bundle/rootfs -I pigz -cf {work}/rootfs.tar.gz ."],
            "ours unpack": [program, "unpack", "app:app:1", f"{work}/tree"],
            "theirs unpack": ["sh", "-c", unpack],
        }
        for name, command in steps.items():
            environment = dict(env, LXD_IMAGE_STORE=f"{work}/store")
            if name == "ours copy, kept":
                # The layers are there, the image is not.
                subprocess.run([program, "delete", kept], env=environment, check=True, stdout=subprocess.DEVNULL)
            elif name != "ours copy":
                shutil.rmtree(work)
                os.makedirs(work)
            disk = Disk(directory)
            try:
                row = measure(command, environment)
            finally:
                peak = disk.end()
            figures.setdefault(name, []).append((*row, peak))
            if name == "ours copy":
                listed = subprocess.run([program, "list", "--format", "{{ fingerprint }}"], env=environment, check=True, capture_output=True, text=True)
                kept = listed.stdout.split()[0]
        shutil.rmtree(work)
    print(f"convert, median of {arguments.rounds}: wall s, CPU s, peak MiB, disk MiB")
    median = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in figures.items()}
    for name, (wall, cpu, memory, peak) in median.items():
        print(f"{name:20} {wall:7.2f} {cpu:7.2f} {memory:7.0f} {peak:7.0f}")
    for ours, theirs in (("copy", "with tar"), ("copy", "with pigz"), ("copy, kept", "with tar"), ("unpack", "unpack")):
        ratio = median[f"ours {ours}"][0] / median[f"theirs {theirs}"][0]
        print(f"{ours}: {ratio:.2f} of their time {theirs}")


if __name__ == "__main__":
    main()
