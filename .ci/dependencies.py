#!/usr/bin/env python3
"""dependencies.py: checks licences, sources and duplicate versions of all dependencies against deny.toml, by `cargo metadata`.

What `cargo deny check licenses bans sources` does, as far as this project uses it, without an installation of minutes.
"""
import json
import re
import subprocess
import sys
import tomllib

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def allowed(expression, allow):
    """Whether an SPDX expression can be met by the licences in `allow`. A slash is the old way to say OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        result = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            result = both() or result
        return result

    def both():
        result = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            result = one() and result
        return result

    def one():
        token = tokens.pop(0)
        if token == "(":
            result = either()
            tokens.pop(0)
            return result
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token += " WITH " + tokens.pop(0)
        return token in allow

    return either()


def main():
    with open("deny.toml", "rb") as source:
        rules = tomllib.load(source)
    metadata = json.loads(subprocess.run(["cargo", "metadata", "--format-version", "1", "--all-features", "--locked"], check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    members = set(metadata["workspace_members"])
    # Only what this platform's users or developers compile: the metadata also lists what other systems need.
    tree = subprocess.run(["cargo", "tree", "--workspace", "--all-features", "--locked", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}"],
                          check=True, stdout=subprocess.PIPE, text=True).stdout
    used = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    skipped = {entry.get("crate", entry.get("name", "")).split("@")[0] for entry in rules["bans"].get("skip", [])}
    exceptions = {entry["crate"]: entry["allow"] for entry in rules["licenses"].get("exceptions", [])}
    problems, versions = [], {}
    for package in packages.values():
        name = "%s %s" % (package["name"], package["version"])
        if package["id"] not in members and package["source"] != CRATES_IO:
            problems.append("%s comes from %s, not from crates.io" % (name, package["source"] or "a path"))
        if not allowed(package["license"] or "none", rules["licenses"]["allow"] + exceptions.get(package["name"], [])):
            problems.append("%s has the licence %s, which deny.toml does not allow" % (name, package["license"]))
        if (package["name"], "v" + package["version"]) in used:
            versions.setdefault(package["name"], []).append(package["version"])
    for name, found in sorted(versions.items()):
        if len(found) > 1 and name not in skipped:
            problems.append("%s is there in versions %s; if that must be, give it a line with the reason in deny.toml" % (name, ", ".join(sorted(found))))
    for problem in problems:
        print(problem)
    print("%d packages, %d problems" % (len(packages), len(problems)))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
