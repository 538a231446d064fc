#!/usr/bin/env python3
"""run.py: run an unpacker over a hostile corpus and judge what it did.

    run.py --corpus DIR --cli PATH/lxd-image [--report out.json]     our command line (all calls, error kinds judged)
    run.py --corpus DIR --profile tar|lxd|bsdtar|busybox|python [--report out.json]
    run.py --corpus DIR --unpack "prog -x {image} -C {dest}"         anything else, unpacking only

Each case runs in a fresh tmpfs inside a private mount namespace (root needed; without it in a temporary directory, and then
make.py must have been given that canary directory). Judged per case:
  escape          something outside the destination was created, changed, linked or removed
  leak            the canary's secret came out (a file, standard output or error)
  hang            over the time limit;  crash: a signal, a panic or an abort;  memory, disk: over the limit
  wrongly-accepted, wrongly-rejected, wrong-kind, no-kind, wrong-tree, forbidden-path, left-behind, terminal-escape, visible
Exit status 0 when no case has a finding.
"""
import argparse
import ctypes
import gzip
import hashlib
import http.server
import json
import os
import re
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

SECRET = "CANARY-SECRET-7f3a91"
HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20
CONTEXT = {"trigger": "create", "path": "/etc/hostname", "container": {"name": "c1", "type": "container", "architecture": "x86_64", "privileged": "false", "ephemeral": "false"},
           "instance": {"name": "c1", "type": "container", "architecture": "x86_64", "privileged": "false", "ephemeral": "false"},
           "config": {}, "devices": {}, "properties": {}}
LXD_TAR = ("tar --anchored --wildcards --exclude=dev/* --exclude=/dev/* --exclude=./dev/* --exclude=rootfs/dev/* --exclude=/rootfs/dev/* "
           "--exclude=./rootfs/dev/* --restrict --force-local -C {dest} --numeric-owner --xattrs-include=* {codec} -xf {image}")
CODECS = ((b"\x1f\x8b", "-z"), (b"BZh", "-j"), (b"\xfd7zXZ", "-J"), (b"\x5d\0\0", "--lzma"), (b"\x28\xb5\x2f\xfd", "--zstd"), (b"\x53\x2a\x4d\x18", "--zstd"))
PROFILES = {
    "tar": {"unpack": "tar -xf {image} -C {dest}"},
    "tar-full": {"unpack": "tar --xattrs --xattrs-include=* --acls --numeric-owner -xpf {image} -C {dest}"},
    "lxd": {"unpack": LXD_TAR, "squashfs": "unsquashfs -f -d {dest} -n {image}"},
    "bsdtar": {"unpack": "bsdtar -xf {image} -C {dest}"},
    "bsdtar-full": {"unpack": "bsdtar --numeric-owner --xattrs --acls -xpf {image} -C {dest}"},
    "busybox": {"unpack": "busybox tar -xf {image} -C {dest}"},
    "python": {"unpack": "python3 -c 'import sys,tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter=\"tar\")' {image} {dest}"},
}


