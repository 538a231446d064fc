#!/usr/bin/env python3
"""What requests of anonymous clients cost a server with many images: time and memory.

    anonymous.py PROGRAM [--images 100,20000,100000]

Each size has a store of its own; of its rows, only the first one has files. For each request the time of the first answer
(documents are made then), the median of five later ones, and the size of the answer are told; at the end the server's peak memory.
"""
import argparse, hashlib, http.client, os, socket, sqlite3, statistics, subprocess, tarfile, tempfile, io, time

REQUESTS = ["/", "/1.0/images", "/1.0/images?recursion=1", "/streams/v1/images.json", "/1.0/images/aliases/name-77-typo", "/1.0/images/aliases/name-77"]


def image(path):
    with tarfile.open(path, "w") as out:
        text = b"architecture: x86_64\ncreation_date: 1700000000\nproperties: {os: Debian, release: '12', description: a small image}\n"
        member = tarfile.TarInfo("metadata.yaml")
        member.size = len(text)
        out.addfile(member, io.BytesIO(text))
        member = tarfile.TarInfo("rootfs")
        member.type = tarfile.DIRTYPE
        out.addfile(member)


def fill(catalog, count):
    rows = sqlite3.connect(catalog)
    columns = [row[1] for row in rows.execute("PRAGMA table_info(image)")]
    first = list(rows.execute("SELECT * FROM image LIMIT 1").fetchone())
    at = columns.index("fingerprint")
    marks = ",".join("?" * len(columns))
    for number in range(count - 1):
        first[at] = hashlib.sha256(str(number).encode()).hexdigest()
        rows.execute(f"INSERT INTO image VALUES ({marks})", first)
        rows.execute("INSERT INTO alias VALUES (?, 'container', ?, '')", (f"name-{number}", first[at]))
    rows.commit()
    rows.close()


def get(port, path):
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("GET", path)
    answer = connection.getresponse()
    size = len(answer.read())
    connection.close()
    return (time.monotonic() - start) * 1000, size, answer.status


def peak(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program")
    arguments.add_argument("--images", default="100,20000,100000")
    given = arguments.parse_args()
    for count in map(int, given.images.split(",")):
        with tempfile.TemporaryDirectory() as scratch:
            environment = dict(os.environ, LXD_IMAGE_STORE=f"{scratch}/store", LXD_IMAGE_CONFIG=f"{scratch}/config")
            image(f"{scratch}/image.tar")
            subprocess.run([given.program, "import", f"{scratch}/image.tar", "--alias", "first", "--public"], env=environment, check=True, stdout=subprocess.DEVNULL)
            fill(f"{scratch}/store/catalog.sqlite", count)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            server = subprocess.Popen([given.program, "serve", "--listen", f"http://127.0.0.1:{port}"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                for _ in range(100):
                    try:
                        get(port, "/1.0")
                        break
                    except OSError:
                        time.sleep(0.1)
                print(f"{count} images, {peak(server.pid)} MiB at the start")
                for path in REQUESTS:
                    first = get(port, path)
                    later = statistics.median(get(port, path)[0] for _ in range(5))
                    print(f"  {first[2]} {path:38} first {first[0]:9.1f} ms, then {later:9.1f} ms, {first[1]:10} bytes, peak {peak(server.pid)} MiB")
            finally:
                server.terminate()
                server.wait()


main()
