"""Hostile cases by hand: what ours, gpgv, Sequoia and sstream-query say of each, as a table in Markdown."""
import base64
import json
import os
import re
import shutil
import subprocess

from run import NOW, graft, succeeds

BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----\n"
BLOCK = b"-----BEGIN PGP SIGNATURE-----\n"
LIST = "streams/v1/images"
INDEX = "streams/v1/index"


class Trees:
    """Trees of one image, signed as python-simplestreams signs them."""

    def __init__(self, options, keys):
        self.cli, self.keys, self.count = options.cli, keys, 0
        self.ring = keys.write("owner.ring", keys.make("list", "rsa2048"))
        keys.make("stranger", "ed25519")
        self.plain = keys.path("plain")
        self.build(self.plain, "one")

    def run(self, *words):
        environment = dict(self.keys.environment, LXD_IMAGE_STORE=self.keys.path("store"), LXD_IMAGE_CONFIG=self.keys.path("config"), SOURCE_DATE_EPOCH="1700000000")
        subprocess.run([self.cli, *words], env=environment, check=True, capture_output=True)

    def build(self, tree, content):
        root = self.keys.path("root-" + content)
        os.makedirs(root)
        with open(os.path.join(root, "file"), "w") as sink:
            sink.write(content)
        image = self.keys.path(content + ".tar")
        self.run("pack", root, image, "--architecture", "amd64", "--compression", "none", "--property", "os=Box", "--property", "release=1")
        self.run("simplestreams", "add", tree, image, "--alias", "box")

    def copy(self):
        self.count += 1
        tree = self.keys.path("tree-%d" % self.count)
        shutil.copytree(self.plain, tree)
        return tree

    def sign(self, tree, by="list", *options, at=None, documents=(LIST, INDEX)):
        for name in documents:
            text = read(tree, name + ".json")
            write(tree, name + ".sjson", self.keys.sign(by, text.replace(b'images.json"', b'images.sjson"'), "--clearsign", *options, at=at))
        return tree

    def signed(self, *options, **more):
        return self.sign(self.copy(), *options, **more)


def read(tree, name):
    with open(os.path.join(tree, name), "rb") as source:
        return source.read()


def write(tree, name, data):
    with open(os.path.join(tree, name), "wb") as sink:
        sink.write(data)


def changed_text(message):
    return message.replace(b'"image-downloads"', b'"image-downloadz"', 1)


def after(line, added):
    return lambda message: message.replace(line, line + added, 1)


