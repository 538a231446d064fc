#!/usr/bin/env python3
"""run.py: compares our verdicts on signed lists with those of gpgv, sqv, sq, minisign and sstream-query.

    run.py --verdicts PROGRAM [--rounds N] [--seed N]         changed messages and signatures, N of them
    run.py --verdicts PROGRAM --matrix --cli lxd-image        hostile cases by hand, as a table

PROGRAM is the example `signature_verdicts` of this package. Keys of many kinds are made by gpg and sq in a directory of their own, which is removed in the end.

Findings, any of which makes the exit status 1:
  accepted alone      we accept what both gpgv and Sequoia refuse (minisign: what it refuses). Of cases that one of them refuses
                      unchanged (gpgv: a second, unknown signer; Sequoia: self-signatures by SHA-1) its refusal says nothing about the
                      change, and a crash is no refusal: those are counted apart
  other text          we accept, and hand out a text that nobody signed
  crash               the program ended
Where we refuse what others accept, that is told by reason: we are stricter on purpose (TRUST.md, "Signed lists").
"""
import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from mutate import mutate  # noqa: E402
from openpgp import packet, packets  # noqa: E402

TEXTS = [
    b'{\n  "format": "index:1.0",\n- dash\n  "index": {}\n}\n',
    b'{"a": 1}  \n\t\n-----BEGIN PGP SIGNATURE-----\n\n- - x\n  "b": 22 \t\nFrom me\n\n\n',
    "{\n  \"caf\u00e9\": \"\u20ac 12\"\n}".encode(),
]
NOW = int(time.time())
EARLY = NOW - 400000


