#!/usr/bin/env bash
# static.sh PREFIX: checks the static library that install.sh put there. It exports the calls of the header only; a program that has functions with the
# names of a library inside of it links and runs, also without any shared library; and the behaviour cases run through it.
set -euo pipefail

prefix=${1:?usage: static.sh PREFIX}
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")
library=$prefix/lib/liblxd_image.a
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

nm --extern-only --defined-only --format=posix "$library" 2>/dev/null | awk 'NF > 1 { print $1 }' | sort -u >"$work/exported"
sed -E 's/^.*[ *](lxi_[a-z0-9_]+)\(.*/\1/' "$root/ffi/abi/calls.txt" | sort -u >"$work/calls"
diff "$work/calls" "$work/exported" || { echo "the static library exports other symbols than the header has calls" >&2; exit 1; }

read -ra private < <(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/lxd_image.pc")
for kind in dynamic static; do
  flags=()
  [ "$kind" = dynamic ] || flags=(-static)
  # The C library warns of name services, which a program without shared libraries loads all the same.
  gcc -std=c11 "${flags[@]}" -I"$prefix/include" "$here/c/clash.c" "$library" "${private[@]}" -o "$work/clash" 2>"$work/said" || { cat "$work/said"; exit 1; }
  "$work/clash" "$work/$kind"
  echo "$kind: $(stat -c %s "$work/clash") bytes"
done

runner=()
for name in cases prepare images templates stores trees trust oci serving; do
  runner+=("$here/c/$name.c")
done
gcc -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -pthread -I"$prefix/include" "${runner[@]}" "$library" "${private[@]}" -o "$work/cases"
gcc -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -pthread -I"$prefix/include" "$here/c/arguments.c" "$library" "${private[@]}" -o "$work/arguments"
for file in "$root"/tests/cases/*.cases; do
  LXD_IMAGE_TEST_REGISTRY=$root/tests/peers/registry.py "$work/cases" "$file" "$work/case" >"$work/done"
  cmp "$work/done" "$file"
done
echo "$(wc -l <"$work/calls") symbols, all of the header; $(stat -c %s "$library") bytes"
