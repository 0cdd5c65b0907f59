#!/usr/bin/env bash
# Measures stamp against llama.cpp on this machine: the same model, alternating runs.
#
#   bash tests/bench/peers.sh [--rounds 5] [--threads 2]      one sequence of SmolLM2; options go to peers.py
#   bash tests/bench/peers.sh shape [--rounds 3]              a model of 1.1B, its memory, 32k tokens: shape_peers.py
#   bash tests/bench/peers.sh serve [--rounds 5]              stamp serve and llama-server: serve_peers.py
#   LLAMA_BIN=DIR bash tests/bench/peers.sh                   where llama-bench and llama-server are already built
#   LLAMA_BIN=DIR bash tests/bench/peers.sh --ops avx2        where they are built for less than this CPU has, and stamp, too
#
# llama.cpp comes from the source package of llama-cpp-python on PyPI and is built here for this CPU. The table goes
# to stdout, build/peers/*.md and build/peers/*.json, that of one sequence to build/peers/peers.svg, too. Run it on an
# otherwise idle machine: llama.cpp's threads wait for each other by spinning.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tools/setup.sh
readonly PEER=llama_cpp_python-0.3.36
readonly DIR=build/peers
target=llama-bench script=peers.py
case ${1:-} in
  shape) script=shape_peers.py && shift ;;
  serve) target=llama-server script=serve_peers.py && shift ;;
esac

build_llama() {
  local source=$DIR/$PEER/vendor/llama.cpp
  if [[ ! -f $DIR/$PEER.tar.gz ]]; then
    say "downloading the source of llama.cpp ($PEER)"
    "$PYTHON" -m pip download -q --disable-pip-version-check --no-deps --no-binary llama-cpp-python -d "$DIR" \
      "llama-cpp-python==${PEER##*-}" >&2 || fail "pip could not download llama-cpp-python"
  fi
  [[ -f $source/CMakeLists.txt ]] || tar -xzf "$DIR/$PEER.tar.gz" -C "$DIR" "$PEER/vendor"
  local compiler=()
  if grep -qw amx_int8 /proc/cpuinfo; then  # as GCC 12 compiles it, it ends at its first instruction on tiles
    install_debian_packages clang libomp-dev
    compiler=(-DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++)
  fi
  say "building $target"
  cmake "${compiler[@]}" -S "$source" -B "$DIR/llama.cpp" -G Ninja --log-level=WARNING -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DGGML_LLAMAFILE=ON -DGGML_OPENMP=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF \
    -DLLAMA_USE_PREBUILT_UI=OFF >&2 || fail "cmake could not configure llama.cpp"
  cmake --build "$DIR/llama.cpp" --target "$target" >&2 || fail "$target did not build"
}

install_debian_packages "${BUILD_PACKAGES[@]}"
install_python_packages tools/requirements.txt
[[ $target == llama-bench ]] || install_python_packages tests/requirements.txt
make_smollm2
mkdir -p "$DIR"
name="llama.cpp"
if [[ -z ${LLAMA_BIN:-} ]]; then
  build_llama
  LLAMA_BIN=$DIR/llama.cpp/bin
  name="llama.cpp (as in ${PEER%-*} ${PEER##*-})"
fi
say "building build/release/stamp"
cmake --preset release --log-level=WARNING >&2
cmake --build --preset release --target stamp >&2
"$PYTHON" "tests/bench/$script" --stamp build/release/stamp --model "$SMOLLM2_DIR" \
  "--$target" "$LLAMA_BIN/$target" --llama-name "$name" --out "$DIR" "$@"
