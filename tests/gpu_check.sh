#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: builds for it, runs the tests of the operations and of whole tiny models on the
# device, compute-sanitizer on the smaller ones, perplexity on the device beside the CPU's, and times the
# products against cuBLAS FP16 and the program against itself on the CPU and, where they are installed, llama.cpp
# (llama-bench on PATH, GGUF names its model file) and vLLM (`vllm` on PATH). Writes one JSON and, beside it, a page.
#
#   bash tests/gpu_check.sh [OUT.json]      default: build/gpu/gpu_check.json
#
# MODEL names the model directory (default: models-data/SmolLM2-135M-Instruct), STAMP_EVAL_TEXT the text for
# perplexity. What cannot be checked is said and recorded as null.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/setup.sh

[[ $# -eq 0 || ($# -eq 1 && $1 == *.json) ]] || { echo "usage: bash tests/gpu_check.sh [OUT.json]" >&2; exit 2; }
readonly OUT=${1:-build/gpu/gpu_check.json} BUILD=build/gpu MODEL=${MODEL:-$SMOLLM2_DIR} TEXT=${STAMP_EVAL_TEXT:-}
missing() { echo "gpu_check: $1" >&2; exit 2; }
{ command -v nvidia-smi && nvidia-smi -L; } >/dev/null 2>&1 || missing "no NVIDIA GPU here (nvidia-smi finds none)"
command -v nvcc >/dev/null || missing "no nvcc on PATH; install the CUDA toolkit"
nvidia-smi -L >&2
failed=0

say "building for this GPU"
architecture=native
[[ $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1) != 9.0 ]] || architecture=90a  # has wgmma
cmake --preset test -B "$BUILD" -DCMAKE_CUDA_ARCHITECTURES="$architecture" --log-level=WARNING
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

say "products against cuBLAS FP16"
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

# Peers, the same prompt and decode lengths; {"tests": [{"name", "samples"}]} or null.
echo null >"$BUILD/llama.cpp.json"
if command -v llama-bench >/dev/null && [[ -f ${GGUF:-} ]]; then
  say "llama.cpp"
  llama-bench -m "$GGUF" -p 512,2048 -n 128 -r 5 -ngl 99 -o json >"$BUILD/llama_bench.json" &&
    python3 -c 'import json, sys
rows = json.load(open(sys.argv[1]))
name = lambda r: f"pp{r['n_prompt']}" if r["n_prompt"] else f"tg{r['n_gen']}"
print(json.dumps({"tests": [{"name": name(r), "samples": r["samples_ts"]} for r in rows]}))' \
      "$BUILD/llama_bench.json" >"$BUILD/llama.cpp.json" || failed=1
fi
echo null >"$BUILD/vLLM.json"
if command -v vllm >/dev/null && [[ -d $MODEL ]]; then
  say "vLLM"
  tests=()
  for shape in "pp512 512 1" "pp2048 2048 1" "tg128 1 128"; do
    read -r name input output <<<"$shape"
    vllm bench latency --model "$MODEL" --input-len "$input" --output-len "$output" --batch-size 1 --num-iters 5 \
      --output-json "$BUILD/vllm.$name.json" && tests+=("$name" "$((input > output ? input : output))") || failed=1
  done
  python3 -c 'import json, sys
build, *tests = sys.argv[1:]
rows = [{"name": name, "samples": [int(count) / s for s in json.load(open(f"{build}/vllm.{name}.json"))["latencies"]]}
        for name, count in zip(tests[::2], tests[1::2])]
print(json.dumps({"tests": rows}))' "$BUILD" "${tests[@]}" >"$BUILD/vLLM.json" || failed=1
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
    "peers": {name: load(f"{name}.json") for name in ("llama.cpp", "vLLM")},
    **{name: {device: load(f"{name}.{device}.json") for device in ("cuda", "cpu")} for name in ("bench", "perplexity")},
}
out.write_text(json.dumps(result, indent=2) + "\n")
PYTHON
python3 tests/gpu_page.py "$OUT" "${OUT%.json}.html"
say "wrote $OUT and ${OUT%.json}.html"
((failed == 0)) || fail "something failed, see above"
