#!/usr/bin/env python3
"""Push and pull of one image against `skopeo copy` of the same bytes, in one run.

oci.py [--program PATH] [--megabytes N] [--rounds N]

Starts Debian's `docker-registry` on loopback with an empty directory, makes an image of N megabytes that does not compress, and measures
wall time, CPU time and peak memory of both programs, push and pull in turn. Each round uses repositories and stores of its own, so that
nothing is there already. Prints the medians and the ratio of throughputs (more than 1: faster than skopeo).
"""
import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
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
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="lxd-image-oci-")
    registry, port = start_registry(directory)
    try:
        run(arguments, directory, port)
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
        print(f"{name:12} {wall:7.2f} {cpu:7.2f} {memory:7.0f}")
    for what in ("push", "pull"):
        print(f"{what}: {median[f'skopeo {what}'][0] / median[f'ours {what}'][0]:.2f} times skopeo's throughput")


if __name__ == "__main__":
    main()
