#!/usr/bin/env bash
# faces.sh [IMAGE…]: what C and Go cost over Rust. Builds the library with the profile `release`, which takes minutes, and has a program in each language verify,
# unpack and pack the same image, in turns, in one run: times, peak memory, and their ratios to Rust. Fails if C or Go takes over 1.05 of Rust's processor time.
#
# Without IMAGE it makes one of 300 MB: text, numbers and holes in 3,000 files. RUNS (default 11) says how often each runs; PREFIX where the library is
# installed (default: a temporary directory; BUILT=1 says that it is there, and so is the example).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
target=${CARGO_TARGET_DIR:-$root/target}
work=$(mktemp -d "${WORK:-/dev/shm}/lxi-faces-XXXXXX")
trap 'rm -rf "$work"' EXIT
prefix=${PREFIX:-$work/prefix}

cd "$root"
if [ "${BUILT:-}" != 1 ]; then
  bash ffi/install.sh "$prefix"
  cargo build --locked --release -p lxd-image-ffi --example unpack
fi

images=("$@")
if [ ${#images[@]} = 0 ]; then
  python3 - "$work/root" <<'P'
import os, random, sys
random.seed(1)
words = [bytes(random.choices(b"etaoinshrdlucmfwyp", k=random.randint(2, 9))) for _ in range(4000)]
for number in range(3000):
    path = os.path.join(sys.argv[1], "rootfs", "usr", str(number % 60), str(number))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    size = 100 << (number % 11 if number % 30 else 12)
    with open(path, "wb") as file:
        while file.tell() < size:
            file.write(b" ".join(random.choices(words, k=2000)) if number % 3 else random.randbytes(8192))
P
  printf 'architecture: x86_64\ncreation_date: 1700000000\n' >"$work/root/metadata.yaml"
  tar -C "$work/root" -c metadata.yaml rootfs | zstd -q -3 -o "$work/image.tar.zst"
  rm -rf "$work/root"
  images=("$work/image.tar.zst")
fi
ls -l "${images[@]}"
python3 "$here/ffi.py" "${images[@]}" --pack --most 1.05 --runs "${RUNS:-11}" --bin "$target/release/examples/unpack" --prefix "$prefix" --work "$work"
