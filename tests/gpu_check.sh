#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: builds for it, runs the tests of the operations and of whole tiny models on the
# device, compute-sanitizer on the smaller ones, perplexity on the device beside the CPU's, and times the integer
# products against cuBLAS FP16 and the program against itself on the CPU. Writes one JSON.
#
#   bash tests/gpu_check.sh [OUT.json]      default: build/gpu/gpu_check.json
#
# MODEL names the model directory (default: models-data/SmolLM2-135M-Instruct), STAMP_EVAL_TEXT the text for
# perplexity. What cannot be checked is said and recorded as null.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/setup.sh

readonly OUT=${1:-build/gpu/gpu_check.json} BUILD=build/gpu MODEL=${MODEL:-$SMOLLM2_DIR} TEXT=${STAMP_EVAL_TEXT:-}
command -v nvidia-smi >/dev/null && nvidia-smi -L >&2 || fail "no NVIDIA GPU here (nvidia-smi finds none)"
command -v nvcc >/dev/null || fail "no nvcc on PATH; install the CUDA toolkit"
failed=0

say "building for this GPU"
cmake --preset test -B "$BUILD" -DCMAKE_CUDA_ARCHITECTURES=native --log-level=WARNING
cmake --build "$BUILD" -j "$(nproc)" --target stamp cuda_device_tests cuda_products

say "operations and tiny models on the device"
"$BUILD/tests/cuda_device_tests" --gtest_brief=1 --gtest_output="json:$BUILD/tests.json" || failed=1

sanitized=null
if command -v compute-sanitizer >/dev/null; then
  sanitized=true
  for tool in memcheck racecheck synccheck initcheck; do
    say "compute-sanitizer $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 1 "$BUILD/tests/cuda_device_tests" --gtest_brief=1 \
      --gtest_filter='*Elementwise*:*TransformedCoefficients*:*IntegerProductsEqual*:*DecodingInto*' || sanitized=false
  done
  [[ $sanitized == true ]] || failed=1
else
  say "NOT CHECKED: no compute-sanitizer here"
fi

say "integer products against cuBLAS FP16"
"$BUILD/tests/cuda_products" >"$BUILD/products.json" || { failed=1; echo null >"$BUILD/products.json"; }

# measure NAME ARGUMENTS...: `stamp NAME ...` on both devices into $BUILD/NAME.{cuda,cpu}.json
measure() {
  local name=$1 device
  shift
  for device in cuda cpu; do
    say "stamp $name on $device"
    "$BUILD/stamp" "$name" --model "$MODEL" --recipe w4a8kv4-stamp --device "$device" "$@" \
      --json "$BUILD/$name.$device.json" || { failed=1; echo null >"$BUILD/$name.$device.json"; }
  done
}
for name in bench perplexity; do for device in cuda cpu; do echo null >"$BUILD/$name.$device.json"; done; done
if [[ -d $MODEL ]]; then
  measure bench --prefill 512,2048 --decode 128 --depth 0,2048 --repeat 5
  if [[ -f $TEXT ]]; then measure perplexity --file "$TEXT" --protocol gptq --context 2048 --chunks 20
  else say "NOT CHECKED: no evaluation text (STAMP_EVAL_TEXT), so no perplexity"; fi
else
  say "NOT CHECKED: no model directory $MODEL, so neither speed nor perplexity of a model"
fi

python3 - "$BUILD" "$OUT" "$sanitized" <<'PYTHON'
import json
import subprocess
import sys
from pathlib import Path

build, out, sanitized = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
load = lambda name: json.loads((build / name).read_text()) if (build / name).exists() else None
tests = load("tests.json")
gpu = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True,
                     text=True).stdout.strip()
result = {
    "gpu": gpu,
    "tests": tests and {key: tests[key] for key in ("tests", "failures", "errors")},
    "compute_sanitizer_clean": sanitized,
    "products": load("products.json"),
    **{name: {device: load(f"{name}.{device}.json") for device in ("cuda", "cpu")} for name in ("bench", "perplexity")},
}
out.write_text(json.dumps(result, indent=2) + "\n")
PYTHON
say "wrote $OUT"
((failed == 0)) || fail "something failed, see above"
