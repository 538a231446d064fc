#!/usr/bin/env python3
"""sbom.py: what the program and the library are made of, as CycloneDX 1.5 on standard output.

The crates that `cargo metadata` resolves for normal and build dependencies, with versions, licences and, from Cargo.lock,
the sha256 of the archive that cargo checked.
"""
import json
import pathlib
import subprocess
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    metadata = json.loads(subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    sums = {(package["name"], package["version"]): package.get("checksum") for package in lock["package"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    reached, waiting = set(), list(metadata["workspace_members"])
    depends = {}
    while waiting:
        this = waiting.pop()
        if this in reached:
            continue
        reached.add(this)
        used = [d["pkg"] for d in nodes[this]["deps"] if any(kind["kind"] != "dev" for kind in d["dep_kinds"])]
        depends[this] = used
        waiting += used

    def reference(package):
        return f"pkg:cargo/{package['name']}@{package['version']}"

    components = []
    for key in sorted(reached, key=lambda key: (packages[key]["name"], packages[key]["version"])):
        package = packages[key]
        component = {"type": "library", "bom-ref": reference(package), "name": package["name"], "version": package["version"], "purl": reference(package)}
        if package.get("license"):
            component["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        checksum = sums.get((package["name"], package["version"]))
        if checksum:
            component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        components.append(component)
    print(json.dumps({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {"type": "application", "name": "lxd-image", "version": packages[metadata["workspace_members"][0]]["version"]}},
        "components": components,
        "dependencies": [{"ref": reference(packages[key]), "dependsOn": sorted({reference(packages[to]) for to in depends[key]})}
                         for key in sorted(reached)],
    }, indent=1))


main()