def messages(trees):
    """Changes of a signed list: a name, whether it is to be accepted, and the change."""
    foreign = read(trees.signed("stranger"), LIST + ".sjson")

    def nested(message):
        head, _, rest = message.partition(b"\n\n")
        return BEGIN + head.split(b"\n", 1)[1] + b"\n\n" + message.replace(b"\n-", b"\n- -").replace(b"-----BEGIN", b"- -----BEGIN", 1) + message[message.index(BLOCK):]
    return [
        ("as it was signed", True, lambda m: m),
        ("text before the message", False, lambda m: b"{}\n" + m),
        ("text after the message", False, lambda m: m + b'{"products": {}}\n'),
        ("blank line before", False, lambda m: b"\n" + m),
        ("blank line after", False, lambda m: m + b"\n"),
        ("two messages", False, lambda m: m + m),
        ("a second message by a stranger", False, lambda m: m + foreign),
        ("a message in a message", False, nested),
        ("changed text", False, changed_text),
        ("a line added", False, lambda m: m.replace(b'  "datatype"', b'  "evil": 1,\n  "datatype"', 1)),
        ("an escaped end of the text inside", False, lambda m: m.replace(b"\n}\n", b"\n}\n- " + BLOCK, 1)),
        ("a dash without its escape", False, lambda m: m.replace(b"\n\n", b"\n\n-x\n", 1)),
        ("a line escaped without need", True, lambda m: m.replace(b'\n  "datatype"', b'\n-   "datatype"', 1)),
        ("an escape that is doubled", False, lambda m: m.replace(b'\n  "datatype"', b'\n- - "datatype"', 1)),
        ("blanks at ends of lines", True, lambda m: m.replace(b"{\n", b"{ \t\n", 3)),
        ("other blanks at ends of lines (VT, NBSP)", False, lambda m: m.replace(b"{\n", b"{\x0b\xc2\xa0\n", 1)),
        ("CRLF", False, lambda m: m.replace(b"\n", b"\r\n")),
        ("a carriage return inside a line", False, lambda m: m.replace(b"{\n", b"{\r{\n", 1)),
        ("charset header in the message", False, after(BEGIN, b"Charset: UTF-16\n")),
        ("charset header in the signature", False, after(BLOCK, b"Charset: UTF-16\n")),
        ("`NotDashEscaped` header", False, after(BEGIN, b"NotDashEscaped: You need GnuPG\n")),
        ("no `Hash` header", False, lambda m: re.sub(rb"Hash: .*\n", b"", m, count=1)),
        ("`Hash` header of another digest", False, lambda m: re.sub(rb"Hash: .*\n", b"Hash: SHA384\n", m, count=1)),
        ("JSON in a header", False, after(BEGIN, b'Hash: {"products": {}}\n')),
        ("byte order mark", False, lambda m: b"\xef\xbb\xbf" + m),
        ("only the text", False, lambda m: m[m.index(b"\n\n") + 2:m.index(BLOCK)]),
        ("half a signature", False, lambda m: m[:-60]),
        ("signed by a stranger", False, lambda m: foreign),
        ("the stranger's signature beside the owner's", True, lambda m: m[:m.index(BLOCK)] + joined(m, foreign)),
        ("the owner's signature over other text, the stranger's over this", False, lambda m: changed(foreign, m)),
    ]


def joined(one, other):
    from openpgp import armor, dearmor
    return armor(dearmor(one[one.index(BLOCK):]) + dearmor(other[other.index(BLOCK):]))


def changed(foreign, message):
    from openpgp import armor, dearmor
    both = dearmor(message[message.index(BLOCK):]) + dearmor(foreign[foreign.index(BLOCK):])
    text = foreign[:foreign.index(BLOCK)].replace(b'"image-downloads"', b'"image-downloadz"', 1)
    return text + armor(both)


