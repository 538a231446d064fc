#!/usr/bin/env bash
# install.sh PREFIX [DESTDIR]: builds the C library and installs it as `cargo cinstall` does: header, shared library with
# its soname, static library, pkg-config file. For where cargo-c is not at hand; it takes minutes to build.
# PROFILE (default: release) names the cargo profile; LD, OBJCOPY and AR the tools that make the static library.
#
# The static library exports the calls of the header and nothing else: a program may have its own SQLite, zstd or xz beside it. `cargo cinstall`
# does not do that. tests/static.sh PREFIX checks it.
set -euo pipefail

prefix=${1:?usage: install.sh PREFIX [DESTDIR]}
destination=${2:-}
profile=${PROFILE:-release}
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
target=${CARGO_TARGET_DIR:-$root/target}
directory=$profile
[ "$profile" != dev ] || directory=debug

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
# As cargo-c: while the version begins with 0, each minor version is a library of its own.
case $version in
  0.*) major=$(echo "$version" | cut -d. -f1,2) ;;
  *) major=${version%%.*} ;;
esac
soname=liblxd_image.so.$major

cd "$root"
# Only the shared library has a soname: the flag goes to its link alone.
# What cargo prints goes to this script's error output as well, added to it even where that is a file.
libraries=$(cargo rustc --locked -p lxd-image-ffi --lib --profile "$profile" --crate-type cdylib,staticlib -- \
  --print native-static-libs -Clink-arg="-Wl,-soname,$soname" 2>&1 | tee -a /dev/stderr | sed -n 's/^note: native-static-libs: //p' | tail -n 1)

lib=$destination$prefix/lib
mkdir -p "$lib/pkgconfig" "$destination$prefix/include"
install -m 644 "$root/include/lxd_image.h" "$destination$prefix/include/"
install -m 755 "$target/$directory/liblxd_image_ffi.so" "$lib/liblxd_image.so.$version"
ln -sf "liblxd_image.so.$version" "$lib/$soname"
ln -sf "$soname" "$lib/liblxd_image.so"

# One object of all that the calls need, whose other symbols are local.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -E 's/^.*[ *](lxi_[a-z0-9_]+)\(.*/--undefined=\1/' "$here/abi/calls.txt" >"$work/calls"
"${LD:-ld}" -r --gc-sections --force-group-allocation -T "$here/static.ld" "@$work/calls" -o "$work/lxd_image.o" "$target/$directory/liblxd_image_ffi.a"
"${OBJCOPY:-objcopy}" --wildcard --keep-global-symbol='lxi_*' "$work/lxd_image.o"
rm -f "$lib/liblxd_image.a"
"${AR:-ar}" rcs "$lib/liblxd_image.a" "$work/lxd_image.o"
chmod 644 "$lib/liblxd_image.a"
# The compiler adds what unwinds by itself: the shared libgcc, or with -static the other one, which -lgcc_s would not find.
libraries=$(tr ' ' '\n' <<<"$libraries" | { grep -vx -e -lgcc_s -e '' || true; } | tr '\n' ' ')
libraries=${libraries% }
cat >"$lib/pkgconfig/lxd_image.pc" <<P
prefix=$prefix
exec_prefix=\${prefix}
libdir=\${exec_prefix}/lib
includedir=\${prefix}/include

Name: lxd_image
Description: Read, verify, unpack, pack, store and template LXD and Incus images
Version: $version
Libs: -L\${libdir} -llxd_image
Cflags: -I\${includedir}
Libs.private: ${libraries:--lutil -lrt -lpthread -lm -ldl -lc}
P
