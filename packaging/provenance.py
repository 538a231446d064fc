#!/usr/bin/env python3
"""provenance.py VERSION: what a release was built from and by which tools, as an in-toto statement's predicate (SLSA 1.0)."""
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def said(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main():
    changed = bool(said("git", "status", "--porcelain", "--untracked-files=no"))
    print(json.dumps({
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "packaging/release.sh",
                "externalParameters": {"version": sys.argv[1]},
                "internalParameters": {"rustc": said("rustc", "-vV"), "cargo": said("cargo", "--version"), "profile": "dist", "changed": changed},
                "resolvedDependencies": [{"uri": "git", "digest": {"gitCommit": said("git", "rev-parse", "HEAD")}}],
            },
            "runDetails": {"builder": {"id": "packaging/release.sh"}},
        },
    }, indent=1))


main()
