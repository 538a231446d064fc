#!/usr/bin/env python3
"""in_toto.py: reads and writes signed statements with securesystemslib and in-toto-attestation, which install.sh brings.

    in_toto.py verify PUBLIC.pem FILE         verifies each envelope of a bundle; prints statements as JSON, one on each line
    in_toto.py sign PRIVATE.pem FILE          signs the statement in FILE, by which it is validated; prints the envelope
"""
import json
import sys

from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

TYPE = "application/vnd.in-toto+json"


def statement(payload):
    """The statement of a payload, which in-toto's own rules accept."""
    parsed = json_format.Parse(payload, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    return parsed


def verify(key, path):
    with open(key, "rb") as source:
        public = load_pem_public_key(source.read())
    with open(path) as source:
        lines = [line for line in source if line.strip()]
    for line in lines:
        envelope = Envelope.from_dict(json.loads(line))
        if envelope.payload_type != TYPE:
            sys.exit("another payload type: " + envelope.payload_type)
        # The library finds signatures by key ids, which are whatever the signer wrote.
        keys = [SSlibKey.from_crypto(public, keyid=name) for name in envelope.signatures]
        accepted = any(verified(envelope, one) for one in keys)
        if not accepted:
            sys.exit("no signature by this key")
        print(json.dumps(json_format.MessageToDict(statement(envelope.payload.decode()))))


def verified(envelope, key):
    try:
        return bool(envelope.verify([key], 1))
    except Exception:  # noqa: BLE001 whatever is wrong with it
        return False


def sign(key, path):
    with open(key, "rb") as source:
        signer = CryptoSigner(load_pem_private_key(source.read(), None))
    with open(path) as source:
        payload = json_format.MessageToJson(statement(source.read())).encode()
    envelope = Envelope(payload, TYPE, {})
    envelope.sign(signer)
    print(json.dumps(envelope.to_dict()))


{"verify": verify, "sign": sign}[sys.argv[1]](*sys.argv[2:])
