#!/usr/bin/env python3
"""registry.py: a registry in memory, on a free port of this machine, for the behaviour cases; its URL is the first line that it prints.

As much of the OCI distribution specification as clients need: uploads in one and in several pieces, manifests by tag and digest, tags, the catalog.
It ends when its standard input does.
"""
import hashlib
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOBS, MANIFESTS, UPLOADS = {}, {}, {}


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def answer(self, status, content=b"", kind="application/json", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def missing(self, code="NAME_UNKNOWN"):
        self.answer(404, json.dumps({"errors": [{"code": code, "message": "not known to the registry"}]}).encode())

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/v2/":
            return self.answer(200, b"{}")
        if path == "/v2/_catalog":
            names = sorted({name for name, _ in MANIFESTS})
            return self.answer(200, json.dumps({"repositories": names}).encode())
        if found := re.fullmatch(r"/v2/(.+)/tags/list", path):
            tags = sorted(tag for name, tag in MANIFESTS if name == found[1] and ":" not in tag)
            if not tags:
                return self.missing()
            return self.answer(200, json.dumps({"name": found[1], "tags": tags}).encode())
        if found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            kind, content = MANIFESTS.get((found[1], found[2]), (None, None))
            if content is None:
                return self.missing("MANIFEST_UNKNOWN")
            return self.answer(200, content, kind, Docker_Content_Digest=digest(content))
        if found := re.fullmatch(r"/v2/(.+)/blobs/(sha256:.+)", path):
            content = BLOBS.get(found[2])
            if content is None:
                return self.missing("BLOB_UNKNOWN")
            return self.answer(200, content, "application/octet-stream", Docker_Content_Digest=found[2])
        self.missing()

    do_HEAD = do_GET

    def do_POST(self):
        found = re.fullmatch(r"/v2/(.+)/blobs/uploads/", self.path.split("?")[0])
        if not found:
            return self.missing()
        self.body()
        name = str(len(UPLOADS))
        UPLOADS[name] = b""
        self.answer(202, Location=f"/v2/{found[1]}/blobs/uploads/{name}", Range="0-0")

    def do_PATCH(self):
        name = self.path.split("?")[0].rsplit("/", 1)[1]
        UPLOADS[name] += self.body()
        self.answer(202, Location=self.path, Range=f"0-{max(len(UPLOADS[name]) - 1, 0)}")

    def do_PUT(self):
        path, _, query = self.path.partition("?")
        content = self.body()
        if found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            for reference in (found[2], digest(content)):
                MANIFESTS[found[1], reference] = self.headers.get("Content-Type", ""), content
            return self.answer(201, Docker_Content_Digest=digest(content))
        name = path.rsplit("/", 1)[1]
        content = UPLOADS.pop(name) + content
        UPLOADS[name] = b""
        if digest(content) not in query.replace("%3A", ":"):
            return self.answer(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"another digest"}]}')
        BLOBS[digest(content)] = content
        self.answer(201, Docker_Content_Digest=digest(content))


server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
sys.stdin.read()
