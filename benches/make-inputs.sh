#!/usr/bin/env bash
# benches/make-inputs.sh DIR: the real benchmark inputs, made once on a Debian machine as root.
# DIR/rootfs            a Debian bookworm system (about 470 MB, 15,000 entries)
# DIR/unified/*.tar*    unified images of it: none, gz, bz2, xz (one block), xz (many blocks), zst-3, zst-19, lz4
# DIR/split/            meta.tar.xz, rootfs.tar.xz, rootfs-{xz,zstd,gzip}.squashfs
# DIR/templates/        three typical templates; DIR/fingerprints: sha256 of each image as defined
# Running it again makes only what is missing. It takes some minutes and 3 GB.
# shellcheck disable=SC2015,SC2016,SC2034,SC2054 # `put` runs what stands in its quotes; commas are tar's own
set -euo pipefail
dir=${1:?usage: benches/make-inputs.sh DIR}
need=(debootstrap xz-utils zstd lz4 bzip2 gzip pigz squashfs-tools attr libcap2-bin)
missing=(); for p in "${need[@]}"; do dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p"); done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
mkdir -p "$dir"; dir=$(cd "$dir" && pwd); cd "$dir"

if [ ! -e rootfs.done ]; then
  # The machine's own mirror: its first binary package source, whichever style of file holds it.
  mirror=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs:[[:space:]]*\([^ ]*\).*/\1/p' | head -n1)
  [ -n "$mirror" ] || mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\).*/\2/p' | head -n1)
  rm -rf rootfs
  debootstrap --variant=minbase --include=python3,vim,git,openssh-server,systemd-sysv bookworm rootfs "$mirror" >debootstrap.log 2>&1
  rm -rf rootfs/var/cache/apt/archives/*.deb
  # what real images have and a minimal system lacks: hard links, a sparse file, xattrs, odd names
  ln rootfs/usr/bin/perl rootfs/usr/bin/perl-same 2>/dev/null || true
  truncate -s 64M rootfs/var/lib/sparse.img; printf x | dd of=rootfs/var/lib/sparse.img bs=1 seek=33554432 conv=notrunc status=none
  printf 'odd' >"rootfs/root/$(printf 'caf\351')"
  setfattr -n user.note -v hello rootfs/root 2>/dev/null || true
  command -v setcap >/dev/null && setcap cap_net_raw+ep rootfs/bin/cat 2>/dev/null || true
  touch rootfs.done
fi

mkdir -p meta/templates unified split templates
cat >meta/metadata.yaml <<'Y'
architecture: x86_64
creation_date: 1700000000
properties:
  architecture: amd64
  description: Debian bookworm amd64 (bench)
  os: Debian
  release: bookworm
  serial: "20231114"
templates:
  /etc/hostname:
    when: [create, copy]
    template: hostname.tpl
  /etc/hosts:
    when: [create, copy, rename]
    template: hosts.tpl
  /var/lib/cloud/seed/nocloud-net/meta-data:
    when: [start]
    template: meta-data.tpl
    properties:
      default: "none"
Y
printf '{{ container.name }}\n' >templates/hostname.tpl
printf '127.0.0.1\tlocalhost\n127.0.1.1\t{{ container.name }}\n{%% if config_get("user.fqdn", "") != "" %%}127.0.1.1\t{{ config_get("user.fqdn", "") }}{%% endif %%}\n\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n' >templates/hosts.tpl
cat >templates/meta-data.tpl <<'T'
#cloud-config
instance-id: {{ container.name }}
local-hostname: {{ container.name }}
{% if config_get("user.meta-data", "") %}{{ config_get("user.meta-data", properties.default) }}{% else %}{{ properties.default }}{% endif %}
{% for name, device in devices sorted %}{% if device.type == "nic" %}# {{ name }}: {{ device.hwaddr|default:"auto" }}
{% endif %}{% endfor %}
T
cp templates/*.tpl meta/templates/

base=(--numeric-owner --xattrs --xattrs-include='*' --acls --sparse --sort=name --format=posix --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime)
put() { [ -s "$2" ] || { eval "$1" >"$2.part" && mv "$2.part" "$2"; }; }
put 'tar "${base[@]}" -cf - -C meta metadata.yaml templates -C .. rootfs' unified/image.tar
put 'gzip -6 -n <unified/image.tar'        unified/image.tar.gz
put 'bzip2 -9 <unified/image.tar'          unified/image.tar.bz2
put 'xz -6 -T1 <unified/image.tar'         unified/image-1block.tar.xz
put 'xz -6 -T2 --block-size=16MiB <unified/image.tar' unified/image-blocks.tar.xz
put 'zstd -q -3 -c <unified/image.tar'     unified/image-3.tar.zst
put 'zstd -q -19 -T2 -c <unified/image.tar' unified/image-19.tar.zst
put 'lz4 -q -c <unified/image.tar'         unified/image.tar.lz4
put 'tar "${base[@]}" -cf - -C meta metadata.yaml templates | xz -6' split/meta.tar.xz
put 'tar "${base[@]}" -cf - -C rootfs . | xz -6 -T2' split/rootfs.tar.xz
for c in xz zstd gzip; do
  [ -s split/rootfs-$c.squashfs ] || mksquashfs rootfs split/rootfs-$c.squashfs -comp $c -xattrs -noappend -no-progress -quiet >/dev/null
done
{ for f in unified/*; do echo "$(sha256sum <"$f" | cut -d' ' -f1)  $f"; done
  for r in split/rootfs*; do echo "$(cat split/meta.tar.xz "$r" | sha256sum | cut -d' ' -f1)  split/meta.tar.xz+$r"; done; } >fingerprints
echo "inputs are in $dir: $(find rootfs | wc -l) entries, $(du -sm rootfs | cut -f1) MB"
