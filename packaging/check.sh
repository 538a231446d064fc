#!/usr/bin/env bash
# check.sh DIRECTORY [ROOT]: installs the packages of a directory in a Debian root and does the main job with them: pack,
# import, list, verify, unpack, serve, and a program in C. ROOT is a root made by debootstrap, which is changed; without
# one, debootstrap makes one. `--extract` instead of ROOT unpacks the packages in a directory and runs what is there with
# this machine's own libraries: quick, and without rights. `--any` makes a root as without one, and falls back to `--extract`
# where no Debian can be fetched.
set -euo pipefail

packages=$(realpath "${1:?usage: check.sh DIRECTORY [ROOT|--extract|--any]}")
where=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/job.sh" <<'J'
set -eu
mkdir -p /tmp/job
cd /tmp/job
export HOME=/tmp/job LXD_IMAGE_STORE=/tmp/job/store LXD_IMAGE_CONFIG=/tmp/job/config
mkdir -p rootfs/etc
echo box >rootfs/etc/hostname
lxd-image pack rootfs box.tar.gz --architecture x86_64 --property os=Box --property release=1 --creation-date 2026-01-01 --compression gzip >fingerprint
lxd-image import box.tar.gz --alias box --public
lxd-image list | grep -q box
lxd-image verify box.tar.gz --fingerprint "$(cat fingerprint)"
lxd-image unpack box c1
grep -qx box c1/rootfs/etc/hostname
lxd-image serve --listen http://127.0.0.1:0 >address 2>serve.log &
server=$!
n=0
until grep -qs listening address || [ $n -gt 100 ]; do n=$((n + 1)); sleep 0.1; done
url=$(sed -n 's/^listening at //p' address | head -n 1)
lxd-image remote add here "$url" --public
LXD_IMAGE_STORE=/tmp/job/other lxd-image copy here:box local: --alias copied
LXD_IMAGE_STORE=/tmp/job/other lxd-image list | grep -q copied
kill "$server"
wait "$server" || true
echo "the program works: $(lxd-image --version), $(stat -c %s "$(command -v lxd-image)") bytes"
J

if [ -z "$where" ] || [ "$where" = --any ]; then
  if debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev,make,pkg-config bookworm "$work/root" >"$work/debootstrap.log" 2>&1; then
    where=$work/root
  else
    tail "$work/debootstrap.log"
    [ "$where" = --any ] || exit 1
    echo "no Debian root can be made here: the packages are unpacked, and not installed"
    where=--extract
  fi
fi

if [ "$where" = --extract ]; then
  for package in "$packages"/*.deb; do dpkg-deb -x "$package" "$work/tree"; done
  sed "s|/tmp/job|$work/job|g" "$work/job.sh" >"$work/here.sh"
  PATH=$work/tree/usr/bin:$PATH sh "$work/here.sh"
  test -s "$work/tree/usr/share/man/man1/lxd-image.1.gz"
  test -s "$work/tree/usr/share/bash-completion/completions/lxd-image"
  grep -q '^ExecStart=/usr/bin/lxd-image ' "$work/tree/lib/systemd/system/lxd-image.service"
  exit 0
fi

mkdir -p "$where/tmp/packages"
cp "$packages"/*.deb "$where/tmp/packages/"
chroot "$where" sh -c 'dpkg -i /tmp/packages/*.deb' >"$work/dpkg.log" 2>&1 || {
  # What the packages need and the root lacks.
  chroot "$where" apt-get install -y -f >>"$work/dpkg.log" 2>&1 || { tail "$work/dpkg.log"; exit 1; }
}
cp "$work/job.sh" "$where/tmp/job.sh"
chroot "$where" sh /tmp/job.sh
if chroot "$where" sh -c 'command -v gcc >/dev/null && ls /usr/include/lxd_image.h' >/dev/null 2>&1; then
  chroot "$where" sh -ec 'mkdir -p /tmp/c && cp /usr/share/doc/liblxd-image-dev/examples/* /tmp/c/ && cd /tmp/c && make -s &&
    ./store_browser /tmp/job/store list'
fi
ls -l "$packages"/*.deb
