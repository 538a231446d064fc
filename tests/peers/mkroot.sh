#!/usr/bin/env bash
# mkroot.sh DIR: a tiny root file system (busybox, about 2 MB) that LXD can start as a container. Safe to run again.
set -euo pipefail
dir=${1:?usage: mkroot.sh DIR}
mkdir -p "$dir"/{bin,sbin,etc,dev,proc,sys,tmp,root,var/run}
busybox=/bin/busybox
[ -x "$busybox" ] || busybox=$(command -v busybox)
cp "$busybox" "$dir/bin/busybox"
for a in sh ls cat stat id echo mkdir rm mount umount ip hostname sleep poweroff reboot halt kill ps grep sha256sum; do
  ln -sf busybox "$dir/bin/$a"
done
ln -sf ../bin/busybox "$dir/sbin/init"
printf '::sysinit:/bin/hostname -F /etc/hostname\n::respawn:/bin/sleep 3600\n::shutdown:/bin/true\n' >"$dir/etc/inittab"
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$dir/etc/passwd"
printf 'root:x:0:\n' >"$dir/etc/group"
chmod 1777 "$dir/tmp"
chmod 755 "$dir"
