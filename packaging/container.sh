#!/usr/bin/env bash
# container.sh PROGRAM OUT.tar: makes a container image of `lxd-image serve` as an OCI layout in a tar.
#
# PROGRAM must be static (release.sh builds it): the image has nothing beside it but certificates, an account and directories.
# Run it with the store on a volume; it serves HTTPS on port 8443 and makes its certificate in the store's volume:
#
#   skopeo copy oci-archive:lxd-image.tar containers-storage:localhost/lxd-image
#   podman run -p 8443:8443 -v images:/var/lib/lxd-image localhost/lxd-image
#
# CERTIFICATES (default: the machine's) is the file of the authorities that remotes are checked by. SOURCE_DATE_EPOCH (default:
# the last commit's time) is the time of every file, so that the same program gives the same bytes.
set -euo pipefail

program=$(realpath "${1:?usage: container.sh PROGRAM OUT.tar}")
out=$(realpath -m "${2:?usage: container.sh PROGRAM OUT.tar}")
certificates=${CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
case $(uname -m) in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  *) architecture=$(uname -m) ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

# What asks for a loader is not static; `ldd` takes a static program that can be loaded anywhere for one that is not.
if readelf -lW "$program" | grep -q INTERP; then
  echo "container.sh: $program is not static, and the image has no libraries" >&2
  exit 1
fi

mkdir -p "$work/root"/{usr/bin,etc/ssl/certs,var/lib/lxd-image,tmp}
install -m 755 "$program" "$work/root/usr/bin/lxd-image"
install -m 644 "$certificates" "$work/root/etc/ssl/certs/ca-certificates.crt"
echo 'lxd-image:x:65532:65532::/var/lib/lxd-image:/usr/bin/lxd-image' >"$work/root/etc/passwd"
echo 'lxd-image:x:65532:' >"$work/root/etc/group"
chmod 1777 "$work/root/tmp"

# The store's directory alone belongs to the account of the server.
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --format=gnu --numeric-owner --owner=0 --group=0 -C "$work/root" \
  --exclude=./var/lib/lxd-image -cf "$work/layer.tar" .
tar --mtime="@$SOURCE_DATE_EPOCH" --format=gnu --numeric-owner --owner=65532 --group=65532 -C "$work/root" \
  -rf "$work/layer.tar" ./var/lib/lxd-image
gzip -9n <"$work/layer.tar" >"$work/layer.tar.gz"

created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
cat >"$work/config.json" <<C
{
  "created": "$created",
  "architecture": "$architecture",
  "os": "linux",
  "config": {
    "User": "65532:65532",
    "Entrypoint": ["/usr/bin/lxd-image"],
    "Cmd": ["serve", "--listen", "0.0.0.0:8443"],
    "Env": ["LXD_IMAGE_STORE=/var/lib/lxd-image/store", "LXD_IMAGE_CONFIG=/var/lib/lxd-image/config", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
    "ExposedPorts": {"8443/tcp": {}},
    "Volumes": {"/var/lib/lxd-image": {}},
    "WorkingDir": "/var/lib/lxd-image",
    "Labels": {"org.opencontainers.image.title": "lxd-image", "org.opencontainers.image.version": "$version"}
  },
  "history": [{"created": "$created", "created_by": "packaging/container.sh"}]
}
C
rm -f "$out"
# All features, since that is what the tests have built already.
cargo run --locked -q --all-features --example container_layout -- \
  "$work/config.json" "$work/layer.tar" "$work/layer.tar.gz" "$version" "$out"
