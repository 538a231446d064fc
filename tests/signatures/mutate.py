"""Changes to signed messages and signatures, chosen by a seeded generator. Each has a name, by which disagreements are counted."""
import base64

from openpgp import STYLES, Signature, armor, dearmor, packet, packets, subpacket

BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
BLOCK = b"-----BEGIN PGP SIGNATURE-----"
END = b"-----END PGP SIGNATURE-----"
BLANKS = [b" ", b"\t", b"\r", b"\x0b", b"\x0c", b"\x00", b"\xc2\xa0", b"\xe2\x80\x8b", b"\xff", b" \t "]
LINES = [
    b"", b" ", b"\r", b"{}", b'{"index": {}}', b"- ", b"-", b"--", b"- - dash", b"- " + BEGIN, BEGIN, b"- " + BLOCK, BLOCK, END, b"- " + END,
    b"Hash: SHA512", b"Hash: SHA256", b"Hash: SHA1", b"Hash: MD5", b"Hash: SHA512, SHA256", b"Hash:SHA512", b"hash: SHA512", b"Hash: ",
    b"Charset: UTF-8", b"Charset: UTF-16", b"NotDashEscaped: You need GnuPG", b"Comment: x", b"Version: GnuPG v2", b"Evil: {}", b"SaltedHash: SHA512:AAAA",
    b"-----BEGIN PGP MESSAGE-----", b"-----BEGIN PGP SIGNED MESSAGE----- ", b"-----BEGIN PGP SIGNATURE----- ", b"-----END PGP SIGNATURE----- ",
    b"=AAAA", b"=twTO", b"AAAA", b"From someone", b"\xef\xbb\xbf", b"#", b"\x1a", b"x" * 20000,
]


def some(random, items):
    return items[random.randrange(len(items))]


# ---- bytes -----------------------------------------------------------------------------------------------------------
def flip(random, data, _):
    at = random.randrange(len(data)) if data else 0
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1:] if data else b"x"


def byte(random, data, _):
    at = random.randrange(len(data) + 1)
    return data[:at] + bytes([random.randrange(256)]) + data[at + 1:]


def insert(random, data, _):
    at = random.randrange(len(data) + 1)
    return data[:at] + some(random, BLANKS + [b"\n", b"\n\n", b"-", b"=", b"\x80", b"A"]) + data[at:]


def cut(random, data, _):
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at + random.choice([1, 1, 2, 8, 64, 10**6]):]


def copied(random, data, _):
    start = random.randrange(len(data) + 1)
    part = data[start:start + random.choice([1, 4, 40, 400])]
    at = random.randrange(len(data) + 1)
    return data[:at] + part + data[at:]


# ---- lines -----------------------------------------------------------------------------------------------------------
def of_lines(change):
    def changed(random, data, base):
        lines = data.split(b"\n")
        result = change(random, lines, base)
        return b"\n".join(lines if result is None else result)
    changed.__name__ = change.__name__
    return changed


@of_lines
def line_added(random, lines, _):
    lines.insert(random.randrange(len(lines) + 1), some(random, LINES))


@of_lines
def line_added_early(random, lines, _):
    lines.insert(random.randrange(min(4, len(lines) + 1)), some(random, LINES))


@of_lines
def line_removed(random, lines, _):
    del lines[random.randrange(len(lines))]


@of_lines
def line_doubled(random, lines, _):
    at = random.randrange(len(lines))
    lines.insert(at, lines[at])


@of_lines
def lines_swapped(random, lines, _):
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]


@of_lines
def blank_at_end(random, lines, _):
    at = random.randrange(len(lines))
    lines[at] += some(random, BLANKS)


@of_lines
def blank_at_start(random, lines, _):
    at = random.randrange(len(lines))
    lines[at] = some(random, BLANKS) + lines[at]


@of_lines
def blanks_removed(_, lines, __):
    return [line.rstrip() for line in lines]


@of_lines
def escape_added(random, lines, _):
    at = random.randrange(len(lines))
    lines[at] = random.choice([b"- ", b"-", b"-\t"]) + lines[at]


@of_lines
def escape_removed(random, lines, _):
    escaped = [at for at, line in enumerate(lines) if line.startswith(b"- ")]
    if escaped:
        at = some(random, escaped)
        lines[at] = lines[at][random.choice([1, 2]):]


@of_lines
def line_split(random, lines, _):
    at = random.randrange(len(lines))
    place = random.randrange(len(lines[at]) + 1)
    lines[at:at + 1] = [lines[at][:place], lines[at][place:]]


@of_lines
def lines_joined(random, lines, _):
    if len(lines) > 1:
        at = random.randrange(len(lines) - 1)
        lines[at:at + 2] = [lines[at] + lines[at + 1]]


def line_ends(random, data, _):
    return data.replace(b"\n", random.choice([b"\r\n", b"\r", b"\n\n", b"\n\r"]))


def around(random, data, base):
    extra = random.choice([b"\n", b"{}\n", b" ", b"\x00", b"\xef\xbb\xbf", BEGIN + b"\n", base["other"], data])
    return extra + data if random.random() < 0.5 else data + extra