class Keys:
    """A home of GnuPG with keys in all states. Its path is short, since the agent's socket is in it."""

    def __init__(self):
        self.home = tempfile.mkdtemp(prefix="lxi-sig-", dir="/tmp")
        self.environment = dict(os.environ, GNUPGHOME=self.home, LC_ALL="C.UTF-8")

    def close(self):
        subprocess.run(["gpgconf", "--kill", "all"], env=self.environment, check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.home, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as sink:
            sink.write(data)
        return self.path(name)

    def gpg(self, *words, data=b"", at=None, batch=True):
        command = ["gpg", "--quiet", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]
        command += ["--batch"] if batch else ["--command-fd", "0"]
        command += ["--faked-system-time", str(at)] if at else []
        done = subprocess.run(command + list(words), input=data, env=self.environment, capture_output=True, check=False)
        if done.returncode:
            sys.exit("gpg %s: %s" % (" ".join(words), done.stderr.decode(errors="replace")))
        return done.stdout

    def make(self, name, algorithm, usage="sign,cert", expires="never", *options):
        self.gpg(*options, "--quick-gen-key", name + "@example", algorithm, usage, expires, at=EARLY)
        return self.public(name)

    def public(self, name):
        return self.gpg("--export", name + "@example")

    def fingerprints(self, name):
        listing = self.gpg("--with-colons", "--list-keys", name + "@example").decode()
        return [line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:")]

    def sign(self, name, text, form, *options, at=None):
        users = [word for one in name.split("+") for word in ("-u", one + "@example")]
        return self.gpg(*options, *users, form, data=text, at=at)


def graft(certificate, other):
    """A certificate with the subkeys of another one."""
    found = packets(other)
    first = next(at for at, (tag, _) in enumerate(found) if tag == 14)
    return certificate + b"".join(packet(tag, body) for tag, body in found[first:])


def bases(keys):
    """Signed texts, with the keyring that is asked. `good` tells what we should say of them unchanged."""
    made = []
    rings = {}

    def add(name, ring, signer, good, *options, at=None, texts=TEXTS[:1]):
        rings.setdefault(ring, keys.public(ring) if isinstance(ring, str) else ring)
        issuer = bytes.fromhex(keys.fingerprints(signer.split("+")[0])[-1])
        for text in texts:
            for form in ("--clearsign", "--detach-sign", "--detach-sign --armor"):
                signed = keys.sign(signer, text, form.split()[0], *options, *form.split()[1:], at=at)
                made.append(dict(name=name, kind="message" if form == "--clearsign" else "detached", ring=rings[ring], signed=signed,
                                 document=None if form == "--clearsign" else text, texts=[text], good=good, issuer=issuer))

    for algorithm in ("rsa2048", "ed25519", "nistp256"):
        keys.make(algorithm, algorithm)
        add(algorithm, algorithm, algorithm, True, texts=TEXTS)
    add("RSA with SHA-256", "rsa2048", "rsa2048", True, "--digest-algo", "SHA256")
    add("RSA with SHA-1", "rsa2048", "rsa2048", False, "--digest-algo", "SHA1")
    add("two signers", "rsa2048", "ed25519+rsa2048", True)
    add("another signer", "nistp256", "ed25519", False)
    keys.make("owner", "ed25519", "cert")
    keys.gpg("--quick-add-key", keys.fingerprints("owner")[0], "ed25519", "sign", "never", at=EARLY + 1000)
    keys.gpg("--quick-add-key", keys.fingerprints("owner")[0], "cv25519", "encr", "never", at=EARLY + 1000)
    with_subkey = keys.public("owner")
    add("subkey", "owner", "owner", True, texts=TEXTS[:2])
    keys.make("thief", "ed25519")
    add("stolen subkey", graft(keys.public("thief"), with_subkey), "owner", False)
    add("both rings", keys.public("rsa2048") + with_subkey, "owner", True)
    keys.make("expired", "ed25519", "sign,cert", "seconds=200000")
    add("expired key", "expired", "expired", False, at=NOW - 300000)
    keys.make("old", "ed25519")
    add("expired signature", "old", "old", False, "--default-sig-expire", "seconds=100", at=NOW - 50000)
    add("signature of the future", "old", "old", False, at=NOW + 300000)
    keys.make("weak-self", "rsa2048", "sign,cert", "never", "--cert-digest-algo", "SHA1")
    add("self-signature by SHA-1", "weak-self", "weak-self", True)
    for algorithm in ("rsa1024", "dsa2048"):
        keys.make(algorithm, algorithm)
        add(algorithm, algorithm, algorithm, False)

    # What is signed before the key loses its right.
    def after(name, change, expected=False):
        signed = [(form, keys.sign(name, TEXTS[0], form)) for form in ("--clearsign", "--detach-sign")]
        issuer = bytes.fromhex(keys.fingerprints(name)[-1])
        change()
        for form, data in signed:
            message = form == "--clearsign"
            made.append(dict(name=name, kind="message" if message else "detached", ring=keys.public(name), signed=data, document=None if message else TEXTS[0],
                             texts=TEXTS[:1], good=expected, issuer=issuer))

    def revoke():
        with open(keys.path("openpgp-revocs.d/%s.rev" % keys.fingerprints("revoked")[0]), "rb") as source:
            keys.gpg("--import", data=source.read().replace(b":-----BEGIN", b"-----BEGIN"))
    keys.make("revoked", "ed25519")
    after("revoked", revoke)
    keys.make("revoked-subkey", "ed25519", "cert")
    keys.gpg("--quick-add-key", keys.fingerprints("revoked-subkey")[0], "ed25519", "sign", "never", at=EARLY + 1000)
    after("revoked-subkey", lambda: keys.gpg("--edit-key", "revoked-subkey@example", data=b"key 1\nrevkey\ny\n0\n\ny\nsave\n", batch=False))
    keys.make("certify-only", "rsa2048")
    after("certify-only", lambda: keys.gpg("--expert", "--edit-key", "certify-only@example", data=b"change-usage\nS\nQ\nsave\n", batch=False))

    # Sequoia's own.
    def sq(*words):
        subprocess.run(["sq", *words], cwd=keys.home, env=keys.environment, check=True, capture_output=True)
    sq("key", "generate", "--userid", "s@example", "--creation-time", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(EARLY)), "--export", "sq.key")
    sq("key", "extract-cert", "--output", "sq.cert", "sq.key")
    keys.write("text", TEXTS[0])
    sq("sign", "--cleartext-signature", "--signer-key", "sq.key", "--output", "sq.message", "text")
    sq("sign", "--detached", "--signer-key", "sq.key", "--output", "sq.signature", "text")
    read = lambda name: open(keys.path(name), "rb").read()  # noqa: E731
    ring = keys.gpg("--dearmor", data=read("sq.cert"))
    for kind, name in (("message", "sq.message"), ("detached", "sq.signature")):
        made.append(dict(name="Sequoia", kind=kind, ring=ring, signed=read(name), document=None if kind == "message" else TEXTS[0], texts=TEXTS[:1], good=True))

    if shutil.which("minisign"):
        subprocess.run(["minisign", "-G", "-W", "-p", "k.pub", "-s", "k.sec"], cwd=keys.home, check=True, capture_output=True)
        for options in ([], ["-l"]):
            for text in TEXTS[:2]:
                keys.write("text", text)
                done = subprocess.run(["minisign", "-S", *options, "-s", "k.sec", "-m", "text"], cwd=keys.home, check=False, capture_output=True)
                if done.returncode == 0:
                    made.append(dict(name="minisign " + " ".join(options), kind="minisign", ring=read("k.pub"), signed=read("text.minisig"), document=text, texts=[text], good=True))
    messages = [base["signed"] for base in made if base["kind"] == "message"]
    signed = collections.defaultdict(set)
    for base in made:
        signed[base["ring"]].update(base["texts"] if base["good"] else ())
        if base["name"] == "both rings":
            signed[base["ring"]].update(TEXTS)
    for base in made:
        base["others"], base["other"], base["allowed"] = messages, messages[1], signed[base["ring"]]
    return made


class Verdicts:
    """Our program, started again if it ends."""

    def __init__(self, program):
        self.program, self.child, self.crashes = program, None, []
        self.lock = threading.Lock()

    def ask(self, *words):
        with self.lock:
            if self.child is None or self.child.poll() is not None:
                self.child = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.child.stdin.write(("\t".join(words) + "\n").encode())
            self.child.stdin.flush()
            answer = self.child.stdout.readline().decode(errors="replace").strip()
            if not answer:
                self.crashes.append((words, self.child.stderr.read().decode(errors="replace")[-400:]))
                self.child.wait()
            return answer

    def close(self):
        if self.child:
            self.child.stdin.close()
            self.child.wait()


def succeeds(command, keys):
    """What a program says of a case; `None` where it crashed (`sqv` 1.1 panics on a signature without an issuer), which is no verdict."""
    quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    status = subprocess.run(command, env=keys.environment, timeout=60, check=False, **quiet).returncode
    return None if status < 0 or status in (101, 134) else status == 0


def canonical(text):
    """What a signature in clear covers of a text: without blanks at the ends of lines, and with one line end at its end."""
    if text.endswith(b"\n"):
        text = text[:-1]
    return b"\n".join(line.rstrip(b" \t") for line in text.split(b"\n")) + b"\n"


def compare(base, signed, document, ours, keys, place):
    """The verdicts on one case: ours as it was told, gpgv's and Sequoia's (or minisign's, twice)."""
    ring, message = place("ring", base["ring"]), place("signed", signed)
    if base["kind"] == "message":
        answer = ours.ask("message", ring, message)
        others = succeeds(["gpgv", "--keyring", ring, message], keys), succeeds(["sq", "verify", "--signer-cert", ring, message], keys)
    else:
        text = place("document", document)
        if base["kind"] == "detached":
            answer = ours.ask("detached", ring, message, text)
            others = succeeds(["gpgv", "--keyring", ring, message, text], keys), succeeds(["sqv", "--keyring", ring, message, text], keys)
        else:
            answer = ours.ask("minisign", ring, message, text)
            theirs = succeeds(["minisign", "-V", "-q", "-p", ring, "-x", message, "-m", text], keys)
            others = theirs, theirs
    return answer, *others


def signed_text(base, answer, document):
    """Whether what we vouch for is a text that a key of the ring signed."""
    if base["kind"] == "message":
        return answer.split()[1] in [hashlib.sha256(canonical(text)).hexdigest() for text in base["allowed"]]
    return document in base["allowed"]


def differential(options, keys):
    made = bases(keys)
    ours = Verdicts(options.verdicts)
    failures, table, stricter, softer, apart = [], *(collections.Counter() for _ in range(4))
    samples = {}

    def place_in(directory):
        def place(name, data):
            path = os.path.join(directory, name)
            with open(path, "wb") as sink:
                sink.write(data)
            return path
        return place

    def judge(number, base, names, signed, document, directory):
        answer, gpgv, sequoia = compare(base, signed, document, ours, keys, place_in(directory))
        accepted = answer.startswith("accept")
        reason = "" if accepted else " ".join(answer.split()[1:])
        return number, base, names, signed, document, answer, accepted, gpgv, sequoia, reason

    def settle(result):
        number, base, names, signed, document, answer, accepted, gpgv, sequoia, reason = result
        kind = base["kind"]
        table[(kind, accepted, gpgv, sequoia)] += 1
        finding = None
        if not answer:
            finding = "crash"
        elif accepted and not gpgv and not sequoia:
            if base["witnessed"] and gpgv is not None and sequoia is not None:
                finding = "accepted alone"
            else:
                apart[(base["name"], names[0])] += 1
        elif accepted and not signed_text(base, answer, document):
            finding = "other text"
        if finding:
            failures.append((finding, kind, base["name"], names))
            if options.keep:
                with open(os.path.join(options.keep, "%d.json" % number), "w") as sink:
                    json.dump({"finding": finding, "base": base["name"], "names": names, "signed": signed.decode("latin-1"), "document": (document or b"").decode("latin-1"),
                               "ring": base["ring"].hex(), "answer": answer}, sink)
        if accepted and not (gpgv and sequoia):
            softer[(kind, "gpgv refuses" if not gpgv else "Sequoia refuses", base["name"], names[0] if names else "unchanged")] += 1
        if not accepted and gpgv and sequoia:
            # Names and numbers out of the sentence, so that the same reason is counted once.
            words = [word for word in reason.split() if not any(letter.isdigit() for letter in word)]
            stricter[(kind, " ".join(words)[:110])] += 1
            samples.setdefault((kind, " ".join(words)[:110]), (base["name"], names))

    started = time.monotonic()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="lxi-sig-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as work:
        jobs = [os.path.join(work, str(job)) for job in range(options.jobs)]
        for job in jobs:
            os.mkdir(job)
        for base in made:
            result = judge(-1, base, [], base["signed"], base["document"], jobs[0])
            base["witnessed"] = result[7] and result[8] or not result[6]
            settle(result)
            if result[6] != base["good"]:
                wrong.append("%s (%s): %s" % (base["name"], base["kind"], result[5]))
        # Each job has its own part of the cases, so that the same seed gives the same cases.
        cases = []
        for number in range(options.rounds):
            generator = random.Random("%d %d" % (options.seed, number))
            base = made[generator.randrange(len(made))]
            cases.append((number, base, *mutate(generator, base)))
        free = list(jobs)
        lock = threading.Lock()

        def run(case):
            with lock:
                directory = free.pop()
            try:
                return judge(*case, directory)
            finally:
                with lock:
                    free.append(directory)
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for result in pool.map(run, cases):
                settle(result)
    ours.close()
    seconds = time.monotonic() - started
    yes = lambda value: "crashes" if value is None else "accepts" if value else "refuses"  # noqa: E731
    print("%d unchanged and %d changed cases in %.0f s, seed %d" % (len(made), options.rounds, seconds, options.seed))
    print("%-9s %-8s %-8s %-8s %7s" % ("kind", "ours", "gpgv", "Sequoia", "cases"))
    for (kind, accepted, gpgv, sequoia), count in sorted(table.items(), key=str):
        print("%-9s %-8s %-8s %-8s %7d" % (kind, yes(accepted), yes(gpgv), yes(sequoia), count))
    if options.verbose:
        print("\nrefused by us alone, by reason:")
        for key, count in stricter.most_common(60):
            print("%6d %-9s %s   e.g. %s" % (count, *key, samples[key]))
        print("\naccepted by us and one of the others:")
        for key, count in softer.most_common(60):
            print("%6d %s" % (count, "  ".join(key)))
    print("accepted by us, and by neither of the others, one of which crashed or refuses the case unchanged: %d" % sum(apart.values()))
    for key, count in apart.most_common():
        print("%6d %s" % (count, "  ".join(key)))
    for text in wrong:
        print("UNCHANGED CASE JUDGED WRONGLY:", text)
    for failure, count in collections.Counter((f[0], f[1], f[2], " ".join(f[3])) for f in failures).most_common(40):
        print("FINDING:", *failure, "x%d" % count)
    for crash in ours.crashes[:5]:
        print("CRASH:", crash)
    print("findings: %d" % (len(failures) + len(wrong)))
    return 1 if failures or wrong or ours.crashes else 0


def main():
    parser = argparse.ArgumentParser(description="Compare our verdicts on signed lists with those of other programs.")
    parser.add_argument("--verdicts", required=True, help="the example `signature_verdicts`")
    parser.add_argument("--rounds", type=int, default=300, help="how many changed cases (default: 300)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--keep", help="a directory for the cases with findings")
    parser.add_argument("--verbose", action="store_true", help="tell where the programs disagree")
    parser.add_argument("--matrix", action="store_true", help="the hostile cases by hand, as a table, instead of changed ones")
    parser.add_argument("--cli", help="lxd-image, for --matrix")
    options = parser.parse_args()
    keys = Keys()
    try:
        if options.matrix:
            from matrix import matrix
            return matrix(options, keys, Verdicts(options.verdicts))
        return differential(options, keys)
    finally:
        keys.close()


if __name__ == "__main__":
    sys.exit(main())
