#!/usr/bin/env python3
"""gomodule.py MODULE VERSION OUT: the Go package as a module proxy has it (https://go.dev/ref/mod#goproxy-protocol).

`GOPROXY=file://OUT go get MODULE@VERSION` takes it, and so does any web server that offers OUT.
"""
import json
import os
import pathlib
import sys
import zipfile


def main():
    module, version, out = sys.argv[1:4]
    source = pathlib.Path(__file__).resolve().parent.parent / "ffi" / "go"
    # Capitals are written with a mark in paths of a proxy.
    escaped = "".join("!" + letter.lower() if letter.isupper() else letter for letter in module)
    directory = pathlib.Path(out) / escaped / "@v"
    directory.mkdir(parents=True, exist_ok=True)
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    when = __import__("datetime").datetime.fromtimestamp(seconds, __import__("datetime").timezone.utc)
    (directory / "list").write_text(version + "\n")
    (directory / f"{version}.info").write_text(json.dumps({"Version": version, "Time": when.strftime("%Y-%m-%dT%H:%M:%SZ")}))
    mod = (source / "go.mod").read_text().replace("module lxdimage", f"module {module}", 1)
    (directory / f"{version}.mod").write_text(mod)
    with zipfile.ZipFile(directory / f"{version}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        def put(name, text):
            archive.writestr(zipfile.ZipInfo(f"{module}@{version}/{name}", (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)

        put("go.mod", mod)
        for license in ("LICENSE-APACHE", "LICENSE-MIT"):
            put(license, (source.parent.parent / license).read_text())
        for file in sorted(source.rglob("*")):
            name = file.relative_to(source).as_posix()
            # Tests read files of the project, which a module does not have.
            if file.is_file() and file.suffix in (".go", ".c", ".h") and not name.endswith("_test.go"):
                put(name, file.read_text().replace('"lxdimage/', f'"{module}/'))


main()
