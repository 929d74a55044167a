#!/usr/bin/env bash
# Runs the suite of this bundle on the GPU of this machine and writes one JSON: run.sh [RESULTS.json [MIB]]. Benchmarks move MIB
# (1024). Needs an NVIDIA driver, glibc 2.36 or newer, tar and gzip, and 12 GB of disk below TMPDIR; nothing else. Exit 0: everything ran and held; 1: something did not; 3: there is no GPU to run on, and all that needs none held.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=${1:-$here/results.json}
mib=${2:-1024}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BV_TEST_FIXTURES="$here/fixtures" LC_ALL=C.UTF-8
# Executables travel compressed. They are unpacked beside this script, or where there is room for them.
bin=$here/bin
if [ ! -e "$bin/bridge-verify" ]; then
  tar -xzf "$here/bin.tar.gz" -C "$here" 2>/dev/null || { bin=$work/bin; tar -xzf "$here/bin.tar.gz" -C "$work" || exit 1; }
fi
command="$bin/bridge-verify"
code=0

"$command" doctor --json >"$work/doctor.json" || exit 1
# What there is is asked of the GPU itself, by a program that uses it.
device=$("$bin/bv_gpu_bench" --device 2>"$work/device.log")
case $? in
  0) ran=true ;;
  3) ran=false; echo "NOT RUN ON A GPU: $(head -1 "$work/device.log")" >&2 ;;
  *) ran=false; code=1; cat "$work/device.log" >&2 ;;
esac

for suite in bv_cuda_test bv_gpu_test; do
  "$bin/$suite" --gtest_output="json:$work/$suite.json" >"$work/$suite.log" 2>&1 || { code=1; tail -40 "$work/$suite.log" >&2; }
  [ -s "$work/$suite.json" ] || echo '{"tests": 0, "broken": true}' >"$work/$suite.json"
  grep -q '"tests": 0' "$work/$suite.json" && code=1
done
# On a GPU a test of it that skips itself is a fault; only NCCL may be away.
if $ran && grep -q '^\[  SKIPPED \] Gpu[A-Za-z]*\.' <(grep -v CarriesCollectivesByNccl "$work/bv_gpu_test.log"); then
  echo "tests of the GPU skipped themselves" >&2
  code=1
fi

# The same files with the same bytes below two folders.
same() { [ "$(cd "$1" && find . -type f -exec cksum {} + | sort)" = "$(cd "$2" && find . -type f -exec cksum {} + | sort)" ]; }
now() { date +%s%N; }

# Every golden model there and back on the GPU, every golden adapter merged there and on the processor, and once under the memory
# checker where the machine has one.
: >"$work/models.json"
: >"$work/adapters.json"
if $ran; then
  for model in "$here"/fixtures/golden/hf/*/; do
    [ -f "$model/config.json" ] || continue
    began=$(now)
    "$command" roundtrip --model "$model" --device cuda --only bytes,gpu -q >"$work/model.log" 2>&1
    ended=$?
    [ $ended -eq 0 ] || { code=1; tail -20 "$work/model.log" >&2; }
    printf '%s{"model": "%s", "exit": %d, "ms": %d}' "$([ -s "$work/models.json" ] && echo ', ')" \
      "$(basename "$model")" $ended $((($(now) - began) / 1000000)) >>"$work/models.json"
  done
  for golden in "$here"/fixtures/golden/peft/*/; do
    [ -d "$golden/adapter" ] && [ -d "$golden/base" ] || continue
    equal=true
    for where in cuda cpu; do
      "$command" lora merge --model "$golden/base" --adapter "$golden/adapter" --untie --out "$work/merged.$where" --device $where -q \
        >"$work/model.log" 2>&1 || { equal=false; tail -20 "$work/model.log" >&2; }
    done
    $equal && same "$work/merged.cuda" "$work/merged.cpu" || { equal=false; code=1; echo "$golden is merged to other bytes" >&2; }
    printf '%s{"adapter": "%s", "same_bytes": %s}' "$([ -s "$work/adapters.json" ] && echo ', ')" "$(basename "$golden")" $equal \
      >>"$work/adapters.json"
    rm -rf "$work"/merged.*
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
      began=$(now)
      "$command" roundtrip --model "$work/slice" --device $where --only bytes --layout tp2pp1ep2etp1 -q >"$work/slice.log" 2>&1
      ended=$?
      [ $ended -eq 0 ] || { code=1; tail -20 "$work/slice.log" >&2; }
      slice="${slice#null}, \"$where\": {\"exit\": $ended, \"ms\": $((($(now) - began) / 1000000))}"
    done
    # LoRA of the slice: every projection and every expert, merged there and on the processor. It takes the slice twice more of disk.
    kib=$(du -sk "$work/slice" | cut -f1)
    if [ "$(df -Pk "$work" | awk 'NR == 2 {print $4}')" -lt $((kib * 5 / 2)) ]; then
      code=1
      echo "no room below $work for the merged slices: set TMPDIR" >&2
      slice="$slice, \"lora\": \"no room\""
    else
      "$bin/bv_gpu_bench" --adapter "$work/slice" "$work/adapter" 32 >"$work/slice.log" 2>&1 || { code=1; cat "$work/slice.log" >&2; }
      lora="\"kib\": $(du -sk "$work/adapter" | cut -f1)"
      for where in cuda cpu; do
        began=$(now)
        "$command" lora merge --model "$work/slice" --adapter "$work/adapter" --out "$work/merged.$where" --device $where -q \
          >"$work/slice.log" 2>&1
        ended=$?
        [ $ended -eq 0 ] || { code=1; tail -20 "$work/slice.log" >&2; }
        lora="$lora, \"$where\": {\"exit\": $ended, \"ms\": $((($(now) - began) / 1000000))}"
      done
      if same "$work/merged.cuda" "$work/merged.cpu"; then equal=true; else equal=false; code=1; echo "the slice is merged to other bytes" >&2; fi
      slice="$slice, \"lora\": {$lora, \"same_bytes\": $equal}"
      rm -rf "$work/adapter" "$work"/merged.*
    fi
    slice="{\"kib\": $(du -sk "$work/slice" | cut -f1)$slice}"
  else
    code=1
    cat "$work/slice.log" >&2
  fi
  rm -rf "$work/slice"
fi

# Bytes a second beside the driver's own copies, merges beside cuBLAS where the loader finds it.
if $ran; then
  "$bin/bv_gpu_bench" "$mib" >"$work/bench.json" 2>"$work/bench.log" || { code=1; tail -20 "$work/bench.log" >&2; }
else
  "$bin/bv_gpu_bench" --dry >"$work/bench.json" 2>"$work/bench.log" || { code=1; tail -20 "$work/bench.log" >&2; }
fi
[ -s "$work/bench.json" ] || echo '{"broken": true}' >"$work/bench.json"

{
  printf '{"schema": "bridge-gpu/1", "ran_on_gpu": %s, "gpu": "%s", "compute_sanitizer": "%s",\n"doctor": ' "$ran" "${device//\"/}" "$checker"
  cat "$work/doctor.json"
  printf ',\n"models": [%s]' "$(cat "$work/models.json")"
  printf ',\n"adapters": [%s]' "$(cat "$work/adapters.json")"
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
