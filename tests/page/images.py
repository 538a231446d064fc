#!/usr/bin/env python3
"""images.py PROGRAM STORE DIRECTORY: fills a store with images to look at: usual ones, many, hostile ones, a private one."""
import io
import json
import os
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "hostile"))
from forge import qcow2  # noqa: E402 # found beside this one

program, store, directory = sys.argv[1:]
os.makedirs(directory, exist_ok=True)


def archive(name, members):
    path = os.path.join(directory, name)
    with tarfile.open(path, "w:xz", preset=0) as out:
        for member, content in members:
            info = tarfile.TarInfo(member)
            info.mode = 0o755 if content is None else 0o644
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = 0 if content is None else len(content)
            out.addfile(info, None if content is None else io.BytesIO(content))
    return path


def metadata(architecture, created, properties):
    # JSON is YAML.
    return json.dumps({"architecture": architecture, "creation_date": created, "properties": properties}).encode()


def add(name, architecture, created, properties, aliases, size=100_000, public=True, disk=None):
    content = metadata(architecture, created, properties)
    if disk is None:
        noise = os.urandom(size)
        files = [archive(f"{name}.tar.xz", [("metadata.yaml", content), ("rootfs", None), ("rootfs/noise", noise)])]
    else:
        files = [archive(f"{name}.tar.xz", [("metadata.yaml", content)]), os.path.join(directory, f"{name}.qcow2")]
        with open(files[1], "wb") as out:
            out.write(disk)
    names = [part for alias in aliases for part in ("--alias", alias)]
    subprocess.run([program, "--store", store, "--quiet", "import", *files, *names, *(["--public"] if public else [])], check=True, stdout=subprocess.DEVNULL)


DAY = 86_400
START = 1_717_200_000
add("debian", "x86_64", START, {"os": "Debian", "release": "bookworm", "variant": "default", "serial": "20240601_05:24",
    "description": "Debian bookworm amd64 (20240601_05:24)"}, ["debian/12", "debian/bookworm", "debian/12/amd64", "debian/stable", "stable", "lts", "x/y/z"], 3_000_000)
add("debian-arm", "aarch64", START, {"os": "Debian", "release": "bookworm", "variant": "cloud",
    "description": "Debian bookworm arm64 (20240601_05:24)"}, ["debian/12/arm64"], 700_000)
add("jammy", "aarch64", START - 40 * DAY, {"os": "Ubuntu", "release": "jammy", "version": "22.04", "label": "release",
    "description": "Ubuntu 22.04 LTS arm64 (release)", "requirements.secureboot": "false"}, ["ubuntu/22.04"])
add("vm", "x86_64", START + DAY, {"os": "Debian", "release": "bookworm", "description": "Debian bookworm, for virtual machines"},
    ["debian/12/vm"], disk=qcow2())
add("plain", "riscv64", START - 400 * DAY, {}, [])
add("hostile", "x86_64", START + 2 * DAY, {
    "os": "<script>alert('os')</script>", "release": "\"><script>alert(1)</script>", "description": "</title><script>alert('description')</script> & more",
    "<b>key</b>": "{{ 7 * 7 }} {% raw %}", "javascript": "javascript:alert(1)", "quotes": "' \" ` $(reboot) ; rm -rf ~",
    "direction": "abc \u202e gnp.exe \u2066 x", "long": "0123456789" * 2000, "lines": "one\ntwo\n\nthree", "k" * 300: "a long name",
    "wide": "\U0001f600\ufdfd\u0e01\u0e47" * 100}, ["<img src=x onerror=alert(1)>", "'; reboot #", "a" * 255, "x\u202ey"])
add("private", "x86_64", START, {"os": "Secret"}, ["private"], public=False)
for number in range(55):
    add(f"many{number}", "x86_64", START - (number + 2) * DAY, {"os": "Alpine", "release": f"3.{number}", "description": f"Alpine 3.{number} amd64"},
        [f"alpine/3.{number}"], 2000)
