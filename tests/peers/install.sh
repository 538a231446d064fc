#!/usr/bin/env bash
# install.sh [DIR]: the real programs that this project is tested against, on Debian bookworm as root. Safe to run again.
# System packages: LXD 5.0.2 with lxc, tar, xz, unsquashfs and friends, pongo2 for Go, qemu-img, xdelta3, nginx, curl,
# PostgreSQL 15, pgbouncer, minisign, GnuPG, Sequoia (sq, sqv), skopeo, umoci, docker-registry.
# DIR (default ./peers-tools): incus and incus-simplestreams 6.0.x of the next Debian release, unpacked beside the system
# without touching its package state, a Python environment with sstream-query and sstream-mirror, others with securesystemslib and
# in-toto-attestation (statements) and with moto (a fake of S3),
# and Ceph's object gateway (a real S3 server), unpacked.
# Prints lines KEY=VALUE that a caller may eval; everything else goes to standard error.
set -euo pipefail
dir=${1:-peers-tools}
export DEBIAN_FRONTEND=noninteractive

pkgs=(lxd lxd-client busybox-static xz-utils zstd lz4 bzip2 pigz squashfs-tools squashfs-tools-ng libarchive-tools attr acl libcap2-bin
  qemu-utils xdelta3 curl nginx-light openssl python3 python3-venv golang-go golang-github-flosch-pongo2.v4-dev
  postgresql-15 pgbouncer minisign gnupg gpgv sq sqv skopeo umoci docker-registry)
missing=()
for p in "${pkgs[@]}"; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq >&2
  # No service may start by itself. A policy that stood there before is put back, whatever happens.
  policy=/usr/sbin/policy-rc.d
  [ ! -e "$policy" ] || mv "$policy" "$policy.before-peers"
  restore() { rm -f "$policy"; [ ! -e "$policy.before-peers" ] || mv "$policy.before-peers" "$policy"; }
  trap restore EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
  restore
  trap - EXIT
fi
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

if [ ! -x "$dir/incus/usr/bin/incus" ]; then
  # A private apt state that knows the next release, taken from the machine's own mirror.
  a=$dir/apt
  rm -rf "$a" "$dir/incus" "$dir/incus.new"
  mkdir -p "$a/lists/partial" "$a/archives/partial" "$a/etc"
  mirror=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs:[[:space:]]*\([^ ]*\).*/\1/p' | head -n1)
  [ -n "$mirror" ] || mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\).*/\2/p' | head -n1)
  [ -n "$mirror" ] || { echo "install.sh: no Debian mirror in the machine's apt sources" >&2; exit 1; }
  key=
  for k in /usr/share/keyrings/debian-archive-keyring.*; do [ ! -e "$k" ] || { key=$k; break; }; done
  echo "deb ${key:+[signed-by=$key] }$mirror trixie main" >"$a/etc/sources.list"
  opt=(-o Dir::Etc::sourcelist="$a/etc/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$a/lists"
    -o Dir::Cache::archives="$a/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
  apt-get "${opt[@]}" update -qq >&2
  (cd "$a/archives" && { apt-get "${opt[@]}" download -qq incus-client incus-extra >&2 ||
    apt-get "${opt[@]}" download -qq incus-client >&2; })
  for d in "$a"/archives/*.deb; do dpkg -x "$d" "$dir/incus.new"; done
  # In one step, so that a run that was cut short is never taken for a whole one.
  mv "$dir/incus.new" "$dir/incus"
  rm -rf "$a"
fi
if [ ! -x "$dir/py/bin/sstream-query" ]; then
  rm -rf "$dir/py"
  # The system's own Python: another one on PATH may lack what venv needs.
  /usr/bin/python3 -m venv "$dir/py" >&2
  "$dir/py/bin/pip" -q install python-simplestreams setuptools >&2
fi
if [ ! -x "$dir/moto/bin/moto_server" ]; then
  rm -rf "$dir/moto"
  /usr/bin/python3 -m venv "$dir/moto" >&2
  "$dir/moto/bin/pip" -q install 'moto[server,s3]==5.2.*' >&2
fi
if [ ! -e "$dir/in-toto/lib/done" ]; then
  rm -rf "$dir/in-toto"
  /usr/bin/python3 -m venv "$dir/in-toto" >&2
  "$dir/in-toto/bin/pip" -q install 'securesystemslib[crypto]==1.6.*' 'in-toto-attestation==0.9.*' >&2
  # In the end, so that a run that was cut short is never taken for a whole one.
  touch "$dir/in-toto/lib/done"
fi
bash "$(dirname "$0")/radosgw.sh" unpack "$dir/ceph" >&2
echo "INCUS=$dir/incus/usr/bin/incus"
[ ! -x "$dir/incus/usr/bin/incus-simplestreams" ] || echo "INCUS_SIMPLESTREAMS=$dir/incus/usr/bin/incus-simplestreams"
echo "POSTGRES_BIN=/usr/lib/postgresql/15/bin"
echo "PGBOUNCER=/usr/sbin/pgbouncer"
echo "SSTREAM_QUERY=$dir/py/bin/sstream-query"
echo "SSTREAM_MIRROR=$dir/py/bin/sstream-mirror"
echo "IN_TOTO_PYTHON=$dir/in-toto/bin/python"
echo "MOTO_SERVER=$dir/moto/bin/moto_server"
echo "RADOSGW_ROOT=$dir/ceph"
