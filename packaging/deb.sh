#!/usr/bin/env bash
# deb.sh PROGRAM INSTALLED OUT: makes the Debian packages of what is built already.
#
# PROGRAM    the program `lxd-image`, built with the feature `cli`
# INSTALLED  a directory in which `ffi/install.sh /usr INSTALLED` put the C library; `-` for the program alone
# OUT        where the packages go: lxd-image, liblxd-image0.2, liblxd-image-dev
#
# REVISION (default 1) is the packages' own; MAINTAINER names who made them; SOURCE_DATE_EPOCH (default: the last commit's
# time) is the time of every file, so that the same input gives the same packages; COMPRESSION (default xz) is that of the packages.
set -euo pipefail

program=$(realpath "${1:?usage: deb.sh PROGRAM INSTALLED OUT}")
installed=${2:?usage: deb.sh PROGRAM INSTALLED OUT}
out=${3:?usage: deb.sh PROGRAM INSTALLED OUT}
root=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
# What a library's name says: ffi/ABI.md.
case $version in
  0.*) series=$(echo "$version" | cut -d. -f1,2) ;;
  *) series=${version%%.*} ;;
esac
full=$version-${REVISION:-1}
maintainer=${MAINTAINER:-"Packagers of lxd-image <lxd-image@lists.debian.org>"}
architecture=$(dpkg --print-architecture)
triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
: "${SOURCE_DATE_EPOCH:=$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
umask 022
mkdir -p "$out"
out=$(realpath "$out")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# documents PACKAGE: copyright and changelog, where Debian has them.
documents() {
  local directory=$work/$1/usr/share/doc/$1
  mkdir -p "$directory"
  cat >"$directory/copyright" <<C
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: lxd-image

Files: *
Copyright: 2026 The lxd-image contributors
License: Expat or Apache-2.0

License: Expat
$(sed -n '/^Permission/,$p' "$root/LICENSE-MIT" | sed 's/^$/./; s/^/ /')

License: Apache-2.0
 On Debian systems the text of the Apache License, Version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
C
  printf '%s\n\n  * Version %s; its changes are in CHANGELOG.md of the sources.\n\n -- %s  %s\n' \
    "lxd-image ($full) unstable; urgency=medium" "$version" "$maintainer" \
    "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$directory/changelog.Debian.gz"
}

# control PACKAGE SECTION DEPENDS DESCRIPTION [FIELD…]: the control file; the description has lines after its first.
control() {
  local package=$1 section=$2 depends=$3 description=$4
  shift 4
  mkdir -p "$work/$package/DEBIAN"
  {
    echo "Package: $package"
    echo "Source: lxd-image"
    echo "Version: $full"
    echo "Architecture: $architecture"
    echo "Maintainer: $maintainer"
    echo "Section: $section"
    echo "Priority: optional"
    echo "Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$work/$package" | cut -f1)"
    [ -z "$depends" ] || echo "Depends: $depends"
    local field
    for field in "$@"; do echo "$field"; done
    echo "Description: $description"
  } >"$work/$package/DEBIAN/control"
}

# needed PACKAGE FILE: what a binary links to, as dpkg-shlibdeps finds it.
needed() {
  mkdir -p "$work/source/debian"
  printf 'Source: lxd-image\n\nPackage: %s\nArchitecture: any\n' "$1" >"$work/source/debian/control"
  (cd "$work/source" && dpkg-shlibdeps -O --ignore-missing-info "$2" 2>/dev/null) | sed -n 's/^shlibs:Depends=//p'
}

