#!/usr/bin/env python3
"""seeds.py [CORPUS]: writes what fuzzing starts from below CORPUS (default: corpus, beside this file), a folder a target.

The images come from tests/hostile/make.py, so that there is one place that knows how to build odd ones; those over 64 KiB
are left out. How the targets that read archives take their first byte is said in src/lib.rs.

squashfs-seeds.json holds small SquashFS files (zlib, then base 85), for who fuzzes without a program that makes any: a tree with
every kind of member, attributes, a hole and two links to the canary, as this library writes it with each compressor, and as
mksquashfs does. Most store their tables as they are, since nearly every change to a compressed one is only a broken stream.
"""
import base64
import hashlib
import io
import json
import os
import random
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
MOST = 64 << 10
METADATA = [
    b"architecture: x86_64\ncreation_date: 1700000000\n",
    b"architecture: amd64\ncreation_date: 1700000000\nexpiry_date: 1800000000\nproperties:\n  os: Debian\n  release: 'no'\n  serial: 0x1F\n"
    b"templates:\n  /etc/hostname:\n    when: [create, copy]\n    create_only: true\n    template: hostname.tpl\n    properties: {a: b}\n",
    b"%YAML 1.1\n---\n\"architecture\": \"x86\\u005f64\"\n'creation_date': 1_700_000_000\nx: &a [1, ~, !!str 2]\ny: *a\nz: |\n  text\n  more\nw: >-\n  a\n\n  b\n...\n",
    b"{architecture: aarch64, creation_date: 1, properties: {a: '', b: \"\\n\", ? c : d}, odd: {}}\n",
    b"\xef\xbb\xbf# comment\narchitecture: i686\ncreation_date: 017\nproperties:\n  1: 1e3\n  yes: ~\n  '': .inf\n  <<: plain\n",
]
PROGRAMS = [b"\0" + bytes(range(1, 200, 3)), b"\0" + bytes(range(255, 0, -2)), b"\x04" + b"\x06\x60\x00\x01\x40" * 12, b"\x08" + bytes(range(7, 250, 5)),
            b"\0\x46\x60\x00\xff\x00\x61\x00\x01\xff\x10", b"\0\x09\x60\x00\x60\x01\xff\x00\x60\x01\xff\x10"]


def lists():
    """Documents of simplestreams servers: all kinds of rootfs, metadata for each peer, odd versions and paths."""
    kinds = [("squashfs", "squashfs"), ("root.tar.xz", "rootxz"), ("disk-kvm.img", "disk-kvm-img"), ("disk1.img", "disk1-img"), ("uefi1.img", "uefi1-img")]

    def item(ftype, path, **more):
        return dict({"ftype": ftype, "path": path, "size": 3, "sha256": hashlib.sha256(path.encode()).hexdigest()}, **more)

    def items(tag, kinds, names=("lxd.tar.xz", "incus.tar.xz"), same=True):
        made = {}
        for name in names:
            combined = {"combined_%s_sha256" % key: hashlib.sha256((tag + ftype + ("" if same else name)).encode()).hexdigest() for ftype, key in kinds}
            made[name] = item(name, "images/%s/20240601_05:24/%s" % (tag, "meta" if same else name), **combined)
        for ftype, _ in kinds:
            made[ftype] = item(ftype, "images/%s/20240601_05:24/%s" % (tag, ftype))
        return made

    def products(versions, **more):
        product = dict({"aliases": "box/1,box", "arch": "amd64", "os": "Box", "release": "1", "release_title": "One", "variant": "default",
                        "support_eol": "2030-01-02", "requirements": {"secureboot": "false"}, "versions": versions}, **more)
        return {"content_id": "images", "datatype": "image-downloads", "format": "products:1.0", "products": {"box:1:default:amd64": product}}

    unified = {name: item(name, "images/u", combined_type=kind) for name, kind in (("lxd_combined.tar.gz", ""), ("incus_combined.tar.gz", "virtual-machine"))}
    yield {"format": "index:1.0", "index": {"images": {"datatype": "image-downloads", "path": "streams/v1/images.json", "products": ["box:1:default:amd64"]}}}
    yield products({"20240601_05:24": {"items": items("a", kinds), "label": "daily"}})
    yield products({"202406010524": {"items": items("a", kinds[:2], same=False)}, "202406010524_1": {"items": items("b", kinds[:1])}})
    yield products({"20240601": {"items": unified}, "soon": {"items": {}}, "20241399": {"items": {}}, "": None}, extra=[1, {"a": None}])
    yield products({"20240601": {"items": items("../..", kinds[:1], names=("lxd.tar.xz",))}}, arch="none", aliases=None)
    old = items("a", kinds[1:2])
    for name in ("lxd.tar.xz", "incus.tar.xz"):
        old[name]["combined_sha256"] = old[name].pop("combined_rootxz_sha256")
    yield products({"20240601": {"items": dict(old, delta=item("squashfs.vcdiff", "images/d", delta_base="20240501"))}})