def last_line_end(random, data, _):
    return data.rstrip(b"\n") + random.choice([b"", b"\n\n", b"\r\n", b" ", b"\n \n", b"\x00"])


def digit(random, data, _):
    places = [at for at, value in enumerate(data) if 0x30 <= value <= 0x39]
    if not places:
        return data + b"1"
    at = some(random, places)
    return data[:at] + bytes([0x30 + (data[at] - 0x30 + 1) % 10]) + data[at + 1:]


def headers(random, data, _):
    head, gap, rest = data.partition(b"\n\n")
    lines = head.split(b"\n")
    lines[1:] = [some(random, LINES) if random.random() < 0.5 else line for line in lines[1:] for _ in range(random.randrange(3))]
    return b"\n".join(lines) + gap + rest


def signature_of_another(random, data, base):
    """The text of one message with the signature of another one."""
    other = some(random, base["others"])
    if BLOCK not in data or BLOCK not in other:
        return data
    return data[:data.index(BLOCK)] + other[other.index(BLOCK):]


def block_added(random, data, base):
    other = some(random, base["others"])
    block = other[other.index(BLOCK):] if BLOCK in other else b""
    return data + block if random.random() < 0.5 else data.replace(BLOCK, block + BLOCK, 1)


# ---- armor and packets -----------------------------------------------------------------------------------------------
def on_block(change):
    """A change of the signature's bytes, wherever they are: after a text, or in a file of their own."""
    def changed(random, data, base):
        at = data.find(BLOCK)
        if at < 0:
            return change(random, data, base) if data[:1] and data[0] & 0x80 else data
        raw = dearmor(data[at:])
        return data if raw is None else data[:at] + armor(change(random, raw, base))
    changed.__name__ = change.__name__
    return changed


def armored_again(random, data, _):
    at = data.find(BLOCK)
    raw = dearmor(data[at:]) if at >= 0 else data
    if raw is None:
        return data
    crc = random.choice([True, True, False, b"AAAA", b"AAA", b"AAAAA"])
    extra = [some(random, LINES) for _ in range(random.choice([0, 0, 1, 2]))]
    label = random.choice([b"SIGNATURE"] * 5 + [b"MESSAGE", b"PUBLIC KEY BLOCK", b"ARMORED FILE", b"SIGNATURE "])
    block = armor(raw, label, extra, random.choice([4, 60, 64, 76, 77, 100, 10**6, 63]), crc)
    return data[:max(at, 0)] + block


def padding(random, data, _):
    at = data.find(BLOCK)
    if at < 0:
        return data
    block = data[at:]
    return data[:at] + random.choice([block.replace(b"=", b"", 1), block.replace(b"=", b"==", 1), block.replace(b"\n=", b"=\n=", 1), block.replace(b"\n\n", b"\n", 1),
                                      block.replace(b"\n\n", b"\n \n", 1), block.replace(b"\n\n", b"\n\n\n", 1), block.replace(b"A", b"A\n", 1), block.replace(b"+", b"-")])


@on_block
def raw_flipped(random, raw, base):
    return flip(random, raw, base)


@on_block
def raw_cut(random, raw, base):
    return cut(random, raw, base)


@on_block
def raw_byte_added(random, raw, base):
    return insert(random, raw, base)


@on_block
def written_otherwise(random, raw, _):
    return b"".join(packet(tag, body, some(random, STYLES)) for tag, body in packets(raw))


@on_block
def packet_added(random, raw, base):
    found = packets(raw)
    other = dearmor(some(random, base["others"])[some(random, base["others"]).find(BLOCK):]) or b""
    extra = random.choice([(10, b"PGP"), (12, b"\x3c"), (21, b"\x00" * 8), (11, b"b\x00\x00\x00\x00\x00{}"), (8, b"\x00" + raw), (4, b"\x03\x01\x0a\x01" + b"\x00" * 8 + b"\x01"),
                           (2, b"\x03" + raw[1:]), (2, b""), (2, b"\x04"), (60, b"x"), (0, b"x"), *packets(raw), *packets(other)])
    found.insert(random.randrange(len(found) + 1), extra)
    return b"".join(packet(tag, body) for tag, body in found)


@on_block
def packets_reordered(random, raw, _):
    found = packets(raw)
    random.shuffle(found)
    return b"".join(packet(tag, body) for tag, body in found + (found[:1] if random.random() < 0.5 else []))


def on_signature(change):
    """A change of one signature packet of version 4."""
    @on_block
    def changed(random, raw, base):
        found = packets(raw)
        places = [at for at, (tag, body) in enumerate(found) if tag == 2 and body[:1] == b"\x04"]
        if not places:
            return raw
        at = some(random, places)
        try:
            signature = Signature(found[at][1])
        except (ValueError, IndexError):
            return raw
        change(random, signature, base)
        found[at] = (2, signature.body())
        return b"".join(packet(tag, body) for tag, body in found)
    changed.__name__ = change.__name__
    return changed