def matrix(options, keys, ours):
    trees = Trees(options, keys)
    query = os.environ.get("SSTREAM_QUERY")
    rows, wrong = [], []

    def sstream(tree, ring):
        if not query:
            return None
        done = subprocess.run([query, "--keyring", ring, "--output-format=%(sha256)s", "file://%s/%s.sjson" % (tree, INDEX)], env=keys.environment, capture_output=True, check=False)
        # It may succeed with an empty list.
        return done.returncode == 0 and bool(done.stdout.strip())

    def note(group, name, good, answer, *others):
        accepted = answer.startswith("accept")
        if accepted != good:
            wrong.append("%s: %s" % (name, answer))
        if accepted and others and not any(others):
            wrong.append("%s: accepted by us alone" % name)
        rows.append((group, name, accepted, *(others + (None,) * (3 - len(others)))))

    def judge(group, name, good, tree, ring=None, document=LIST, answer=None):
        ring = ring or trees.ring
        message = os.path.join(tree, document + ".sjson")
        theirs = succeeds(["gpgv", "--keyring", ring, message], keys), succeeds(["sq", "verify", "--signer-cert", ring, message], keys)
        note(group, name, good, answer or ours.ask("tree", ring, tree), *theirs, sstream(tree, ring))

    for name, good, change in messages(trees):
        tree = trees.signed()
        write(tree, LIST + ".sjson", change(read(tree, LIST + ".sjson")))
        judge("message", name, good, tree)

    # Keys.
    def by(name, algorithm, *options, usage="sign,cert", expires="never", at=None, ring=None, change=None, good=False, title):
        keys.make(name, algorithm, usage, expires)
        tree = trees.signed(name, *options, at=at)
        if change:
            change()
        judge("key", title, good, tree, keys.write(name + ".ring", ring() if ring else keys.public(name)))
    by("expired", "ed25519", expires="seconds=200000", at=NOW - 300000, title="key that has expired since")
    by("expiring", "ed25519", "--default-sig-expire", "seconds=100", at=NOW - 50000, title="signature that has expired")
    by("future", "ed25519", at=NOW + 300000, title="signature of the future")

    def revoke():
        with open(keys.path("openpgp-revocs.d/%s.rev" % keys.fingerprints("revoked")[0]), "rb") as source:
            keys.gpg("--import", data=source.read().replace(b":-----BEGIN", b"-----BEGIN"))
    by("revoked", "ed25519", change=revoke, title="key that was revoked since")
    by("usage", "rsa2048", change=lambda: keys.gpg("--expert", "--edit-key", "usage@example", data=b"change-usage\nS\nQ\nsave\n", batch=False), title="key that may only certify")
    by("sha1", "rsa2048", "--digest-algo", "SHA1", title="SHA-1")
    by("short", "rsa1024", title="RSA with 1024 bits")
    by("dsa", "dsa2048", title="DSA")
    keys.make("builder", "ed25519", "cert")
    keys.gpg("--quick-add-key", keys.fingerprints("builder")[0], "ed25519", "sign", "never", at=NOW - 390000)
    with_subkey = keys.public("builder")
    tree = trees.signed("builder")
    judge("key", "signing subkey", True, tree, keys.write("builder.ring", with_subkey))
    keys.make("thief", "ed25519")
    judge("key", "subkey of another certificate", False, tree, keys.write("thief.ring", graft(keys.public("thief"), with_subkey)))
    judge("key", "unknown key", False, tree)

    # Trees.
    judge("tree", "signed in both places", True, trees.signed())
    tree = trees.signed()
    os.remove(os.path.join(tree, INDEX + ".sjson"))
    judge("tree", "index without a signature, products with one", False, tree)
    tree = trees.copy()
    write(tree, INDEX + ".sjson", keys.sign("list", read(tree, INDEX + ".json"), "--clearsign"))
    write(tree, LIST + ".sjson", b"")
    judge("tree", "signed index that names a list without a signature", False, tree, document=INDEX)
    tree = trees.signed()
    write(tree, LIST + ".sjson", read(tree, INDEX + ".sjson"))
    judge("tree", "the signed index in the place of the list", False, tree)
    # Old and new: the same owner signed both.
    old, record = trees.signed(at=NOW - 20000), keys.path("record.json")
    assert ours.ask("tree", trees.ring, old, record).startswith("accept")
    new = trees.copy()
    trees.build(new, "two")
    trees.sign(new, documents=(LIST, INDEX))
    for name in (LIST, INDEX):
        # The two images may have been listed within a second.
        text = re.sub(rb'"updated": "[^"]*"', b'"updated": "Mon, 01 Jan 2035 00:00:00 +0000"', read(new, name + ".json"))
        write(new, name + ".json", text)
    trees.sign(new)
    judge("tree", "the newer lists", True, new, answer=ours.ask("tree", trees.ring, new, record))
    judge("tree", "the older lists again (roll-back)", False, old, answer=ours.ask("tree", trees.ring, old, record))
    mixed = trees.copy()
    shutil.rmtree(mixed)
    shutil.copytree(new, mixed)
    write(mixed, LIST + ".sjson", read(old, LIST + ".sjson"))
    judge("tree", "the older products under the newer index (mix and match)", False, mixed, answer=ours.ask("tree", trees.ring, mixed, record))
    tree = trees.signed()
    note("tree", "image of a signed list", True, ours.ask("image", trees.ring, tree, "box"))
    for folder, _, files in os.walk(os.path.join(tree, "images")):
        for name in files:
            data = read(folder, name)
            write(folder, name, data[:600] + b"evil" + data[604:])
    note("tree", "signed list whose image has other bytes", False, ours.ask("image", trees.ring, tree, "box"))
    # A signature beside the document.
    tree = trees.copy()
    for name in (LIST, INDEX):
        write(tree, name + ".json.gpg", keys.sign("list", read(tree, name + ".json"), "--detach-sign", "--armor"))
    beside = lambda name: [os.path.join(tree, name + ".json.gpg"), os.path.join(tree, name + ".json")]  # noqa: E731
    detached = lambda name: (succeeds(["gpgv", "--keyring", trees.ring, *beside(name)], keys), succeeds(["sqv", "--keyring", trees.ring, *beside(name)], keys))  # noqa: E731
    note("beside", "signatures beside the documents", True, ours.ask("tree", trees.ring, tree), *detached(LIST))
    write(tree, LIST + ".json.gpg", read(tree, INDEX + ".json.gpg"))
    note("beside", "the signature of the index beside the list", False, ours.ask("tree", trees.ring, tree), *detached(LIST))
    write(tree, LIST + ".json.gpg", keys.sign("list", read(tree, LIST + ".json"), "--clearsign"))
    note("beside", "a signed message in the place of the signature", False, ours.ask("tree", trees.ring, tree), *detached(LIST))

    # Statements.
    key = keys.path("statement.key")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", key + ".pub"], check=True, capture_output=True)
    fingerprint = "0" * 63 + "1"

    def statement(name, good, payload=None, payload_type="application/vnd.in-toto+json", signed_type=None, change=lambda envelope: envelope, about=fingerprint):
        payload = payload or json.dumps({"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": "lxd-image-fingerprint", "digest": {"sha256": about}}],
                                         "predicateType": "https://example.com/v1", "predicate": {}}).encode()
        signed = signed_type or payload_type
        encoded = b"DSSEv1 %d %s %d %s" % (len(signed), signed.encode(), len(payload), payload)
        keys.write("pae", encoded)
        subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-in", keys.path("pae"), "-inkey", key, "-out", keys.path("sig")], check=True, capture_output=True)
        text = json.dumps({"payloadType": payload_type, "payload": base64.b64encode(payload).decode(), "signatures": [{"keyid": "", "sig": base64.b64encode(read(keys.home, "sig")).decode()}]})
        note("statement", name, good, ours.ask("statement", key + ".pub", keys.write("envelope", change(text).encode()), fingerprint))
    statement("statement about this image", True)
    statement("statement about another fingerprint", False, about="0" * 63 + "2")
    statement("envelope with another payload type than was signed", False, signed_type="application/json")
    statement("envelope with two payload types", False, change=lambda text: text.replace('{"payloadType"', '{"payloadType": "text/plain", "payloadType"', 1))
    statement("envelope of another payload type", False, payload_type="application/json")
    statement("envelope with two payloads", False, change=lambda text: text.replace('"payload":', '"payload": "e30=", "payload":', 1))
    statement("two subjects with the name of the fingerprint", False, payload=json.dumps({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://example.com/v1", "predicate": {},
        "subject": [{"name": "lxd-image-fingerprint", "digest": {"sha256": digest}} for digest in ("0" * 63 + "2", fingerprint)]}).encode())
    statement("signature over the payload alone", False, change=lambda text: resigned(text, keys, key))
    ours.close()

    verdict = lambda value: "–" if value is None else "accepted" if value else "refused"  # noqa: E731
    print("| case | ours | gpgv | Sequoia | sstream-query |\n|---|---|---|---|---|")
    for _, name, *verdicts in rows:
        print("| %s | %s |" % (name, " | ".join(map(verdict, verdicts))))
    for text in wrong:
        print("FINDING:", text)
    alone = [row for row in rows if row[2] and any(value is False for value in row[3:])]
    print("\n%d cases, %d wrongly judged; accepted by us and refused by one of the others: %s" % (len(rows), len(wrong), "; ".join(row[1] for row in alone) or "none"))
    return 1 if wrong or ours.crashes else 0


def resigned(text, keys, key):
    envelope = json.loads(text)
    keys.write("pae", base64.b64decode(envelope["payload"]))
    subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-in", keys.path("pae"), "-inkey", key, "-out", keys.path("sig")], check=True, capture_output=True)
    envelope["signatures"][0]["sig"] = base64.b64encode(read(keys.home, "sig")).decode()
    return json.dumps(envelope)
