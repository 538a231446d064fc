#!/usr/bin/env python3
"""`lxd-image serve` against nginx: the same file, the same certificate, TLS over loopback, in turns, in one run; then many clients at once.

usage: benches/serve.py --bin lxd-image [--mib 1024] [--runs 5] [--seconds 60] [--clients 200] [--http2] [--only throughput,load] [--work DIR]
throughput: one `curl`, and eight at once, each downloading the image; the ratio of the medians is what counts (goal: 0.8 of nginx).
load: clients that list and download a small image for so many seconds, each answer checked; errors are counted, and the server's memory is
looked at every second. Exits with 1 when there was an error. --work needs room for three times the image (default /dev/shm).
"""
import argparse, asyncio, hashlib, json, os, re, shutil, signal, socket, ssl, statistics, subprocess, sys, tempfile, time

ap = argparse.ArgumentParser()
ap.add_argument("--bin", required=True); ap.add_argument("--mib", type=int, default=1024); ap.add_argument("--runs", type=int, default=5)
ap.add_argument("--seconds", type=int, default=60); ap.add_argument("--clients", type=int, default=200); ap.add_argument("--http2", action="store_true")
ap.add_argument("--only", default="throughput,load"); ap.add_argument("--work", default="/dev/shm")
a = ap.parse_args()
for program in ("nginx", "openssl", "curl"):
    if not shutil.which(program): sys.exit(f"{program} is needed and not here")
work = tempfile.mkdtemp(prefix="lxi-serve-", dir=a.work); os.chmod(work, 0o755)
env = dict(os.environ, LXD_IMAGE_STORE=work + "/store", LXD_IMAGE_CONFIG=work + "/settings")

def run(*cmd):
    p = subprocess.run(cmd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if p.returncode: raise RuntimeError(f"failed: {cmd}\n{p.stderr[-600:]}")
    return p.stdout.strip()

def image(name, size):
    """An image of random bytes in the store, public; its fingerprint and where its file is."""
    os.makedirs(f"{work}/{name}.d")
    with open(f"{work}/{name}.d/noise", "wb") as out:
        for left in range(size, 0, -(1 << 20)): out.write(os.urandom(min(left, 1 << 20)))
    run(a.bin, "-q", "pack", f"{work}/{name}.d", f"{work}/www/{name}", "--architecture", "x86_64", "--compression", "none")
    shutil.rmtree(f"{work}/{name}.d"); os.chmod(f"{work}/www/{name}", 0o644)
    return run(a.bin, "-q", "import", f"{work}/www/{name}", "--alias", name, "--public").split()[-1]

def free_port():
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); return s.getsockname()[1]

def start(port, *cmd):
    p = subprocess.Popen(cmd, env=env, stdout=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0: return p
        time.sleep(0.05)
    raise RuntimeError(f"does not listen: {cmd}")

def cpu(pids):
    """Processor time of some processes so far, in seconds."""
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f: ticks += sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")

def family(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f: return [pid, *map(int, f.read().split())]

def rss(pid):
    with open(f"/proc/{pid}/status") as f: return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) / 1024

def download(url, many, size):
    """MiB a second of `many` downloads at once."""
    curl = ["curl", "-sfk", "--http2" if a.http2 else "--http1.1", "-o", "/dev/null", "-w", "%{size_download}", url]
    began = time.monotonic()
    running = [subprocess.Popen(curl, stdout=subprocess.PIPE, text=True) for _ in range(many)]
    for p in running:
        got = p.communicate()[0]
        if p.returncode or int(got) != size: raise RuntimeError(f"{url}: curl ended with {p.returncode}, {got} of {size} bytes")
    return many * size / (time.monotonic() - began) / (1 << 20)

def throughput(urls, size, pids):
    result = {}
    for many in (1, 8):
        got = {name: [] for name in urls}; used = {name: 0.0 for name in urls}
        for _ in range(a.runs):
            for name, url in urls.items():
                before = cpu(pids[name]); got[name].append(download(url, many, size)); used[name] += cpu(pids[name]) - before
        print(f"## {many} at once, {size >> 20} MiB each, {'HTTP/2' if a.http2 else 'HTTP/1.1'}")
        for name, v in got.items():
            print(f"  {name:10s} median {statistics.median(v):7.1f} MiB/s  max {max(v):7.1f}  cpu {used[name] / a.runs / many:6.3f} s a download", flush=True)
        ours, theirs = (statistics.median(got[name]) for name in ("lxd-image", "nginx"))
        print(f"  ours to theirs: {ours / theirs:.3f}", flush=True)
        result[many] = ours / theirs
    return result

async def client(port, context, fingerprint, until, counts):
    """Lists, downloads, checks, and begins a connection anew now and then, as long as there is time."""
    reader = writer = None; left = 0
    while time.monotonic() < until:
        try:
            if left == 0:
                if writer: writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost"); left = 25
            left -= 1
            for path in ("/1.0/images?recursion=1", f"/1.0/images/{fingerprint}/export"):
                began = time.monotonic()
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()); await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if not head.startswith("HTTP/1.1 200 "): raise RuntimeError(head.splitlines()[0])
                body = await reader.readexactly(int(re.search(r"(?i)content-length: (\d+)", head)[1]))
                if path.endswith("export"):
                    if hashlib.sha256(body).hexdigest() != fingerprint: raise RuntimeError("another image came")
                elif fingerprint not in json.dumps(json.loads(body)["metadata"]): raise RuntimeError("the image is not listed")
                counts["done"] += 1; counts["slowest"] = max(counts["slowest"], time.monotonic() - began)
        except Exception as error:
            counts["errors"] += 1; counts["last"] = repr(error); left = 0
            await asyncio.sleep(0.1)
    if writer: writer.close()

