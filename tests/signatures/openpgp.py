"""The bytes of OpenPGP and minisign: armor, packets and subpackets, taken apart and put together, well or badly."""
import base64


def crc24(data):
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc & 0xFFFFFF


def armor(data, label=b"SIGNATURE", headers=(), width=64, checksum=True):
    """An armored block; `checksum` may also be the 4 letters of one."""
    text = base64.b64encode(data)
    lines = [text[at:at + width] for at in range(0, len(text), width)]
    if checksum is True:
        checksum = base64.b64encode(crc24(data).to_bytes(3, "big"))
    if checksum:
        lines.append(b"=" + checksum)
    return b"\n".join([b"-----BEGIN PGP " + label + b"-----", *headers, b"", *lines, b"-----END PGP " + label + b"-----", b""])


def dearmor(text):
    """The bytes of a block; `None` for what is none."""
    head, _, rest = text.partition(b"\n\n")
    if not head.lstrip().startswith(b"-----BEGIN PGP "):
        return None
    body = rest.split(b"-----END")[0]
    lines = [line for line in body.split(b"\n") if line and not line.startswith(b"=")]
    try:
        return base64.b64decode(b"".join(lines))
    except ValueError:
        return None


def packets(data):
    """The packets as pairs of tag and body; what can't be read ends the list."""
    found, at = [], 0
    while at < len(data) and data[at] & 0x80:
        first = data[at]
        at += 1
        if first & 0x40:
            tag = first & 0x3F
            if at >= len(data):
                break
            length = data[at]
            at += 1
            if length >= 224 and length < 255 or length >= 192 and at + 4 > len(data):
                break
            if length == 255:
                length = int.from_bytes(data[at:at + 4], "big")
                at += 4
            elif length >= 192:
                length = ((length - 192) << 8) + data[at] + 192
                at += 1
        else:
            tag, size = (first >> 2) & 0x0F, (1, 2, 4, 0)[first & 3]
            length = int.from_bytes(data[at:at + size], "big") if size else len(data) - at
            at += size
        found.append((tag, data[at:at + length]))
        at += length
    return found


def packet(tag, body, style="old"):
    """A packet with the length written in one of the ways that there are."""
    length = len(body)
    if style == "old" and tag < 16:
        if length < 256:
            return bytes([0x80 | tag << 2, length]) + body
        if length < 65536:
            return bytes([0x81 | tag << 2]) + length.to_bytes(2, "big") + body
        return bytes([0x82 | tag << 2]) + length.to_bytes(4, "big") + body
    if style == "old4" and tag < 16:
        return bytes([0x82 | tag << 2]) + length.to_bytes(4, "big") + body
    if style == "endless" and tag < 16:
        return bytes([0x83 | tag << 2]) + body
    if style == "partial" and length > 64:
        return bytes([0xC0 | tag, 224 + 6]) + body[:64] + packet(tag, body[64:], "new")[1:]
    if style == "new5" or length > 8383:
        return bytes([0xC0 | tag, 255]) + length.to_bytes(4, "big") + body
    if length < 192:
        return bytes([0xC0 | tag, length]) + body
    return bytes([0xC0 | tag, ((length - 192) >> 8) + 192, (length - 192) & 0xFF]) + body


STYLES = ("old", "old4", "new", "new5", "partial", "endless")


class Signature:
    """A signature packet of version 4 in its parts."""

    def __init__(self, body):
        if len(body) < 10 or body[0] != 4:
            raise ValueError("not of version 4")
        self.head = bytearray(body[:4])
        size = int.from_bytes(body[4:6], "big")
        self.hashed = subpackets(body[6:6 + size])
        at = 6 + size
        size = int.from_bytes(body[at:at + 2], "big")
        self.unhashed = subpackets(body[at + 2:at + 2 + size])
        self.tail = bytearray(body[at + 2 + size:])

    def body(self):
        hashed, unhashed = (b"".join(area) for area in (self.hashed, self.unhashed))
        return (bytes(self.head) + len(hashed).to_bytes(2, "big") + hashed + len(unhashed).to_bytes(2, "big") + unhashed + bytes(self.tail))


def subpackets(data):
    """The subpackets of an area, each with its length before it."""
    found, at = [], 0
    while at < len(data):
        length, head = data[at], 1
        if length == 255:
            length, head = int.from_bytes(data[at + 1:at + 5], "big"), 5
        elif length >= 192:
            length, head = ((length - 192) << 8) + data[at + 1] + 192, 2
        found.append(bytes(data[at:at + head + length]))
        at += head + length
    return found


def subpacket(kind, data, critical=False):
    body = bytes([kind | (0x80 if critical else 0)]) + data
    return bytes([len(body)]) + body if len(body) < 192 else b"\xff" + len(body).to_bytes(4, "big") + body
