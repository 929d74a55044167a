#!/usr/bin/env bash
# Runs the suite of this bundle on the GPU of this machine and writes one JSON: run.sh [RESULTS.json]. Needs an NVIDIA driver
# and glibc 2.36 or newer, nothing else. Exit 0: everything ran and held; 1: something did not; 3: there is no GPU to run on, and all that needs none held.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=${1:-$here/results.json}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BV_TEST_FIXTURES="$here/fixtures" LC_ALL=C.UTF-8
command="$here/bin/bridge-verify"
code=0

"$command" doctor --json >"$work/doctor.json" || exit 1
if grep -q '"gpu": .*driver for CUDA [0-9.]*; NVIDIA' "$work/doctor.json"; then
  ran=true
else
  ran=false
  echo "NOT RUN ON A GPU: $(grep '"gpu"' "$work/doctor.json")" >&2
fi

for suite in bv_cuda_test bv_gpu_test; do
  "$here/bin/$suite" --gtest_output="json:$work/$suite.json" >"$work/$suite.log" 2>&1 || { code=1; tail -40 "$work/$suite.log" >&2; }
  [ -s "$work/$suite.json" ] || echo '{"tests": 0, "broken": true}' >"$work/$suite.json"
  grep -q '"tests": 0' "$work/$suite.json" && code=1
done

# Every golden model there and back on the GPU, and once under the memory checker where the machine has one.
: >"$work/models.json"
if $ran; then
  for model in "$here"/fixtures/golden/hf/*/; do
    [ -f "$model/config.json" ] || continue
    began=$(date +%s%N)
    "$command" roundtrip --model "$model" --device cuda --only bytes,gpu -q >"$work/model.log" 2>&1
    ended=$?
    [ $ended -eq 0 ] || { code=1; tail -20 "$work/model.log" >&2; }
    printf '%s{"model": "%s", "exit": %d, "ms": %d}' "$([ -s "$work/models.json" ] && echo ', ')" \
      "$(basename "$model")" $ended $((($(date +%s%N) - began) / 1000000)) >>"$work/models.json"
  done
fi
checker="not there"
if $ran && command -v compute-sanitizer >/dev/null; then
  if compute-sanitizer --error-exitcode 9 "$command" roundtrip --model "$here/fixtures/golden/hf/qwen3" --device cuda --only gpu -q \
      >"$work/checker.log" 2>&1; then checker="clean"; else checker="errors"; code=1; tail -20 "$work/checker.log" >&2; fi
fi

# Bytes a second beside the driver's own copies, merges beside cuBLAS where the loader finds it.
if $ran; then
  "$here/bin/bv_gpu_bench" >"$work/bench.json" 2>"$work/bench.log" || { code=1; tail -20 "$work/bench.log" >&2; }
else
  "$here/bin/bv_gpu_bench" --dry >"$work/bench.json" 2>"$work/bench.log" || { code=1; tail -20 "$work/bench.log" >&2; }
fi
[ -s "$work/bench.json" ] || echo '{"broken": true}' >"$work/bench.json"

{
  printf '{"schema": "bridge-gpu/1", "ran_on_gpu": %s, "compute_sanitizer": "%s",\n"doctor": ' "$ran" "$checker"
  cat "$work/doctor.json"
  printf ',\n"models": [%s]' "$(cat "$work/models.json")"
  for suite in bv_cuda_test bv_gpu_test; do
    printf ',\n"%s": ' "$suite"
    cat "$work/$suite.json"
  done
  printf ',\n"benchmarks": '
  cat "$work/bench.json"
  printf '}\n'
} >"$results"
echo "$results"
[ $code -eq 0 ] || exit $code
$ran || exit 3
