#!/usr/bin/env bash
# lxd-down.sh DIR: stops the LXD that lxd-up.sh DIR started, its containers with it, and removes DIR. Safe to run again.
set -u
[ -d "${1:?usage: lxd-down.sh DIR}" ] || exit 0
dir=$(cd "$1" && pwd) || exit 0
export LXD_DIR=$dir
timeout 30 lxc list --format csv -c n 2>/dev/null </dev/null | while read -r c; do
  timeout 60 lxc delete -f "$c" </dev/null >/dev/null 2>&1
done
timeout 30 lxd shutdown --timeout 20 </dev/null >/dev/null 2>&1
if [ -f "$dir/pid" ]; then
  pid=$(cat "$dir/pid")
  # Only if it is still ours: numbers are given out again.
  if tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qxF "LXD_DIR=$dir"; then
    kill "$pid" 2>/dev/null
    for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null
  fi
fi
grep -F " $dir/" /proc/self/mounts | cut -d' ' -f2 | sort -r | while read -r m; do umount -l "$m"; done
rm -rf "$dir"