# ---- the sandbox -----------------------------------------------------------------------------------------------------
class Sandbox:
    """A canary directory, a sibling `outside` and the destination, made afresh for each case."""

    def __init__(self, canary, isolated):
        self.canary, self.isolated = canary, isolated
        self.top = os.path.dirname(canary)
        self.box = os.path.join(self.top, "lxi-box")
        self.dest = os.path.join(self.box, "dest")
        self.mounted = False

    def fresh(self, disk_mib):
        self.drop()
        if self.isolated:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.mount(b"tmpfs", self.top.encode(), b"tmpfs", 0, b"size=%dm,nr_inodes=400k,mode=0755" % (disk_mib + 16)) != 0:
                raise OSError(ctypes.get_errno(), "mount tmpfs")
            self.mounted = True
        for place in (self.canary, os.path.join(self.box, "outside")):
            os.makedirs(os.path.join(place, "dir"))
            os.makedirs(os.path.join(place, "closed"), mode=0o700)
            for name, text, mode in (("secret", SECRET + "\n", 0o600), ("victim", "victim\n", 0o644), ("dir/keep", "keep\n", 0o640),
                                     ("dir/secret-copy", SECRET + "\n", 0o600)):
                with open(os.path.join(place, name), "w") as sink:
                    sink.write(text)
                os.chmod(os.path.join(place, name), mode)
                os.utime(os.path.join(place, name), (1600000000, 1600000000))
            os.utime(os.path.join(place, "dir"), (1600000000, 1600000000))
        os.makedirs(os.path.join(self.box, "home"))
        with open(os.path.join(self.box, "context.json"), "w") as sink:
            json.dump(CONTEXT, sink)

    def drop(self):
        if self.isolated:
            if self.mounted:
                for _ in range(50):
                    if ctypes.CDLL(None).umount2(self.top.encode(), 2) == 0:
                        break
                    time.sleep(0.05)
                self.mounted = False
        else:
            for place in (self.canary, self.box):
                subprocess.run(["rm", "-rf", place], check=False)

    def snapshot(self):
        """Everything outside the destination, by what would betray a change."""
        seen = {}
        for place in (self.canary, os.path.join(self.box, "outside")):
            for folder, names, files in os.walk(place.encode()):
                for path in [folder] + [os.path.join(folder, n) for n in names + files]:
                    seen[path] = facts(path)
        seen[b"box"] = (sorted(os.listdir(self.box.encode())),)
        seen[b"top"] = (sorted(os.listdir(self.top.encode())) if self.isolated else [],)
        return seen

    def full(self):
        if not self.isolated:
            return False
        now = os.statvfs(self.top)
        return now.f_bavail == 0 or now.f_bavail * now.f_frsize < MIB


def facts(path):
    info = os.lstat(path)
    content = None
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as source:
            content = hashlib.sha256(source.read(16 * MIB)).hexdigest()
    elif stat.S_ISLNK(info.st_mode):
        content = os.readlink(path)
    try:
        attributes = sorted((n, os.getxattr(path, n, follow_symlinks=False)) for n in os.listxattr(path, follow_symlinks=False))
    except OSError:
        attributes = []
    return (info.st_mode, info.st_uid, info.st_gid, info.st_nlink, info.st_size, info.st_mtime_ns, info.st_ino, content, attributes)


# ---- running one command ---------------------------------------------------------------------------------------------
def group_rss(group):
    """Sum of resident bytes over the process group."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name) as source:
                    fields = source.read().rsplit(")", 1)[1].split()
                if int(fields[2]) == group:
                    total += int(fields[21]) * 4096
            except (OSError, IndexError, ValueError):
                pass
    return total


def run(command, cwd, env, seconds, memory_mib):
    def prepare():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    started = time.monotonic()
    child = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, preexec_fn=prepare)
    peak, verdict, usage, status = 0, None, None, None
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, group_rss(child.pid))
        if time.monotonic() - started > seconds:
            verdict = "hang"
        elif peak > 2 * memory_mib * MIB:
            verdict = "memory"
        elif out.seek(0, 2) > 256 * MIB or err.seek(0, 2) > 256 * MIB:
            verdict = "disk"
        if verdict:
            os.killpg(child.pid, signal.SIGKILL)
            _, status, usage = os.wait4(child.pid, 0)
            break
        time.sleep(0.01)
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.returncode = os.waitstatus_to_exitcode(status)
    peak = max(peak, usage.ru_maxrss * 1024)
    texts = []
    for stream in (out, err):
        stream.seek(0)
        texts.append(stream.read(4 * MIB))
        stream.close()
    return {"status": child.returncode, "out": texts[0], "err": texts[1], "seconds": time.monotonic() - started, "peak_mib": peak // MIB, "stopped": verdict}


# ---- a small web server for the remote cases -------------------------------------------------------------------------
class Web:
    def __init__(self, routes, folder):
        outer = self
        self.routes, self.folder = routes, folder

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                outer.answer(self, body=False)

            def do_GET(self):
                outer.answer(self, body=True)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, body):
        route = self.routes.get(urllib.parse.urlsplit(request.path).path)
        if route is None:
            request.send_error(404)
            return
        data = b""
        if "file" in route:
            with open(os.path.join(self.folder, route["file"]), "rb") as source:
                data = source.read()
        elif "raw" in route:
            data = route["raw"].encode()
        elif "json" in route:
            data = json.dumps(route["json"]).encode()
        try:
            request.send_response(route.get("status", 200))
            for key, value in route.get("headers", {}).items():
                request.send_header(key, value if not value.startswith("/") else self.url + value)
            if "location" in route:
                request.send_header("Location", route["location"])
            if "gzip_blanks" in route:
                request.send_header("Content-Encoding", "gzip")
                unit = gzip.compress(b" " * (16 * MIB))
                data = unit * (route["gzip_blanks"] // (16 * MIB))
            if "endless" in route:
                request.send_header("Transfer-Encoding", "chunked")
                request.end_headers()
                chunk, left = b"[" + b" " * 65535, route["endless"]
                while body and left > 0:
                    request.wfile.write(b"10000\r\n" + chunk + b"\r\n")
                    chunk, left = b" " * 65536, left - 65536
                if body:
                    request.wfile.write(b"0\r\n\r\n")
                return
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            if body:
                if "cut" in route:
                    request.wfile.write(data[:route["cut"]])
                    request.close_connection = True
                else:
                    request.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            pass


class Racer(threading.Thread):
    """Another process in the destination's parent: swaps every directory named `x` for a link to the canary and back, at full speed."""

    def __init__(self, sandbox):
        super().__init__(daemon=True)
        self.sandbox, self.done, self.swaps, self.libc = sandbox, False, 0, ctypes.CDLL(None)
        self.start()

    def run(self):
        target = os.path.join(self.sandbox.canary, "dir")
        while not self.done:
            found = []
            for folder, names, _ in os.walk(self.sandbox.box):
                if "outside" in names and folder == self.sandbox.box:
                    names.remove("outside")
                if "x" in names:
                    found.append(os.path.join(folder, "x"))
                    names.clear()
            for place in found:
                try:
                    os.symlink(target, place + ".link")
                except OSError:
                    continue
                one, two = place.encode(), (place + ".link").encode()
                while not self.done and self.libc.renameat2(-100, one, -100, two, 2) == 0:  # RENAME_EXCHANGE: never missing
                    self.swaps += 1
                    time.sleep(0.0002)

    def stop(self):
        self.done = True
        self.join(10)


