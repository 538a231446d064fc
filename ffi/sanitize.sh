#!/usr/bin/env bash
# sanitize.sh [address] [valgrind] [thread]: runs the C programs of the tests where memory errors, leaks and data races show.
# Without an argument, all three. ROUNDS (default 5) says how often the threads of the last one go round; BUILT=1 that the
# library for valgrind is built.
#
# The sanitizers are those that the stable toolchain carries; RUSTC_BOOTSTRAP=1 opens them, for these builds only. Rust,
# the codecs and SQLite are all compiled with them. std is where its sources are (`rustup component add rust-src`) and
# ThreadSanitizer wants it; elsewhere that one needs `tsan.supp` for what it can't see.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
host=$(rustc -vV | sed -n 's/^host: //p')
rounds=${ROUNDS:-5}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LXD_IMAGE_TEST_REGISTRY=$root/tests/peers/registry.py
export CARGO_PROFILE_DEV_DEBUG=${CARGO_PROFILE_DEV_DEBUG:-0} CARGO_INCREMENTAL=0

runner=()
for name in cases prepare images templates stores trees trust oci serving; do
  runner+=("$here/tests/c/$name.c")
done
mode=debug

# build KIND [OPTION…]: the static library under a sanitizer, in a directory that both share, since macros and build scripts are
# the same. What is made for one is overwritten by the other. Without the engines for many machines, which have no calls of their own
# and take minutes to build.
build() {
  local kind=$1
  shift
  # Not optimised: building takes longer than running.
  CARGO_PROFILE_DEV_OPT_LEVEL=0 RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$kind -Cunsafe-allow-abi-mismatch=sanitizer" CFLAGS="-fsanitize=$kind -fno-omit-frame-pointer" \
    CARGO_TARGET_DIR="$target/sanitize" cargo rustc --locked -p lxd-image-ffi --no-default-features --lib --crate-type staticlib --target "$host" "$@"
}

# compile OUT SOURCE…: with the flags and libraries of the kind at hand.
compile() {
  local out=$1
  shift
  gcc -std=c11 -D_POSIX_C_SOURCE=200809L -g -O1 -pthread "${flags[@]}" -I"$root/include" "$@" "${libraries[@]}" -lstdc++ -lm -ldl -lrt -o "$out"
}

# programs PREFIX…: every program of the tests, under what is in front of it.
programs() {
  local file
  for file in "$root"/tests/cases/*.cases; do
    echo "-- $(basename "$file")"
    "$@" "$work/cases" "$file" "$work/case" >"$work/done"
    cmp "$work/done" "$file"
  done
  local name
  for name in arguments rest; do
    echo "-- $name"
    rm -rf "$work/$name.d"
    mkdir "$work/$name.d"
    if [ "$name" = arguments ]; then
      "$@" "$work/$name" "$mode" "$work/$name.d"
    else
      "$@" "$work/$name" "$work/$name.d"
    fi
  done
}

compile_programs() {
  compile "$work/cases" "${runner[@]}"
  compile "$work/arguments" "$here/tests/c/arguments.c"
  compile "$work/rest" "$here/tests/c/rest.c"
}

address() {
  build address
  flags=(-fsanitize=address -fno-omit-frame-pointer)
  libraries=("$target/sanitize/$host/debug/liblxd_image_ffi.a")
  compile_programs
  # An allocation that is too large is refused as it would be elsewhere, and not the end.
  ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:allocator_may_return_null=1 programs env
}

valgrind_() {
  # What the tests use. With BUILT=1 it is there, and cargo would wait for builds that go on beside this.
  [ "${BUILT:-}" = 1 ] || cargo build --locked --workspace --all-features --lib
  flags=()
  libraries=("$target/debug/liblxd_image_ffi.a")
  compile_programs
  # What is "possibly" lost are std's own pointers into the middle of what they own.
  # The stacks of what is suppressed are deep.
  programs valgrind --quiet --suppressions="$here/valgrind.supp" --num-callers=40 --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite --error-exitcode=9
}

thread() {
  local sysroot runtime std=()
  sysroot=$(rustc --print sysroot)
  # The runtime that fits the compiler: gcc's own lacks calls that Rust's code makes.
  runtime=$sysroot/lib/rustlib/$host/lib/librustc-stable_rt.tsan.a
  suppressions=$here/tsan.supp
  if [ -d "$sysroot/lib/rustlib/src/rust/library" ]; then
    std=("-Zbuild-std=std,panic_unwind")
    suppressions=/dev/null
  else
    echo "the sources of std are not there: races behind its locks are not looked for"
  fi
  # The list of living handles in debug builds has a lock, behind which races would hide.
  export CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false
  build thread "${std[@]}"
  unset CARGO_PROFILE_DEV_DEBUG_ASSERTIONS
  gcc -std=c11 -D_POSIX_C_SOURCE=200809L -g -O1 -pthread -fsanitize=thread -I"$root/include" -c "$here/tests/c/threads.c" -o "$work/threads.o"
  gcc -pthread "$work/threads.o" -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive \
    "$target/sanitize/$host/debug/liblxd_image_ffi.a" -lstdc++ -lm -ldl -lrt -lresolv -Wl,--export-dynamic -o "$work/threads"
  mkdir -p "$work/threads.d"
  TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1:suppressions=$suppressions" "$work/threads" "$work/threads.d" "$rounds"
}

[ $# -gt 0 ] || set -- address valgrind thread
for kind in "$@"; do
  echo "== $kind"
  start=$SECONDS
  case $kind in
    address) address ;;
    valgrind) valgrind_ ;;
    thread) thread ;;
    *) echo "there is no $kind here" >&2; exit 2 ;;
  esac
  echo "== $kind: no error, no leak ($((SECONDS - start)) s)"
done
