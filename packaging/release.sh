#!/usr/bin/env bash
# release.sh OUT: makes everything that a release has, from a clean checkout, with checksums.
#
#   lxd-image_…_ARCH.deb, liblxd-image0.2_…, liblxd-image-dev_…   Debian packages (deb.sh), seen by lintian where it is there
#   lxd-image-VERSION-x86_64-linux-musl.tar.xz                     the static program, with man pages and completions
#   lxd-image-VERSION-x86_64.oci.tar                             a container image of `serve`, as an OCI layout (container.sh)
#   lxd-image-VERSION.crate                                        the crate, as crates.io takes it
#   goproxy/                                                       the Go module, for GOPROXY=file://… or any web server
#   lxd-image-VERSION.cdx.json                                     what is in it: CycloneDX 1.5, of Cargo.lock (sbom.py)
#   provenance.json                                                what it was built from, by which compiler
#   SHA256SUMS                                                     of all of them
#
# MODULE names the Go module (default: example.org/lxdimage): `go get` needs a domain, which only the project's owner has.
# SKIP="musl crate" leaves parts out (`musl`: the container image, too). PROFILE (default: dist) names another cargo profile, to
# try this script on what is built already. Sign SHA256SUMS with your own key.
set -euo pipefail

out=${1:?usage: release.sh OUT}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
target=${CARGO_TARGET_DIR:-$root/target}
skip=" ${SKIP:-} "
profile=${PROFILE:-dist}
directory=$profile
features=(--features cli) building=(env)
# The program as the tests build it, so that nothing is built anew: the time of the sources is in no file of a debug build, and C
# libraries are compiled again where it changes.
[ "$profile" != dev ] || directory=debug features=(--workspace --all-features) building=(env -u SOURCE_DATE_EPOCH)
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH CARGO_INCREMENTAL=0
# The same bytes wherever the sources lie. Other flags would build all anew, which another profile is not for.
flags=${RUSTFLAGS:-}
[ "$profile" != dist ] || export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$root=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
mkdir -p "$out"
out=$(realpath "$out")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

packed() {
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$1" -cJf "$2" .
}

"${building[@]}" cargo build --locked --profile "$profile" "${features[@]}" --bin lxd-image
"${building[@]}" PROFILE="$profile" bash ffi/install.sh /usr "$work/installed" >"$work/install.log" 2>&1 || { tail "$work/install.log"; exit 1; }
bash packaging/deb.sh "$target/$directory/lxd-image" "$work/installed" "$out"
if command -v lintian >/dev/null; then
  lintian --fail-on error --profile debian "$out"/*.deb
fi

if [ "${skip#* musl }" = "$skip" ]; then
  triple=$(uname -m)-unknown-linux-musl
  rustup target add "$triple"
  # musl's own compiler for the codecs and SQLite; the linker is Rust's.
  env "CC_$(echo "$triple" | tr - _)=musl-gcc" cargo build --locked --profile "$profile" "${features[@]}" --bin lxd-image --target "$triple"
  mkdir -p "$work/static/completions" "$work/static/man"
  install -m 755 "$target/$triple/$directory/lxd-image" "$work/static/"
  "$work/static/lxd-image" man "$work/static/man" >/dev/null
  for shell in bash zsh fish; do "$work/static/lxd-image" completions "$shell" >"$work/static/completions/lxd-image.$shell"; done
  cp LICENSE-APACHE LICENSE-MIT README.md "$work/static/"
  packed "$work/static" "$out/lxd-image-$version-$(uname -m)-linux-musl.tar.xz"
  RUSTFLAGS=$flags bash packaging/container.sh "$target/$triple/$directory/lxd-image" "$out/lxd-image-$version-$(uname -m).oci.tar"
fi

if [ "${skip#* crate }" = "$skip" ]; then
  cargo package --locked -p lxd-image --no-verify
  cp "$target/package/lxd-image-$version.crate" "$out/"
fi

python3 packaging/gomodule.py "${MODULE:-example.org/lxdimage}" "v$version" "$out/goproxy"
python3 packaging/sbom.py >"$out/lxd-image-$version.cdx.json"
python3 packaging/provenance.py "$version" >"$out/provenance.json"
(cd "$out" && find . -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum) >"$work/sums"
mv "$work/sums" "$out/SHA256SUMS"
ls -l "$out"
