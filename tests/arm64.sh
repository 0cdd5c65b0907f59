#!/usr/bin/env bash
# Cross-compiles for 64-bit Arm and runs the kernels' tests under QEMU: NEON's, and of the plain vectors. Not those of the
# plain loops, which are slow there and the same everywhere. The libraries go into build/arm64-sysroot; of the system
# only a compiler and QEMU are asked for.
#
#   bash tests/arm64.sh          exits with 77 if the packages for arm64 cannot be had
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/setup.sh

readonly SYSROOT=$PWD/build/arm64-sysroot
JOBS=$(nproc)
readonly JOBS

# unpack_debian_packages NAME...: these and what they depend on, for arm64, into the sysroot. apt works in a folder of
# its own: what is installed here, and for which architecture, does not matter and stays as it is.
unpack_debian_packages() {
  local made=$SYSROOT/made-of file target
  [[ $(cat "$made" 2>/dev/null) == "$*" ]] && return
  say "unpacking arm64 packages into build/arm64-sysroot: $*"
  local apt_dir=$PWD/build/arm64-apt
  rm -rf "$SYSROOT" "$apt_dir"
  mkdir -p "$SYSROOT" "$apt_dir"/{lists,archives}/partial
  : >"$apt_dir/status"
  local apt=(apt-get -q -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State::status="$apt_dir/status"
    -o Dir::State::lists="$apt_dir/lists" -o Dir::Cache::archives="$apt_dir/archives" -o Dir::Cache::pkgcache=
    -o Dir::Cache::srcpkgcache= -o Debug::NoLocking=1)
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --download-only --no-install-recommends "$@"; } >&2; then
    say "apt-get could not fetch these packages for arm64: $*"
    exit 77
  fi
  for file in "$apt_dir"/archives/*.deb; do dpkg -x "$file" "$SYSROOT"; done
  # Links from the root would lead out of the sysroot.
  find "$SYSROOT" -type l -lname '/*' | while read -r file; do
    target=$(readlink "$file")
    ln -sfn "$SYSROOT$target" "$file"
  done
  rm -rf "$apt_dir"
  echo "$*" >"$made"
}

install_debian_packages cmake ninja-build pkg-config g++-aarch64-linux-gnu qemu-user-static
libraries=(libstdc++-12-dev "${TEST_LIBRARIES[@]}")
for package in "${BUILD_PACKAGES[@]}"; do
  if [[ $package == *-dev ]]; then libraries+=("$package"); fi
done
unpack_debian_packages "${libraries[@]}"
configure_preset arm64
cmake --build --preset arm64 -j "$JOBS" --target kernels_tests
ctest --preset arm64 -j "$JOBS" -R '^kernels\.' -E /reference
