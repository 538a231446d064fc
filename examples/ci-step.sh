#!/bin/sh
# ci-step.sh ROOTFS TREE OS RELEASE: a step of a CI pipeline that publishes what the steps before it built.
#
# Packs ROOTFS to an image whose bytes depend on nothing but its content (SOURCE_DATE_EPOCH is its date), checks it, adds it to
# the static tree TREE, and leaves the fingerprint in `fingerprint` as an artifact. Fails if any of that does.
set -eu
rootfs=${1:?usage: ci-step.sh ROOTFS TREE OS RELEASE}
tree=$2 os=$3 release=$4
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
image=$(mktemp -d)/image.tar.xz
trap 'rm -rf "$(dirname "$image")"' EXIT
lxd-image -q pack "$rootfs" "$image" --architecture "$(uname -m)" --property os="$os" --property release="$release" >fingerprint
lxd-image -q verify "$image" --fingerprint "$(cat fingerprint)"
lxd-image -q simplestreams add "$tree" "$image" --alias "$os/$release"
lxd-image -q simplestreams verify "$tree"
