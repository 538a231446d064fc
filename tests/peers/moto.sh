#!/usr/bin/env bash
# moto.sh PROGRAM [PORT]: starts moto, a fake of S3 in memory; PROGRAM is the moto_server that install.sh made. Prints
# S3_ENDPOINT=http://127.0.0.1:PORT when it answers (about 2 s), and stops it when its standard input ends.
# Any keys are accepted; the buckets lxd-image and other are there.
set -euo pipefail
program=${1:?usage: moto.sh PROGRAM [PORT]}
port=${2:-$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')}
AWS_ACCESS_KEY_ID=AK AWS_SECRET_ACCESS_KEY=SK "$program" -H 127.0.0.1 -p "$port" >/dev/null 2>&1 </dev/null &
pid=$!
trap 'kill "$pid" 2>/dev/null' EXIT
trap 'exit 1' TERM INT HUP
for _ in $(seq 150); do
  ! curl -s -o /dev/null "http://127.0.0.1:$port/moto-api/" || break
  kill -0 "$pid" 2>/dev/null || { echo "moto.sh: it did not start" >&2; exit 1; }
  sleep 0.2
done
for bucket in lxd-image other; do
  curl -fsS -o /dev/null -X PUT "http://127.0.0.1:$port/$bucket"
done
echo "S3_ENDPOINT=http://127.0.0.1:$port"
exec >&-
# Until whoever started this ends.
cat >/dev/null
