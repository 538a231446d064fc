#!/usr/bin/env bash
# tests/page/check.sh PROGRAM [DIRECTORY]: serves a store with all kinds of images on loopback and looks at the page in a
# headless Chromium. Pictures go to DIRECTORY. Needs chromium, nodejs, npm and python3.
set -euo pipefail
program=$(realpath "$1")
pictures=$(realpath -m "${2:-pictures}")
cd "$(dirname "$0")"

work=$(mktemp -d)
servers=()
finish() {
  [ ${#servers[@]} -eq 0 ] || kill "${servers[@]}" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap finish EXIT

# serve NAME: serves the store of that name, and sets `url`.
serve() {
  # The server may be slower to make it than the loop below is to look.
  : >"$work/$1.out"
  LXD_IMAGE_CONFIG="$work/conf" HOME="$work" "$program" --store "$work/$1" serve --name "$2" --listen 127.0.0.1:0 >"$work/$1.out" 2>"$work/$1.log" &
  servers+=($!)
  url=
  for _ in $(seq 100); do
    url=$(sed -n 's/^listening at //p' "$work/$1.out")
    [ -z "$url" ] || return 0
    sleep 0.1
  done
  cat "$work/$1.log" >&2
  return 1
}

cp package.json package-lock.json .npmrc "$work"
(cd "$work" && npm ci --silent)
cp ./*.mjs "$work"
python3 images.py "$program" "$work/full" "$work/files"
serve full "Images of the Example Project"
full=$url
serve empty "Example"
node "$work/check.mjs" "$full" "$url" "$pictures"
