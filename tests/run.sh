#!/usr/bin/env bash
# Installs what is missing on a bare Debian 12, builds, and runs every test: formatting, the optimised build, then
# the unit tests and fuzz replays under AddressSanitizer with UndefinedBehaviorSanitizer and under ThreadSanitizer, and
# the kernels for 64-bit Arm under QEMU.
#
#   bash tests/run.sh            all, under 50 minutes on 2 cores
#   bash tests/run.sh quick      formatting and the optimised build only
#
# STAMP_EVAL_TEXT names the raw test split of WikiText-2 for the tests against published perplexities; without it
# ../shared/data/wikitext-2-test.raw is taken if it exists.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/setup.sh

[[ $# -eq 0 || ($# -eq 1 && $1 == quick) ]] || { echo "usage: bash tests/run.sh [quick]" >&2; exit 2; }
readonly MODE=${1:-all}
JOBS=$(nproc)
readonly JOBS
readonly TEST_DATA=$PWD/build/test-data
failures=()
failed_logs=()
not_run=

# stage NAME COMMAND...: runs the command; a failure is reported at the end, the other stages still run.
stage() {
  local name=$1 start=$SECONDS
  shift
  say "$name"
  if "$@"; then
    say "$name: passed in $((SECONDS - start)) s"
  else
    say "$name: FAILED"
    failures+=("$name")
  fi
}

check_format() {
  git ls-files -z -- '*.h' '*.cpp' '*.inl' '*.cu' '*.cuh' | xargs -0 clang-format-14 --dry-run -Werror
}

# configure PRESET
configure() {
  configure_preset "$1" -DSTAMP_TEST_DATA_DIR="$TEST_DATA" -DSTAMP_SMOLLM2_DIR="$PWD/$SMOLLM2_DIR" \
    -DSTAMP_EVAL_TEXT="$eval_text" -DSTAMP_PYTHON="$PWD/$PYTHON"
}

# run_tests PRESET OPTION...: a failure keeps ctest's log for the report.
run_tests() {
  local preset=$1
  shift
  ctest --preset "$preset" -j "$JOBS" "$@" || { failed_logs+=("build/$preset/Testing/Temporary/LastTest.log"); return 1; }
}

# failed_tests LOG: of each test in ctest's log that did not pass, its name and the end of its output. Thousands of lines
# lie between a failure and the end of a run.
failed_tests() {
  awk 'function report() { if (name != "" && !passed) { print "== " name; for (i = n > 60 ? n - 60 : 0; i < n; ++i) print line[i] } }
       /^[0-9]+\/[0-9]+ Testing: / { report(); name = $3; n = passed = 0 }
       /^End testing: / { report(); name = "" }
       /^Test (Passed|Skipped)/ { passed = 1 }
       { line[n++] = $0 }' "$1"
}

test_optimised() {
  configure test && cmake --build --preset test -j "$JOBS" && run_tests test
}

# test_sanitized PRESET NAME_REGEX TARGET...: builds the targets and runs the tests whose names match. Those on the
# real model would take too long here, and the tiny ones take the same paths; so would whole models on the plain loops
# of `reference`, which the kernels' tests run, and many sequences without vectors.
test_sanitized() {
  local preset=$1 regex=$2
  shift 2
  configure "$preset" && cmake --build --preset "$preset" -j "$JOBS" --target "$@" &&
    run_tests "$preset" -R "$regex" -E 'SmolLm2|(LlamaTest|DeterminismTest).*/reference|BatcherTest.*/scalar'
}

test_arm64() {
  local log=build/arm64/Testing/Temporary/LastTest.log
  rm -f "$log"
  local code=0
  bash tests/arm64.sh || code=$?
  if [[ -f $log && $code -ne 0 ]]; then failed_logs+=("$log"); fi
  if ((code == 77)); then not_run="; NOT RUN: 64-bit Arm, whose packages could not be fetched"; fi
  ((code == 0 || code == 77))
}

install_debian_packages "${BUILD_PACKAGES[@]}" "${TEST_LIBRARIES[@]}" chromium clang-format-14 git libbenchmark-dev \
  nginx-light openssl systemd
install_python_packages tools/requirements.txt
install_python_packages tests/requirements.txt
make_smollm2
eval_text=${STAMP_EVAL_TEXT:-../shared/data/wikitext-2-test.raw}
if [[ -f $eval_text ]]; then
  eval_text=$(realpath -- "$eval_text")
elif [[ -n ${STAMP_EVAL_TEXT:-} ]]; then
  fail "STAMP_EVAL_TEXT=$STAMP_EVAL_TEXT: no such file"
else
  say "NOTICE: no evaluation text (WikiText-2 raw test split); set STAMP_EVAL_TEXT to run the tests that need it"
  eval_text=
fi
say "writing tiny models into build/test-data"
"$PYTHON" tests/prepare_data.py "$TEST_DATA"

stage "formatting" check_format
stage "optimised build" test_optimised
if [[ $MODE == all ]]; then
  fuzzers=(tests/fuzz/*_fuzz.cpp)
  fuzzers=("${fuzzers[@]##*/}")
  stage "AddressSanitizer and UndefinedBehaviorSanitizer" test_sanitized asan \
    '^(kernels|models|engine|tools|fuzz)\.|^python\.serve_(hostile|wire)_check' \
    kernels_tests models_tests engine_tests tools_tests tiny_model_cli "${fuzzers[@]%.cpp}"
  stage "ThreadSanitizer" test_sanitized tsan '^(kernels|engine)\.' kernels_tests engine_tests
  stage "64-bit Arm under QEMU" test_arm64
fi

if ((${#failures[@]})); then
  for log in "${failed_logs[@]}"; do failed_tests "$log"; done
  say "FAILED: ${failures[*]}"
  exit 1
fi
say "all passed in $((SECONDS / 60)) min $((SECONDS % 60)) s$not_run"