def deltas():
    """Deltas as the target `vcdiff` reads them: by hand, with each kind of instruction, segment and compressor, and by xdelta3 where it is."""
    base = bytes(range(48, 123)) * 4

    def number(value):
        digits = [value & 127]
        while value > 127:
            value >>= 7
            digits.insert(0, value & 127 | 128)
        return bytes(digits)

    def window(indicator, segment, length, compressed, data, instructions, addresses):
        sections = (data, instructions, addresses)
        encoding = number(length) + bytes([compressed]) + b"".join(number(len(section)) for section in sections)
        if indicator & 4:
            encoding += zlib.adler32(data).to_bytes(4, "big")
        encoding += b"".join(sections)
        return bytes([indicator]) + b"".join(number(value) for value in segment) + number(len(encoding)) + encoding

    def seed(mode, first, second):
        return bytes([mode]) + len(first).to_bytes(2, "big") + first + second

    plain = b"\xd6\xc3\xc4\0"
    copies = window(1, (len(base), 0), 23, 0, b"AB*", bytes([3, 20, 0, 5, 36, 52, 116]), bytes([10, 3, 1, 10]))
    pairs = window(1, (36, 0), 10, 0, b"XY", bytes([163, 247]), bytes([0, 10]))
    target = window(0, (), 8, 0, b"ABCDEFGH", bytes([9]), b"") + window(2, (6, 1), 8, 0, b"", bytes([20, 20]), bytes([2, 0]))
    checked = window(4, (), 4, 0, b"data", bytes([5]), b"")
    for windows in (b"", copies, pairs, target, checked, copies + checked + pairs):
        yield seed(0, base, plain + b"\0" + windows)
    yield seed(0, base, plain + b"\x04\x03a/b" + checked)
    # One flat table: every byte is its own code of eight bits.
    bits = [0] * 7 + [0, 0, 0, 1] + [0] * 20 + [0, 0, 0, 1] + [1] + [0] * 8 + [int(bit) for byte in b"data" for bit in format(byte, "08b")]
    djw = bytes(sum(bit << at for at, bit in enumerate(bits[start:start + 8])) for start in range(0, len(bits), 8))
    yield seed(0, base, plain + b"\x01\x01" + window(0, (), 4, 1, b"\x04" + djw, bytes([5]), b""))
    block = b"\x02\0\x21\x01\x08\0\0\0"
    xz = b"\xfd7zXZ\0\0\0" + zlib.crc32(b"\0\0").to_bytes(4, "little") + block + zlib.crc32(block).to_bytes(4, "little")
    first, second = xz + b"\x01\0\x03data", b"\x02\0\x03more"
    yield seed(0, base, plain + b"\x01\x02" + b"".join(window(0, (), 4, 1, b"\x04" + part, bytes([5]), b"") for part in (first, second)))
    text = b"".join(b"%d %s\n" % (index * index, base[index % 60:index % 60 + 9]) for index in range(400))
    changed = text[3000:] + b"new" * 40 + bytes(500) + text[:4000].replace(b"1", b"7")
    for mode in (1, 17, 49):
        yield seed(mode, text, changed)
        yield seed(mode, b"", text)
        yield seed(mode, text, text)
    with tempfile.TemporaryDirectory() as made:
        for name, content in (("old", text), ("new", changed)):
            with open(os.path.join(made, name), "wb") as sink:
                sink.write(content)
        for options in (["-9"], ["-1", "-S", "none"], ["-9", "-S", "djw"], ["-9", "-W", "16384"], ["-n", "-A"]):
            try:
                subprocess.run(["xdelta3", "-e", "-f", *options, "-s", "old", "new", "delta"], cwd=made, check=True, stderr=subprocess.DEVNULL)
            except (OSError, subprocess.CalledProcessError):
                continue
            with open(os.path.join(made, "delta"), "rb") as source:
                yield seed(0, text, source.read())