async def load(port, pid, fingerprint):
    context = ssl.create_default_context(cafile=work + "/cert")
    counts = {"done": 0, "errors": 0, "slowest": 0.0, "last": ""}; memory = []; until = time.monotonic() + a.seconds
    clients = [asyncio.create_task(client(port, context, fingerprint, until, counts)) for _ in range(a.clients)]
    while time.monotonic() < until:
        memory.append(rss(pid)); await asyncio.sleep(1)
    await asyncio.gather(*clients)
    third = max(1, len(memory) // 3)
    print(f"## {a.clients} clients for {a.seconds} s, listing and downloading")
    print(f"  {counts['done']} answers, {counts['done'] / a.seconds:.0f} a second, the slowest {counts['slowest']:.2f} s; {counts['errors']} errors {counts['last']}")
    print(f"  memory: at most {max(memory[:third]):.1f} MiB in the first third, {max(memory[-third:]):.1f} MiB in the last, {rss(pid):.1f} MiB after it", flush=True)
    return counts["errors"]

started = []; failed = 0
try:
    os.makedirs(work + "/www")
    only = a.only.split(",")
    names = {"small": image("small", 256 << 10)}
    if "throughput" in only: names["large"] = image("large", a.mib << 20)
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", work + "/key", "-out", work + "/cert")
    ports = {"nginx": free_port(), "lxd-image": free_port()}
    with open(work + "/nginx.conf", "w") as out:
        out.write(f"""daemon off; pid {work}/pid; error_log stderr crit; worker_processes auto;
events {{ worker_connections 1024; }}
http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3; uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
  server {{ listen 127.0.0.1:{ports['nginx']} ssl {'http2' if a.http2 else ''}; ssl_certificate {work}/cert; ssl_certificate_key {work}/key; root {work}/www; }} }}
""")
    nginx = start(ports["nginx"], "nginx", "-p", work, "-c", work + "/nginx.conf"); started.append(nginx)
    ours = start(ports["lxd-image"], a.bin, "-q", "serve", "--listen", f"127.0.0.1:{ports['lxd-image']}", "--cert", work + "/cert", "--key", work + "/key"); started.append(ours)
    if "throughput" in only:
        size = os.path.getsize(work + "/www/large")
        urls = {"nginx": f"https://127.0.0.1:{ports['nginx']}/large", "lxd-image": f"https://127.0.0.1:{ports['lxd-image']}/1.0/images/{names['large']}/export"}
        # The first time, ours hashes on the way; both have the file in memory afterwards.
        for name, url in urls.items(): print(f"  first download from {name}: {download(url, 1, size):.1f} MiB/s")
        throughput(urls, size, {"nginx": family(nginx.pid), "lxd-image": [ours.pid]})
        print(f"  memory of ours after it: {rss(ours.pid):.1f} MiB")
    if "load" in only: failed = asyncio.run(load(ports["lxd-image"], ours.pid, names["small"]))
finally:
    for p in started: p.send_signal(signal.SIGTERM)
    for p in started: p.wait()
    shutil.rmtree(work, ignore_errors=True)
sys.exit(1 if failed else 0)