@on_signature
def head(random, signature, _):
    at = random.randrange(4)
    values = {0: [2, 3, 5, 6], 1: [0, 1, 2, 0x10, 0x13, 0x18, 0x20, 0x40, 0x50], 2: [1, 3, 16, 17, 19, 22, 27], 3: [1, 2, 3, 8, 9, 10, 11, 12, 14, 0]}
    signature.head[at] = some(random, values[at])


def extra_subpacket(random, base):
    critical = random.random() < 0.5
    issuer = base.get("issuer", bytes(20))
    return random.choice([
        subpacket(2, (1700000000).to_bytes(4, "big"), critical), subpacket(3, (1).to_bytes(4, "big"), critical), subpacket(3, bytes(4), critical), subpacket(4, b"\x00", critical),
        subpacket(9, (1).to_bytes(4, "big"), critical), subpacket(16, issuer[-8:], critical), subpacket(16, b"\x11" * 8, critical), subpacket(33, b"\x04" + issuer, critical),
        subpacket(33, b"\x04" + b"\x22" * 20, critical), subpacket(20, b"\x80\x00\x00\x00\x00\x03\x00\x01a@bc", critical), subpacket(26, b"http://x", critical), subpacket(27, b"\x00", critical),
        subpacket(28, b"x@y", critical), subpacket(29, b"\x00", critical), subpacket(32, b"\x04\x00", critical), subpacket(100, b"x", critical), subpacket(50, b"x", critical),
        subpacket(30, b"\x01", critical), subpacket(35, b"\x04" + issuer, critical), b"\x00", b"\xff\xff\xff\xff\xff"])


@on_signature
def unhashed_added(random, signature, base):
    signature.unhashed.insert(random.randrange(len(signature.unhashed) + 1), extra_subpacket(random, base))


@on_signature
def unhashed_replaced(random, signature, base):
    signature.unhashed[:] = [extra_subpacket(random, base) for _ in range(random.randrange(3))]


@on_signature
def hashed_changed(random, signature, base):
    kind = random.randrange(4)
    if kind == 0 or not signature.hashed:
        signature.hashed.append(extra_subpacket(random, base))
    elif kind == 1:
        signature.hashed.pop(random.randrange(len(signature.hashed)))
    elif kind == 2:
        random.shuffle(signature.hashed)
    else:
        signature.unhashed.append(signature.hashed.pop())


@on_signature
def numbers(random, signature, _):
    tail = signature.tail
    change = random.randrange(6)
    if change == 0 and tail:
        tail[random.randrange(len(tail))] ^= 1 << random.randrange(8)
    elif change == 1:
        tail[0:2] = bytes(2)
    elif change == 2 and len(tail) > 4:
        # The same number with a leading zero byte, or with a bit count that is too large.
        bits = int.from_bytes(tail[2:4], "big")
        tail[2:4] = (bits + random.choice([1, 7, 8])).to_bytes(2, "big")
        if random.random() < 0.5:
            tail[4:4] = b"\x00"
    elif change == 3:
        tail.extend(random.choice([b"\x00", b"\x00\x00", b"\x00\x01\x01", b"junk"]))
    elif change == 4:
        del tail[len(tail) // 2:]
    else:
        tail[2:] = bytes(max(len(tail) - 2, 0))


BYTES = [flip, byte, insert, cut, copied]
TEXT = [line_added, line_added_early, line_removed, line_doubled, lines_swapped, blank_at_end, blank_at_start, blanks_removed, escape_added, escape_removed, line_split, lines_joined,
        line_ends, around, last_line_end, digit, headers, signature_of_another, block_added]
PACKETS = [armored_again, padding, raw_flipped, raw_cut, raw_byte_added, written_otherwise, packet_added, packets_reordered, head, unhashed_added, unhashed_replaced, hashed_changed, numbers]
FILES = [line_added, line_removed, line_doubled, lines_swapped, blank_at_end, line_ends, around, last_line_end, digit]


def minisign_line(random, data, _):
    """A change of the bytes in one of the two lines of base64."""
    lines = data.split(b"\n")
    at = random.choice([1, 3])
    if at >= len(lines):
        return data
    try:
        raw = base64.b64decode(lines[at])
    except ValueError:
        return data
    lines[at] = base64.b64encode(random.choice([flip, byte, cut, copied])(random, raw, None))
    return b"\n".join(lines)


def mutate(random, base):
    """A changed copy of a case: names of the changes, signed bytes, and the document beside them."""
    signed, document, names = base["signed"], base["document"], []
    for _ in range(random.choice([1, 1, 1, 2, 2, 3])):
        if document is not None and random.random() < 0.15:
            change = some(random, BYTES + FILES)
            document = change(random, document, base)
            names.append("document " + change.__name__)
            continue
        if base["kind"] == "minisign":
            change = some(random, BYTES + FILES + [minisign_line] * 6)
        elif base["kind"] == "message":
            change = some(random, BYTES + TEXT * 2 + PACKETS * 2)
        else:
            change = some(random, BYTES + FILES + PACKETS * 3)
        signed = change(random, signed, base)
        names.append(change.__name__)
    return names, signed, document
