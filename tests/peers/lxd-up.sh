#!/usr/bin/env bash
# lxd-up.sh DIR [PORT]: starts a private real LXD below DIR (short path: it holds a socket), with a directory pool and a default
# profile, listening on 127.0.0.1:PORT (default: a free one). Prints LXD_DIR and LXD_PORT as KEY=VALUE. lxd-down.sh DIR stops it.
set -euo pipefail
dir=${1:?usage: lxd-up.sh DIR [PORT]}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
port=${2:-$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')}
export LXD_DIR=$dir
setsid nohup lxd --group root --logfile "$dir/lxd.log" >"$dir/out.log" 2>&1 </dev/null &
echo $! >"$dir/pid"
lxd waitready --timeout=60 >/dev/null 2>&1 </dev/null || {
  echo "lxd did not start; its log:" >&2
  tail -n 20 "$dir/out.log" >&2
  exit 1
}
lxd init --preseed >/dev/null <<Y
config: {core.https_address: "127.0.0.1:$port", core.trust_password: peers, images.auto_update_interval: "0"}
storage_pools: [{name: pool, driver: dir}]
profiles: [{name: default, devices: {root: {path: /, pool: pool, type: disk}}}]
Y
echo "LXD_DIR=$dir"
echo "LXD_PORT=$port"