# ---- judging ---------------------------------------------------------------------------------------------------------
def check_tree(dest, wanted):
    wrong = []
    for name, want in wanted.items():
        path = os.path.join(dest.encode(), urllib.parse.unquote_to_bytes(name))
        try:
            info = os.lstat(path)
        except OSError as error:
            wrong.append("%s: %s" % (name, error.strerror))
            continue
        kind = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFCHR: "char", stat.S_IFBLK: "block"}[stat.S_IFMT(info.st_mode)]
        found = {"type": kind, "mode": "%04o" % stat.S_IMODE(info.st_mode), "uid": info.st_uid, "gid": info.st_gid, "size": info.st_size, "links": info.st_nlink,
                 "mtime": info.st_mtime_ns // 1000000000, "mtime_ns": info.st_mtime_ns}
        for key, value in want.items():
            if key == "content":
                if kind == "file":
                    with open(path, "rb") as source:
                        if source.read() != value.encode():
                            wrong.append(name + ": content differs")
            elif key == "target":
                if kind != "symlink" or os.readlink(path) != value.encode():
                    wrong.append(name + ": link target differs")
            elif key == "disk_kib_max":
                if info.st_blocks // 2 > value:
                    wrong.append("%s: %d KiB on disk, wanted at most %d" % (name, info.st_blocks // 2, value))
            elif key == "xattrs":
                have = {n: os.getxattr(path, n, follow_symlinks=False).hex() for n in os.listxattr(path, follow_symlinks=False)}
                for attribute, content in value.items():
                    if have.get(attribute) != content:
                        wrong.append("%s: xattr %s is %s, wanted %s" % (name, attribute, have.get(attribute), content))
            elif key == "sha256_of":
                digest = hashlib.sha256()
                for text, count in value:
                    digest.update(text.encode() * count)
                if kind != "file" or hashlib.sha256(open(path, "rb").read()).hexdigest() != digest.hexdigest():
                    wrong.append(name + ": content differs")
            elif found.get(key) != value:
                wrong.append("%s: %s is %s, wanted %s" % (name, key, found.get(key), value))
    return wrong


def find_secret(dest):
    """Did a copy of the secret land in the destination? Counts files, never follows links."""
    folders = [dest.encode()]
    while folders:
        folder = folders.pop()
        try:
            names = os.listdir(folder)
        except OSError:  # gone, or deeper than PATH_MAX
            continue
        for name in names:
            path = os.path.join(folder, name)
            try:
                info = os.lstat(path)
                if stat.S_ISDIR(info.st_mode):
                    folders.append(path)
                if stat.S_ISREG(info.st_mode) and info.st_size < 4 * MIB:
                    with open(path, "rb") as source:
                        if SECRET.encode() in source.read():
                            return os.fsdecode(path)
            except OSError:
                pass
    return None


def fill(template, values):
    words = []
    for word in shlex.split(template) if isinstance(template, str) else template:
        if word == "{image}":
            words += values["image"]
        else:
            for key, value in values.items():
                if key != "image":
                    word = word.replace("{%s}" % key, value)
            words.append(word)
    return words


def judge(case, corpus, sandbox, tool, options):
    limits = dict({"seconds": 20, "memory_mib": 512, "disk_mib": 256}, **case["limits"])
    files = [os.path.join(corpus, name) for name in case["files"]]
    sandbox.fresh(limits["disk_mib"])
    cli = "cli" in tool
    split = len(files) > 1 and case["call"] in ("unpack", "apply")
    if case["level"] == "image" and not cli and case["call"] != "unpack":
        return {"id": case["id"], "skipped": "needs an image program"}
    if case["args"] and not cli:
        return {"id": case["id"], "skipped": "needs an option"}
    env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": os.path.join(sandbox.box, "home"), "LC_ALL": "C.UTF-8", "RUST_BACKTRACE": "0", "TZ": "UTC",
           "XDG_CONFIG_HOME": os.path.join(sandbox.box, "home"), "LXD_IMAGE_CONFIG": os.path.join(sandbox.box, "home"), "LXD_IMAGE_STORE": os.path.join(sandbox.box, "store")}
    for key in ("PYENV_ROOT", "PYENV_VERSION"):
        if key in os.environ:
            env[key] = os.environ[key]
    if not cli:
        os.makedirs(sandbox.dest)
    values = {"dest": sandbox.dest, "image": files, "context": os.path.join(sandbox.box, "context.json"), "bin": tool.get("cli", "")}
    commands, web = [], None
    if cli:
        unpack = [tool["cli"], "unpack"] + files + [sandbox.dest] + case["args"]
        commands = {"unpack": [unpack], "inspect": [[tool["cli"], "inspect"] + files + case["args"]], "verify": [[tool["cli"], "verify"] + files + case["args"]],
                    "apply": [unpack, [tool["cli"], "template", "apply", sandbox.dest, "--trigger", "create", "--context", values["context"]]],
                    "render": [[tool["cli"], "template", "render"] + files + ["--context", values["context"]]], "fetch": []}[case["call"]]
        if case["call"] == "fetch":
            web = Web(case["serve"]["routes"], os.path.join(corpus, os.path.dirname(case["files"][0])))
            commands = [[tool["cli"]] + [w.replace("{url}", web.url) for w in words] for words in case["serve"]["commands"]]
    else:
        for number, path in enumerate(files):
            template = tool["unpack"]
            if path.endswith(".squashfs"):
                template = tool.get("squashfs")
            if template is None or path.endswith((".qcow2", ".vmdk")):
                return {"id": case["id"], "skipped": "another format"}
            target = os.path.join(sandbox.dest, "rootfs") if split and not os.path.basename(path).startswith("meta") and number >= 0 else sandbox.dest
            with open(path, "rb") as source:
                start = source.read(8)
            codec = next((flag for magic, flag in CODECS if start.startswith(magic)), "--numeric-owner")
            commands.append((target, fill(template, dict(values, image=[path], dest=target, codec=codec))))
        if split:
            commands.sort(key=lambda c: c[0] != sandbox.dest)
    for operation, path, value in case["setup"]:
        if operation == "symlink":
            os.makedirs(os.path.dirname(os.path.join(sandbox.box, path)), exist_ok=True)
            os.symlink(value.replace("CANARY", sandbox.canary), os.path.join(sandbox.box, path))
    before = sandbox.snapshot()
    findings, results = [], []
    racer = Racer(sandbox) if any(s[0] == "race-swap" for s in case["setup"]) else None
    try:
        for number, command in enumerate(commands):
            if not cli:
                target, command = command
                # LXD makes rootfs/ for the second file with the same checks as any path: follow what is there.
                os.makedirs(target, exist_ok=True)
            results.append(run(command, sandbox.box, env, limits["seconds"], limits["memory_mib"]))
            if results[-1]["status"] != 0:
                break
            if case["call"] == "apply" and number == 0:
                for operation, path, value in case["setup"]:
                    place = os.path.join(sandbox.box, path)
                    if operation == "after-unpack-symlink" and os.path.lexists(place):
                        os.rename(place, place + ".orig")
                        os.symlink(value.replace("CANARY", sandbox.canary), place)
                before = sandbox.snapshot()
    except OSError as error:
        findings.append(["runner", str(error)])
    if racer:
        racer.stop()
    last = results[-1] if results else {"status": 99, "out": b"", "err": b"", "seconds": 0, "peak_mib": 0, "stopped": None}
    accepted = last["status"] == 0 and len(results) == len(commands)
    noise = b"".join(r["out"] + r["err"] for r in results)
    judged = cli or case["level"] == "archive"
    for result in results:
        if result["stopped"]:
            findings.append([result["stopped"], "%.1f s, %d MiB" % (result["seconds"], result["peak_mib"])])
        elif result["status"] < 0 or b"panicked at" in result["err"] or (cli and result["status"] in (101, 134)):
            findings.append(["crash", "status %d" % result["status"]])
        elif result["peak_mib"] > limits["memory_mib"]:
            findings.append(["memory", "%d MiB, limit %d" % (result["peak_mib"], limits["memory_mib"])])
    if sandbox.full():
        findings.append(["disk", "over %d MiB" % limits["disk_mib"]])
    after = sandbox.snapshot()
    for known in (b"dest", b"store"):
        for state in (before, after):
            state[b"box"] = ([n for n in state[b"box"][0] if n != known],)
    changed = sorted(os.fsdecode(p) for p in set(before) | set(after) if before.get(p) != after.get(p))
    beside = sorted(os.fsdecode(n) for n in set(after[b"box"][0]) - set(before[b"box"][0]))
    if beside and changed == ["box"]:
        findings.append(["left-behind", "beside the destination: " + ", ".join(beside[:4])])
    elif changed:
        findings.append(["escape", ", ".join(p.replace(sandbox.top, "") for p in changed[:4])])
    secret_in = find_secret(sandbox.dest)
    if secret_in or SECRET.encode() in noise:
        findings.append(["leak", (secret_in or "output").replace(sandbox.top, "")])
    if b"\x1b[31m" in noise:
        findings.append(["terminal-escape", "raw control bytes from a name reached the output"])
    kind = re.search(rb"error\[(\w+)\]", last["err"])
    kind = kind.group(1).decode() if kind else None
    stopped = any(f[0] in ("hang", "crash", "memory") for f in findings)
    if judged and not stopped:
        if case["want"] == "reject" and accepted:
            findings.append(["wrongly-accepted", ""])
        if case["want"] == "accept" and not accepted:
            findings.append(["wrongly-rejected", last["err"].decode(errors="replace").strip()[-200:]])
        if cli and not accepted and case["want"] != "accept":
            if kind is None:
                findings.append(["no-kind", last["err"].decode(errors="replace").strip()[-200:]])
            elif case["kinds"] and kind not in case["kinds"]:
                findings.append(["wrong-kind", "%s, wanted %s" % (kind, "/".join(case["kinds"]))])
            elif last["status"] == 2:
                findings.append(["no-kind", "usage error"])
    if accepted and judged and case["call"] in ("unpack", "apply") and case["want"] != "reject":
        wrong = check_tree(sandbox.dest, case["tree"])
        if wrong:
            findings.append(["wrong-tree", "; ".join(wrong[:4])])
    for name in case["absent"]:
        if judged and os.path.lexists(os.path.join(sandbox.dest.encode(), urllib.parse.unquote_to_bytes(name))):
            findings.append(["forbidden-path", name])
    if cli and not accepted and case["call"] == "unpack" and not case["setup"] and os.path.isdir(sandbox.dest) and os.listdir(sandbox.dest):
        findings.append(["left-behind", ", ".join(sorted(os.listdir(sandbox.dest))[:4])])
    if cli and case["call"] == "fetch" and not accepted and not stopped:
        listed = run([tool["cli"], "list", "--format", "json"], sandbox.box, env, 20, 512)
        if listed["status"] == 0 and re.search(rb"[0-9a-f]{64}", listed["out"]):
            findings.append(["visible", "an image is listed after the failure"])
    if web:
        web.close()
    return {"id": case["id"], "want": case["want"], "level": case["level"], "accepted": accepted, "judged": judged, "kind": kind, "status": last["status"],
            "seconds": round(sum(r["seconds"] for r in results), 2), "peak_mib": max([r["peak_mib"] for r in results] or [0]), "findings": findings,
            "stderr": last["err"].decode(errors="backslashreplace").replace(sandbox.top, "").replace(corpus, "")[-300:] if options.verbose else ""}


def isolate():
    """A private mount namespace, so that a fixed canary path can be used and nothing real is in reach."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(0x00020000) != 0:
        return False
    return libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None) == 0


def main():
    parser = argparse.ArgumentParser(description="Run an unpacker over a hostile corpus and judge what it did.")
    parser.add_argument("--corpus", required=True, help="what make.py wrote")
    parser.add_argument("--cli", help="an lxd-image binary")
    parser.add_argument("--profile", choices=sorted(PROFILES))
    parser.add_argument("--unpack", help="command template with {image} and {dest}")
    parser.add_argument("--only", default="", help="only cases whose id contains this")
    parser.add_argument("--skip", default="", help="groups to leave out, by commas")
    parser.add_argument("--report", help="write JSON here")
    parser.add_argument("--verbose", action="store_true", help="keep standard error in the report, print every case")
    options = parser.parse_args()
    corpus = os.path.abspath(options.corpus)
    with open(os.path.join(corpus, "manifest.json")) as source:
        manifest = json.load(source)
    if options.cli:
        tool, name = {"cli": os.path.abspath(options.cli)}, "lxd-image"
    elif options.profile:
        tool, name = PROFILES[options.profile], options.profile
    else:
        tool, name = {"unpack": options.unpack}, shlex.split(options.unpack)[0]
    default = os.path.dirname(manifest["canary"]) == "/mnt"
    isolated = default and isolate()
    if default and not isolated:
        sys.exit("no mount namespace here: make the corpus with --canary SOME_TEMPORARY_DIR/lxi-canary")
    sandbox = Sandbox(manifest["canary"], isolated)
    rows = []
    for case in manifest["cases"]:
        if options.only not in case["id"] or case["group"] in options.skip.split(","):
            continue
        for _ in range(5 if any(s[0] == "race-swap" for s in case["setup"]) else 1):  # a race is luck: try it five times
            row = judge(case, corpus, sandbox, tool, options)
            if row.get("findings") or "skipped" in row:
                break
        rows.append(row)
        if row.get("findings") or options.verbose:
            shown = "; ".join("%s (%s)" % tuple(f) if f[1] else f[0] for f in row.get("findings", []))
            print("%-60s %s %s" % (row["id"], row.get("skipped") or ("accepted" if row["accepted"] else "rejected %s" % (row["kind"] or row["status"])), shown))
    sandbox.drop()
    counts = {}
    for row in rows:
        for finding in row.get("findings", []):
            counts[finding[0]] = counts.get(finding[0], 0) + 1
    run_rows = [r for r in rows if "skipped" not in r]
    # A group whose good example fails proves nothing by refusing the bad ones.
    unproved = sorted({r["id"] for r in run_rows if "/good-" in r["id"] and r["judged"] and not r["accepted"]})
    summary = {"tool": name, "cases": len(rows), "run": len(run_rows), "judged": sum(1 for r in run_rows if r["judged"]), "clean": sum(1 for r in run_rows if not r["findings"]),
               "findings": counts, "controls_failed": unproved}
    print(json.dumps(summary, sort_keys=True))
    if options.report:
        with open(options.report, "w") as sink:
            json.dump({"summary": summary, "rows": rows}, sink, indent=1, sort_keys=True)
    return 1 if counts else 0


if __name__ == "__main__":
    sys.exit(main())