# finish PACKAGE: checksums, and the package.
finish() {
  local package=$1
  (cd "$work/$package" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
  find "$work/$package" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group -Z"${COMPRESSION:-xz}" --build "$work/$package" "$out/${package}_${full}_$architecture.deb" >/dev/null
  echo "$out/${package}_${full}_$architecture.deb"
}

the_program() {
  local tree=$work/lxd-image page
  mkdir -p "$tree/usr/bin" "$tree/usr/share/man/man1" "$tree/usr/share/bash-completion/completions" \
    "$tree/usr/share/zsh/vendor-completions" "$tree/usr/share/fish/vendor_completions.d" "$tree/lib/systemd/system"
  install -m 755 "$program" "$tree/usr/bin/lxd-image"
  strip --strip-all --remove-section=.comment "$tree/usr/bin/lxd-image"
  "$program" man "$tree/usr/share/man/man1" >/dev/null
  for page in "$tree"/usr/share/man/man1/*.1; do gzip -9n "$page"; done
  "$program" completions bash >"$tree/usr/share/bash-completion/completions/lxd-image"
  "$program" completions zsh >"$tree/usr/share/zsh/vendor-completions/_lxd-image"
  "$program" completions fish >"$tree/usr/share/fish/vendor_completions.d/lxd-image.fish"
  for page in lxd-image.service lxd-image.socket lxd-image-refresh.service lxd-image-refresh.timer; do
    sed 's|/usr/local/bin/lxd-image|/usr/bin/lxd-image|g' "$root/contrib/$page" >"$tree/lib/systemd/system/$page"
  done
  documents lxd-image
  mkdir -p "$tree/usr/share/doc/lxd-image/examples"
  install -m 644 "$root"/contrib/*.conf "$tree/usr/share/doc/lxd-image/examples/"
  install -m 644 "$root/README.md" "$root/SECURITY.md" "$tree/usr/share/doc/lxd-image/"
  gzip -9n "$tree/usr/share/doc/lxd-image/README.md" "$tree/usr/share/doc/lxd-image/SECURITY.md"
  # Nothing is started: a server that nobody asked for listens nowhere.
  cat >"$tree/reload" <<'S'
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
  systemctl --system daemon-reload >/dev/null || true
fi
S
  mkdir -p "$tree/DEBIAN"
  install -m 755 "$tree/reload" "$tree/DEBIAN/postinst"
  install -m 755 "$tree/reload" "$tree/DEBIAN/postrm"
  rm "$tree/reload"
  control lxd-image admin "$(needed lxd-image "$tree/usr/bin/lxd-image"), ca-certificates" \
    "images of LXD and Incus: fetch, verify, unpack, pack, serve
 Reads, verifies, unpacks, packs, converts, stores and serves images of LXD
 and Incus, without a daemon and without helper programs. All input is taken
 for hostile: nothing of an image is visible unless its fingerprint matches.
 .
 A server of images and a timer that refreshes them come as systemd units,
 which are not started by themselves."
  finish lxd-image
}

the_library() {
  local tree=$work/liblxd-image$series library
  library=$tree/usr/lib/$triplet/liblxd_image.so.$version
  mkdir -p "$(dirname "$library")"
  install -m 644 "$installed/usr/lib/liblxd_image.so.$version" "$library"
  strip --strip-unneeded --remove-section=.comment "$library"
  ln -s "liblxd_image.so.$version" "$(dirname "$library")/liblxd_image.so.$series"
  documents "liblxd-image$series"
  mkdir -p "$tree/DEBIAN"
  echo "liblxd_image $series liblxd-image$series (>= $version)" >"$tree/DEBIAN/shlibs"
  # ldconfig runs when a library appears or goes.
  echo "activate-noawait ldconfig" >"$tree/DEBIAN/triggers"
  control "liblxd-image$series" libs "$(needed "liblxd-image$series" "$library"), ca-certificates" \
    "images of LXD and Incus, as a C library
 Reads, verifies, unpacks, packs, stores and serves images of LXD and Incus,
 and fetches them from servers, for programs in C, Go and whatever calls C." "Multi-Arch: same"
  finish "liblxd-image$series"

  tree=$work/liblxd-image-dev
  mkdir -p "$tree/usr/include" "$tree/usr/lib/$triplet/pkgconfig"
  install -m 644 "$installed/usr/include/lxd_image.h" "$tree/usr/include/"
  install -m 644 "$installed/usr/lib/liblxd_image.a" "$tree/usr/lib/$triplet/"
  strip --strip-debug "$tree/usr/lib/$triplet/liblxd_image.a"
  ln -s "liblxd_image.so.$series" "$tree/usr/lib/$triplet/liblxd_image.so"
  sed "s|^prefix=.*|prefix=/usr|; s|^libdir=.*|libdir=\${prefix}/lib/$triplet|; s|^exec_prefix=.*|exec_prefix=\${prefix}|" \
    "$installed/usr/lib/pkgconfig/lxd_image.pc" >"$tree/usr/lib/$triplet/pkgconfig/lxd_image.pc"
  documents liblxd-image-dev
  mkdir -p "$tree/usr/share/doc/liblxd-image-dev/examples"
  install -m 644 "$root"/examples/c/*.c "$root/examples/c/Makefile" "$tree/usr/share/doc/liblxd-image-dev/examples/"
  install -m 644 "$root/ffi/ABI.md" "$tree/usr/share/doc/liblxd-image-dev/"
  gzip -9n "$tree/usr/share/doc/liblxd-image-dev/ABI.md"
  control liblxd-image-dev libdevel "liblxd-image$series (= $full)" \
    "images of LXD and Incus, as a C library: header and static library
 What is needed to build programs with the library: the header, whose comments
 are its manual, the static library, the file for pkg-config, and examples." "Multi-Arch: same"
  finish liblxd-image-dev
}

the_program
[ "$installed" = - ] || the_library
