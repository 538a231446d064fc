#!/usr/bin/env python3
"""A copy over loopback TLS into a store, against `curl` and `sha256sum` of the same file: paired, in turns, in one run.

usage: benches/remote.py --bin lxd-image [--mib 400] [--runs 3] [--work DIR]
An image of random bytes (so that no codec hides anything) is served by nginx. `lxd-image import URL` asks, fetches, hashes, decodes and
checks every entry, syncs and names it; `curl` writes the file and `sha256sum` reads it again. Prints wall time, CPU time and peak memory of
each, and the ratio of throughputs. --work must have room for three times the image (default /dev/shm).
"""
import argparse, os, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

ap = argparse.ArgumentParser()
ap.add_argument("--bin", required=True); ap.add_argument("--mib", type=int, default=400); ap.add_argument("--runs", type=int, default=3); ap.add_argument("--work", default="/dev/shm")
a = ap.parse_args()
for program in ("nginx", "openssl", "curl", "sha256sum"):
    if not shutil.which(program): sys.exit(f"{program} is needed and not here")
work = tempfile.mkdtemp(prefix="lxi-remote-", dir=a.work); os.chmod(work, 0o755)

def run(cmd, **env):
    t = time.monotonic()
    p = subprocess.run(["/usr/bin/time", "-f", "%U %S %M", "bash", "-c", "set -eo pipefail; " + cmd], env=dict(os.environ, **env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wall = time.monotonic() - t
    if p.returncode: raise RuntimeError(f"failed: {cmd}\n{p.stderr[-600:]}")
    user, system, peak = p.stderr.strip().splitlines()[-1].split()
    return wall, float(user) + float(system), int(peak) / 1024, p.stdout.strip()

nginx = None
try:
    os.makedirs(work + "/root"); os.makedirs(work + "/www")
    with open(work + "/root/noise", "wb") as out:
        for _ in range(a.mib): out.write(os.urandom(1 << 20))
    image = work + "/www/image.tar"
    fingerprint = run(f"{a.bin} pack {work}/root {image} --architecture x86_64 --compression none -q")[3].split()[-1]
    shutil.rmtree(work + "/root"); os.chmod(image, 0o644)
    run(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {work}/key -out {work}/cert")
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    url = f"https://127.0.0.1:{port}"
    with open(work + "/nginx.conf", "w") as out:
        out.write(f"""daemon off; pid {work}/pid; error_log stderr crit; worker_processes 1;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3; uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
  server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {work}/cert; ssl_certificate_key {work}/key; root {work}/www;
    location = /lxd {{ add_header LXD-Image-Hash {fingerprint}; add_header LXD-Image-URL {url}/image.tar; return 200; }} }} }}
""")
    nginx = subprocess.Popen(["nginx", "-p", work, "-c", work + "/nginx.conf"])
    for _ in range(200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0: break
        time.sleep(0.05)
    ways = {
        "curl, then sha256sum": f"curl -sf --cacert {work}/cert -o {work}/got {url}/image.tar; echo '{fingerprint}  {work}/got' | sha256sum -c --quiet",
        "lxd-image import URL": f"{a.bin} --store {work}/store import {url}/lxd -q",
    }
    got = {name: [] for name in ways}
    for _ in range(a.runs):
        for name, command in ways.items():
            shutil.rmtree(work + "/store", ignore_errors=True)
            if os.path.exists(work + "/got"): os.remove(work + "/got")
            got[name].append(run(command, SSL_CERT_FILE=work + "/cert"))
    print(f"## an image of {a.mib} MiB over TLS on loopback")
    for name, v in got.items():
        print(f"  {name:24s} min {min(x[0] for x in v):6.3f} s  median {statistics.median(x[0] for x in v):6.3f}  cpu {min(x[1] for x in v):6.3f}  peak {max(x[2] for x in v):5.1f} MiB")
    base, ours = (min(x[0] for x in v) for v in got.values())
    print(f"  throughput, ours to theirs: {base / ours:.2f}")
finally:
    if nginx: nginx.send_signal(signal.SIGTERM); nginx.wait()
    shutil.rmtree(work, ignore_errors=True)
