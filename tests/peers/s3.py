#!/usr/bin/env python3
"""s3.py ENDPOINT KEY SECRET METHOD PATH [FILE]: one signed S3 request (region us-east-1), with the file as its body.

Prints the body of the answer. Exits with 1 and the status if that is not 2xx.
"""
import datetime
import hashlib
import hmac
import http.client
import sys
import urllib.parse


def request(endpoint, key, secret, method, path, body=b"", headers=()):
    """Sends a request and returns (status, headers, body)."""
    host = urllib.parse.urlsplit(endpoint).netloc
    path, _, query = path.partition("?")
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    signed = {"host": host, "x-amz-date": now, "x-amz-content-sha256": hashlib.sha256(body).hexdigest(), **dict(headers)}
    names = ";".join(sorted(signed))
    lines = [method, path, query, "".join("%s:%s\n" % (name, signed[name]) for name in sorted(signed)), names, signed["x-amz-content-sha256"]]
    scope = now[:8] + "/us-east-1/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()])
    derived = ("AWS4" + secret).encode()
    for part in (now[:8], "us-east-1", "s3", "aws4_request"):
        derived = hmac.new(derived, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(derived, text.encode(), hashlib.sha256).hexdigest()
    signed["authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (key, scope, names, signature)
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request(method, path + ("?" + query if query else ""), body or None, signed)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, dict((name.lower(), value) for name, value in answer.getheaders()), data


def main():
    endpoint, key, secret, method, path = sys.argv[1:6]
    body = open(sys.argv[6], "rb").read() if len(sys.argv) > 6 else b""
    status, _, data = request(endpoint, key, secret, method, path, body)
    sys.stdout.buffer.write(data)
    if status // 100 != 2:
        sys.exit("%s %s: %d" % (method, path, status))


if __name__ == "__main__":
    main()