def requests():
    """Requests to a server, as the target `handler` reads them: who asks in a byte, then lines; several with a 0x1e between them."""
    paths = ["/", "/1.0", "/1.0/images", "/1.0/images?recursion=1", "/1.0/images?filter=properties.os%20eq%20Debian%20and%20public%20eq%20true",
             "/1.0/images/aliases", "/1.0/images/aliases/open%2F1", "/1.0/images/aliases/open/2", "/1.0/images/0000/export?secret=x", "/streams/v1/index.json",
             "/streams/v1/images.json", "/open/1", "/?q=open&sort=size&page=2", "/static/style.css", "/metrics", "/health", "/1.0/operations?recursion=1",
             "/1.0/events?type=operation", "/1.0/images/hiddencanary", "/hiddencanary"]
    headers = [b"", b"\naccept: text/html", b"\nrange: bytes=1-9\nif-range: \"x\"", b"\nlxd-server-architectures: x86_64, i686\nhost: a.example:8443",
               b"\nif-none-match: \"x\", *"]
    for number, path in enumerate(paths):
        for method in (b"GET", b"HEAD"):
            yield b"\0" + method + b" " + path.encode() + headers[number % len(headers)]
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in (("metadata.yaml", METADATA[0]), ("rootfs/a", b"a")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    image = image.getvalue()
    form = b'--b\r\nContent-Disposition: form-data; name="metadata"; filename="m"\r\n\r\n%s\r\n--b\r\nContent-Disposition: form-data; name="rootfs"; filename="r"\r\n\r\n%s\r\n--b--\r\n'
    changes = [
        b"POST /1.0/images\nx-lxd-public: true\nx-lxd-properties: os=a&b=c\nx-incus-aliases: n=&m=\ncontent-type: application/octet-stream\n\n" + image[:4096],
        b"POST /1.0/images\ncontent-type: multipart/form-data; boundary=b\n\n" + form % (image[:2048], image[:2048]),
        b'POST /1.0/images\ncontent-type: application/json\n\n{"source": {"type": "url", "url": "https://a.example/b"}, "aliases": [{"name": "x"}]}',
        b'POST /1.0/images/aliases\n\n{"name": "new/one", "target": "%s", "description": "d"}' % (b"0" * 64),
        b'PUT /1.0/images/aliases/open%2F1\n\n{"description": "d", "target": ""}', b'POST /1.0/images/aliases/open%2F1\n\n{"name": "moved"}',
        b"DELETE /1.0/images/aliases/open%2F1", b'PATCH /1.0/images/aliases/open%2F2\nif-match: x\n\n{"description": null}',
        b'PATCH /1.0/images/0000\n\n{"properties": {"a": "b"}, "public": true}', b"DELETE /1.0/images/0000", b"POST /1.0/images/0000/secret",
        b"POST /1.0/images/0000/refresh", b"GET /1.0/operations", b"GET /1.0/images?recursion=1",
    ]
    for change in changes:
        yield b"\x01" + change
        yield b"\0" + change
    yield b"\x1e".join(b"\x01" + change for change in changes[:4])


def disks():
    """Small disks, as the target `disk` reads them: the number of the format that is asked for (6 and more: none), then the file.
    A VHDX comes in the parts that src/bytes.rs puts into their places."""
    def qcow2(version, cluster_bits, entries, extra=b"", incompatible=0, compression=0):
        cluster = 1 << cluster_bits
        head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, 0, 0, cluster_bits, 16 * cluster, 0, 1, 3 * cluster, cluster, 1, 0, 0)
        if version == 3:
            head += struct.pack(">QQQIIB7x", incompatible, 0, 0, 4, 112 if compression else 104, compression)
        head = head.ljust(cluster, b"\0")
        refcounts = struct.pack(">Q", 2 * cluster).ljust(cluster, b"\0") + struct.pack(">8H", *[1] * 8).ljust(cluster, b"\0")
        table = struct.pack(">Q", 4 * cluster | 1 << 63).ljust(cluster, b"\0")
        return head + refcounts + table + b"".join(struct.pack(">Q", entry) for entry in entries).ljust(cluster, b"\0") + extra

    size = 4096
    data = bytes(range(256)) * (size // 256)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -12)
    packed = deflate.compress(data) + deflate.flush()
    yield 7, qcow2(3, 12, [5 * size | 1 << 63, 1, 0, 0], data)
    yield 1, qcow2(2, 12, [5 * size | 1 << 63], data)
    yield 7, qcow2(3, 12, [5 * size | 1 << 62, 0, 5 * size | 1 << 62], packed.ljust(size, b"\0"))
    yield 6, qcow2(3, 14, [5 << 14 | 1 << 63, 0xff], data * 4, incompatible=1 << 4)
    yield 7, qcow2(3, 9, [5 * 512 | 1 << 63, 6 * 512 | 1 << 63], data[:1024])
    yield 0, data
    footer = struct.pack(">8sIIQI4sI4sQQIII", b"conectix", 2, 0x10000, 2**64 - 1, 0, b"lxi ", 1, b"Wi2k", size, size, 0x00020411, 2, 0)
    footer = bytearray(footer.ljust(512, b"\0"))
    footer[64:68] = struct.pack(">I", ~sum(footer) & 0xffffffff)
    yield 4, data + bytes(footer)
    head = struct.pack("<4sIIQQQQIQQQB4sH", b"KDMV", 1, 3, 16, 8, 1, 1, 512, 0, 26, 27, 0, b"\n \r\n", 0).ljust(512, b"\0")
    text = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicSparse"\nRW 16 SPARSE "a.vmdk"\n'.ljust(512, b"\0")
    grains = struct.pack("<I", 22).ljust(512, b"\0") + struct.pack("<2I", 27, 0).ljust(2048, b"\0")
    yield 2, (head + text).ljust(26 * 512, b"\0") + grains + data
    ovf = b'<Envelope><File id="f" href="a.qcow2"/><Disk fileRef="f"/></Envelope>'
    appliance = io.BytesIO()
    with tarfile.open(fileobj=appliance, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in (("a.ovf", ovf), ("a.qcow2", qcow2(3, 12, [5 * size | 1 << 63], data))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    yield 3, appliance.getvalue()
    mib, region = 1 << 20, lambda name, place, length, flags: bytes.fromhex(name) + struct.pack("<QII", place, length, flags)
    header = struct.pack("<Q", 1) + bytes(48) + struct.pack("<HHI", 0, 1, 0)
    regions = struct.pack("<II", 2, 0) + region("6677c22d23f600429d64115e9bfd4a08", 2 * mib, mib, 1) + region("06a27c8b90479a4bb8fe575f050f886e", 3 * mib, mib, 1)
    table = struct.pack("<3Q", 4 * mib | 6, 2, 0)
    items = (("3767a1ca36fa434db3b633f0aa44e76b", 8), ("2442a52f1bcd7648b2115dbed83bf4b8", 8), ("1dbf41816fa90947ba47f233a8faab5f", 4))
    metadata = b"metadata" + struct.pack("<HH20x", 0, len(items))
    metadata += b"".join(bytes.fromhex(name) + struct.pack("<4I", (64 << 10) + 8 * number, length, 6, 0) for number, (name, length) in enumerate(items))
    values = struct.pack("<IIQI", mib, 0, 3 * mib, 512)
    parts = ((header, 72), (regions, 256), (table, 256), (metadata, 512), (values, 256))
    yield 5, b"".join(part.ljust(length, b"\0") for part, length in parts) + data


def containers():
    """What registries and layouts say, as the target `oci` reads it: what the bytes are, then the bytes."""
    def digest(data):
        return "sha256:" + hashlib.sha256(data).hexdigest()

    def described(kind, data, **more):
        return dict({"mediaType": kind, "digest": digest(data), "size": len(data)}, **more)

    oci, docker = "application/vnd.oci.image.", "application/vnd.docker."
    platforms = [{"architecture": name, "os": "linux"} for name in ("amd64", "arm64", "riscv64")] + [{"architecture": "arm", "os": "linux", "variant": "v7"}]
    layers = [described(oci + "layer.v1.tar" + ending, b"layer" + ending.encode()) for ending in ("", "+gzip", "+zstd")]
    plain = {"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": described(oci + "config.v1+json", b"{}"), "layers": layers}
    empty = described("application/vnd.oci.empty.v1+json", b"{}")
    unified = described("application/vnd.lxd-image.unified.v1.tar+zstd", b"image", annotations={"org.opencontainers.image.title": "unified.tar.zst"})
    notes = {"vnd.lxd-image.fingerprint": unified["digest"][7:], "vnd.lxd-image.type": "container", "vnd.lxd-image.property.os": "Box",
             "org.opencontainers.image.created": "2024-01-02T03:04:05Z"}
    artifact = {"schemaVersion": 2, "artifactType": "application/vnd.lxd-image.v1", "config": empty, "layers": [unified], "annotations": notes}
    split = dict(artifact, layers=[described("application/vnd.incus.metadata", b"m"), described("application/x-qcow2", b"disk")], annotations=None)
    statement = {"schemaVersion": 2, "artifactType": "application/vnd.dsse.envelope.v1+json", "config": empty, "subject": described(plain["mediaType"], b"x"),
                 "layers": [described("application/vnd.dsse.envelope.v1+json", b"{}")]}
    index = {"schemaVersion": 2, "mediaType": oci + "index.v1+json", "manifests": [described(plain["mediaType"], b"m", platform=one) for one in platforms], "x": 1.5}
    older = {"schemaVersion": 2, "mediaType": docker + "distribution.manifest.list.v2+json", "manifests": index["manifests"]}
    for document in (plain, artifact, split, statement, index, older, {"schemaVersion": 1, "fsLayers": []}, dict(plain, manifests=[])):
        for stated in (0, 8, 16, 24):
            yield bytes([stated]) + json.dumps(document).encode()
    config = {"architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z", "rootfs": {"type": "layers", "diff_ids": [digest(b"1"), digest(b"2")]},
              "config": {"User": "1000:www", "Env": ["A=b"], "Cmd": ["/bin/sh"], "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"}},
              "history": [{"created_by": "x", "empty_layer": True}, {}]}
    yield bytes([1 | 2 << 3]) + json.dumps(config).encode()
    yield bytes([1]) + json.dumps(dict(config, rootfs={"type": "layers", "diff_ids": None})).encode()
    for text in ("library/alpine:3.20", "a/b@" + digest(b""), "a:1@" + digest(b""), digest(b""), "sha512:" + "0f" * 64, "latest",
                 'Bearer realm="https://auth.example/token",service="reg.example",scope="repository:a/b:pull,push"', 'Basic realm="a \\"b\\"", Bearer realm=x'):
        yield b"\2" + text.encode()
    blobs = {name: data for data in (json.dumps(plain).encode(), json.dumps(artifact).encode(), json.dumps(statement).encode()) for name in [digest(data)]}
    entries = [described(plain["mediaType"], data, annotations={"org.opencontainers.image.ref.name": "box%d" % number}) for number, data in enumerate(blobs.values())]
    listed = json.dumps(dict(index, manifests=entries[2:])).encode()
    blobs[digest(listed)] = listed
    entries.append(described(index["mediaType"], listed, annotations={"org.opencontainers.image.ref.name": entries[0]["digest"].replace(":", "-")}))
    files = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())]
    files += [("blobs/" + name.replace(":", "/"), data) for name, data in blobs.items()]

    def packed(members):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in members:
                member = tarfile.TarInfo(name)
                if isinstance(content, str):
                    member.type, member.linkname = (tarfile.LNKTYPE, content[1:]) if content.startswith("=") else (tarfile.SYMTYPE, content)
                elif content is None:
                    member.type, member.mode = tarfile.DIRTYPE, 0o755
                else:
                    member.size = len(content)
                archive.addfile(member, io.BytesIO(content if isinstance(content, bytes) else b""))
        return made.getvalue()

    yield b"\3" + packed(files)
    base = [("etc/", None), ("etc/passwd", b"root:x:0:0::/:/bin/sh"), ("a/", None), ("a/x", b"x"), ("a/y", "=a/x"), ("link", "a"), ("out", "/mnt/lxi-canary/dir")]
    for upper in ([("a/.wh.x", b"")], [("a/.wh..wh..opq", b""), ("a/new", b"n")], [("link/", None), ("link/b", b"b")], [("out/keep", b"k")], [(".wh.a", b""), ("a", b"a")],
                  [("a/x/", None), ("a/x/deep", b"d")], [("b", "=a/y"), (".wh.link", b"")], [(".wh..", b""), (".wh.", b"")], [("../up", b"u")], [("sbin/init", b"i")]):
        one, two = (made.rstrip(b"\0") for made in (packed(base), packed(upper)))
        one, two = (made.ljust((len(made) + 511) // 512 * 512 + 1024, b"\0") for made in (one, two))
        for mode in (4, 12):
            yield bytes([mode, len(one) // 512, len(two) // 512]) + one + two
    for program in PROGRAMS:
        for mode in (5, 13):
            for count in range(4):
                yield bytes([mode, count]) + program


def main():
    corpus = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "corpus")
    counts = {}
    images = []

    def keep(target, data):
        folder = os.path.join(corpus, target)
        os.makedirs(folder, exist_ok=True)
        if len(data) <= MOST:
            with open(os.path.join(folder, "seed-" + hashlib.sha256(data).hexdigest()[:16]), "wb") as sink:
                sink.write(data)
            counts[target] = counts.get(target, 0) + 1

    def squashfs(data):
        for mode in (0, 1):
            keep("squashfs", bytes([mode]) + data)
        for mode in (0, 1, 4, 5, 13, 20):
            keep("squashfs_unpack", bytes([mode]) + data)

    for data in requests():
        keep("handler", data)
    for data in deltas():
        keep("vcdiff", data)
    for mode, data in disks():
        keep("disk", bytes([mode]) + data)
    for data in containers():
        keep("oci", data)

    with tempfile.TemporaryDirectory() as made:
        subprocess.run([sys.executable, os.path.join(HERE, "../tests/hostile/make.py"), made], check=True, stdout=subprocess.DEVNULL)
        with open(os.path.join(made, "manifest.json")) as source:
            cases = json.load(source)["cases"]
        for case in cases:
            if case["call"] == "fetch":
                continue
            files = []
            for name in case["files"]:
                if os.path.getsize(os.path.join(made, name)) <= MOST:
                    with open(os.path.join(made, name), "rb") as source:
                        files.append(source.read())
            images += files
            for data in files:
                keep("detect", data)
                if data.startswith(b"hsqs"):
                    squashfs(data)
                for mode in (0, 1, 9, 16):
                    keep("tar", bytes([mode]) + data)
                    keep("unpack", bytes([mode]) + data)
                try:
                    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                        keep("metadata", archive.extractfile("metadata.yaml").read())
                except (tarfile.TarError, KeyError, AttributeError, OSError, EOFError, ValueError):
                    pass
            if len(files) == 2 and len(files[0]) % 512 == 0 and len(files[0]) < 256 * 512:
                for mode in (4, 5):
                    keep("tar", bytes([mode, len(files[0]) // 512]) + b"".join(files))
                    keep("unpack", bytes([mode, len(files[0]) // 512]) + b"".join(files))
    for document in lists():
        keep("simplestreams", json.dumps(document).encode())
    for text in METADATA:
        keep("metadata", text)
    with open(os.path.join(HERE, "squashfs-seeds.json")) as source:
        for packed in json.load(source).values():
            squashfs(zlib.decompress(base64.b85decode(packed)))
    cases = os.path.join(HERE, "../tests/data/templates")
    for name in sorted(os.listdir(cases)):
        with open(os.path.join(cases, name)) as source:
            for case in json.load(source)["cases"]:
                keep("template", case["template"].encode())
    for program in PROGRAMS:
        for mode in (2, 6, 10, 18):
            keep("tar", bytes([mode]) + program)
            keep("unpack", bytes([mode]) + program)
    # How the target `ffi` takes its bytes is said in fuzz_targets/ffi/main.rs. Every call in the order of its list, with the usual
    # arguments, is what a program does; the rest is chance, the same one each time.
    materials = [b"", *METADATA, *PROGRAMS, b"{{ a|b }}{% if c %}", b'{"container": {"name": "c1"}, "devices": {"eth0": {"type": "nic"}}, "x": [1, {}]}']
    materials += [data for data in images if len(data) <= 4096][:40]
    with open(os.path.join(HERE, "squashfs-seeds.json")) as source:
        materials += [zlib.decompress(base64.b85decode(packed)) for packed in json.load(source).values()]
    chance = random.Random(7)
    for material in materials:
        for calls in (bytes(range(128)), bytes(chance.randrange(256) for _ in range(120))):
            for choices in (b"", bytes(chance.randrange(8) for _ in range(255)), bytes(chance.choice((0, 0, 1, 3, 7, 200, chance.randrange(256))) for _ in range(255))):
                keep("ffi", bytes([len(calls)]) + calls + bytes([len(choices)]) + choices + material)
    print(", ".join("%s: %d seeds" % item for item in sorted(counts.items())))


if __name__ == "__main__":
    main()
