#!/usr/bin/env bash
# radosgw.sh: a real Ceph object gateway (16.2.15 of Debian bookworm), private, in memory, without installing anything.
#
#   radosgw.sh unpack ROOT           downloads and unpacks 62 packages (69 MB) below ROOT; needs an up-to-date package list
#   radosgw.sh run ROOT RUN [PORT]   starts one monitor, one OSD and one gateway as root; prints S3_ENDPOINT=http://127.0.0.1:PORT when it
#                                    answers (about 15 s, 170 MB), and stops everything when its standard input ends
#
# Region us-east-1, access key AK, secret SK, path style; the buckets lxd-image and other are there. RUN must be a short path: it holds sockets.
set -euo pipefail
verb=${1:?usage: radosgw.sh unpack|run ROOT …}
root=${2:?usage: radosgw.sh unpack|run ROOT …}

if [ "$verb" = unpack ]; then
  [ ! -x "$root/usr/bin/radosgw" ] || exit 0
  rm -rf "$root" "$root.new" "$root.debs"
  mkdir -p "$root.debs" "$root.new"
  cd "$root.debs"
  list=$(apt-get install --no-install-recommends --print-uris -y radosgw ceph-mon ceph-osd ceph-mgr- 2>/dev/null |
    awk '/^\x27/{sub(/_.*/,"",$2);print $2}')
  # shellcheck disable=SC2086
  apt-get -o APT::Sandbox::User=root download -qq $list >&2
  for d in *.deb; do dpkg-deb -x "$d" "$root.new"; done
  cd /
  rm -rf "$root.debs"
  # In one step, so that a run that was cut short is never taken for a whole one.
  mv "$root.new" "$root"
  exit 0
fi

here=$(cd "$(dirname "$0")" && pwd)
run=${3:?usage: radosgw.sh run ROOT RUN [PORT]}
free() { python3 -c 'import socket; s=[socket.socket() for _ in range(3)]; [x.bind(("127.0.0.1",0)) for x in s]; print(*[x.getsockname()[1] for x in s])'; }
read -r gateway mon2 mon1 <<<"$(free)"
gateway=${4:-$gateway}
lib=$root/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH=$lib:$lib/ceph:$root/lib/x86_64-linux-gnu PATH=$root/usr/bin:$PATH
export PYTHONPATH=$root/usr/lib/python3/dist-packages
rm -rf "$run"
mkdir -p "$run"/{mon,osd,rgw,run,log}
stop() {
  local p pid
  for p in rgw osd.0 mon.a; do
    [ -f "$run/run/$p.pid" ] || continue
    pid=$(cat "$run/run/$p.pid")
    # Only if it is still ours: numbers are given out again.
    ! tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$run/ceph.conf" || kill -9 "$pid" 2>/dev/null || true
  done
  rm -rf "$run"
}
trap stop EXIT
trap 'exit 1' TERM INT HUP
fail() { echo "radosgw.sh: $1" >&2; tail -n 20 "$run"/log/* >&2 || true; exit 1; }
id=$(cat /proc/sys/kernel/random/uuid)
cat >"$run/ceph.conf" <<C
[global]
fsid = $id
mon host = [v2:127.0.0.1:$mon2,v1:127.0.0.1:$mon1]
auth cluster required = none
auth service required = none
auth client required = none
run dir = $run/run
admin socket = $run/run/\$name.asok
log file = $run/log/\$name.log
pid file = $run/run/\$name.pid
plugin dir = $lib/ceph
erasure code dir = $lib/ceph/erasure-code
osd class dir = $lib/rados-classes
osd class load list = *
osd class default list = *
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon data = $run/mon
osd data = $run/osd
osd objectstore = memstore
memstore device bytes = 2147483648
ms bind ipv6 = false
public addr = 127.0.0.1
mon data avail crit = 1
[client.rgw]
# radosgw asks for "secure" by default, which needs keys, which "auth none" has not.
ms mon client mode = crc
rgw frontends = beast endpoint=127.0.0.1:$gateway
rgw data = $run/rgw
rgw thread pool size = 16
# Objects that were deleted give their memory back at once, not after two hours.
rgw gc obj min wait = 5
rgw gc processor period = 5
rgw gc processor max time = 5
C
c=(-c "$run/ceph.conf")
as_root=(--setuser root --setgroup root)
exec 3>&1 >"$run/log/start" 2>&1
monmaptool --create --clobber --fsid "$id" --addv a "[v2:127.0.0.1:$mon2,v1:127.0.0.1:$mon1]" "$run/monmap"
ceph-mon "${c[@]}" -i a --mkfs --monmap "$run/monmap" "${as_root[@]}" || fail "no monitor"
ceph-mon "${c[@]}" -i a "${as_root[@]}" </dev/null || fail "no monitor"
osd=$(cat /proc/sys/kernel/random/uuid)
timeout 20 ceph "${c[@]}" osd new "$osd" 0 </dev/null || fail "no OSD"
ceph-osd "${c[@]}" -i 0 --mkfs --osd-uuid "$osd" "${as_root[@]}" || fail "no OSD"
ceph-osd "${c[@]}" -i 0 "${as_root[@]}" </dev/null || fail "no OSD"
timeout 20 ceph "${c[@]}" osd crush add osd.0 1.0 root=default host=h </dev/null
for _ in $(seq 60); do
  ! timeout 5 ceph "${c[@]}" osd stat </dev/null | grep -q '1 up' || break
  sleep 0.3
done
timeout 60 radosgw-admin "${c[@]}" -n client.rgw user create --uid=t --display-name=t --access-key=AK --secret-key=SK </dev/null || fail "no user"
radosgw "${c[@]}" -n client.rgw -f "${as_root[@]}" </dev/null &
echo $! >"$run/run/rgw.pid"
for _ in $(seq 100); do
  ! curl -s -o /dev/null "http://127.0.0.1:$gateway/" || break
  sleep 0.2
done
for bucket in lxd-image other; do
  python3 "$here/s3.py" "http://127.0.0.1:$gateway" AK SK PUT "/$bucket" || fail "no bucket"
done
echo "S3_ENDPOINT=http://127.0.0.1:$gateway" >&3
exec 3>&-
# Until whoever started this ends.
cat >/dev/null
