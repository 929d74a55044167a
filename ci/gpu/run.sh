#!/usr/bin/env bash
# Runs the suite of this bundle on the GPU of this machine and writes one JSON: run.sh [RESULTS.json [MIB]]. Benchmarks move MIB
# (1024). Needs an NVIDIA driver and glibc 2.36 or newer, nothing else. Exit 0: everything ran and held; 1: something did not; 3: there is no GPU to run on, and all that needs none held.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=${1:-$here/results.json}
mib=${2:-1024}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BV_TEST_FIXTURES="$here/fixtures" LC_ALL=C.UTF-8
command="$here/bin/bridge-verify"
code=0

"$command" doctor --json >"$work/doctor.json" || exit 1
# What there is is asked of the GPU itself, by a program that uses it.
device=$("$here/bin/bv_gpu_bench" --device 2>"$work/device.log")
case $? in
  0) ran=true ;;
  3) ran=false; echo "NOT RUN ON A GPU: $(head -1 "$work/device.log")" >&2 ;;
  *) ran=false; code=1; cat "$work/device.log" >&2 ;;
esac

for suite in bv_cuda_test bv_gpu_test; do
  "$here/bin/$suite" --gtest_output="json:$work/$suite.json" >"$work/$suite.log" 2>&1 || { code=1; tail -40 "$work/$suite.log" >&2; }
  [ -s "$work/$suite.json" ] || echo '{"tests": 0, "broken": true}' >"$work/$suite.json"
  grep -q '"tests": 0' "$work/$suite.json" && code=1
done
# On a GPU a test of it that skips itself is a fault; only NCCL may be away.
if $ran && grep -q '^\[  SKIPPED \] Gpu\.' <(grep -v CarriesCollectivesByNccl "$work/bv_gpu_test.log"); then
  echo "tests of the GPU skipped themselves" >&2
  code=1
fi

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

# A model of a few layers with the sizes of a 35B mixture of experts (4 GB; a small one for small benchmarks), there and back on
# the GPU and on the processor.
slice='null'
if $ran; then
  sizes=(hidden_size=2048 num_experts=96 moe_intermediate_size=512 shared_expert_intermediate_size=512 head_dim=256 vocab_size=32000
         num_attention_heads=16 num_key_value_heads=2 linear_num_key_heads=16 linear_num_value_heads=32 linear_key_head_dim=128
         linear_value_head_dim=128)
  [ "$mib" -ge 1024 ] || sizes=(vocab_size=640)
  if "$command" fixture make qwen3_5_moe --out "$work/slice" "${sizes[@]/#/--set=}" -q >"$work/slice.log" 2>&1; then
    for where in cuda cpu; do
      began=$(date +%s%N)
      "$command" roundtrip --model "$work/slice" --device $where --only bytes --layout tp2pp1ep2etp1 -q >"$work/slice.log" 2>&1
      ended=$?
      [ $ended -eq 0 ] || { code=1; tail -20 "$work/slice.log" >&2; }
      slice="${slice#null}, \"$where\": {\"exit\": $ended, \"ms\": $((($(date +%s%N) - began) / 1000000))}"
    done
    slice="{\"kib\": $(du -sk "$work/slice" | cut -f1)$slice}"
  else
    code=1
    cat "$work/slice.log" >&2
  fi
  rm -rf "$work/slice"
fi

# Bytes a second beside the driver's own copies, merges beside cuBLAS where the loader finds it.
if $ran; then
  "$here/bin/bv_gpu_bench" "$mib" >"$work/bench.json" 2>"$work/bench.log" || { code=1; tail -20 "$work/bench.log" >&2; }
else
  "$here/bin/bv_gpu_bench" --dry >"$work/bench.json" 2>"$work/bench.log" || { code=1; tail -20 "$work/bench.log" >&2; }
fi
[ -s "$work/bench.json" ] || echo '{"broken": true}' >"$work/bench.json"

{
  printf '{"schema": "bridge-gpu/1", "ran_on_gpu": %s, "gpu": "%s", "compute_sanitizer": "%s",\n"doctor": ' "$ran" "${device//\"/}" "$checker"
  cat "$work/doctor.json"
  printf ',\n"models": [%s]' "$(cat "$work/models.json")"
  for suite in bv_cuda_test bv_gpu_test; do
    printf ',\n"%s": ' "$suite"
    cat "$work/$suite.json"
  done
  printf ',\n"slice": %s' "$slice"
  printf ',\n"benchmarks": '
  cat "$work/bench.json"
  printf '}\n'
} >"$results"
echo "$results"
[ $code -eq 0 ] || exit $code
$ran || exit 3
