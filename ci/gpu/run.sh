#!/usr/bin/env bash
# Runs the suite of this bundle on the GPU of this machine and writes one JSON: run.sh [RESULTS.json [MIB]]. Benchmarks move MIB
# (1024). Needs an NVIDIA driver, glibc 2.36 or newer, tar and gzip, and 12 GB of disk below TMPDIR; nothing else. Exit 0: everything ran and held; 1: something did not; 3: there is no GPU to run on, and all that needs none held.
# A step that takes longer than BV_STEP_SECONDS (1800) is ended, and is a fault. CUDA_VISIBLE_DEVICES chooses one of several GPUs.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=${1:-$here/results.json}
mib=${2:-1024}
fail() { echo "run.sh: $*" >&2; exit 1; }
case $mib in '' | *[!0-9]*) fail "$mib is not a number of MiB" ;; esac
# What an earlier run said is gone before this one says anything.
[ ! -f "$results" ] || rm -f "$results" || fail "$results of an earlier run cannot be removed"
: >"$results" || fail "$results cannot be written: name another file"
[ ! -f "$results" ] || rm -f "$results"
work=$(mktemp -d) || fail "no folder can be made below ${TMPDIR:-/tmp}: set TMPDIR"
finished=false
leave() {
  code=$?
  trap - EXIT
  $finished || { write_results || code=1; }
  rm -rf "$work"
  exit $code
}
trap leave EXIT
trap 'exit 1' HUP INT TERM
# What a job or a user has set for other runs: a world of processes, options, files of settings.
for name in $(compgen -e); do
  case $name in
    BRIDGE_VERIFY_* | RANK | WORLD_SIZE | MASTER_* | LOCAL_RANK | LOCAL_WORLD_SIZE | GROUP_* | ROLE_* | TORCHELASTIC_* | SLURM_* | OMPI_* | PMI* | MPI_* | PALS_*)
      unset "$name" ;;
  esac
done
export BV_TEST_FIXTURES="$here/fixtures" LC_ALL=C.UTF-8 XDG_CONFIG_HOME=$work/settings
# Executables travel compressed. They are unpacked beside this script, or where there is room for them.
bin=$here/bin
if [ ! -e "$bin/bridge-verify" ]; then
  tar -xzf "$here/bin.tar.gz" -C "$here" 2>/dev/null || { bin=$work/bin; tar -xzf "$here/bin.tar.gz" -C "$work" || exit 1; }
fi
command="$bin/bridge-verify"
code=0
ran=false
device=none
checker="not there"
slice='null'
kib_of() { [ -e "$1" ] && du -sk "$1" | cut -f1 || echo 0; }
step() { timeout -k 10 "${BV_STEP_SECONDS:-1800}" "$@"; }
# What was written of a file of JSON, or that there is none: a program that was killed leaves half of it.
json_of() {
  if [ -s "$work/$1" ] && [ -e "$work/$1.whole" ]; then cat "$work/$1"; else printf '{"broken": true}'; fi
}
write_results() {
  {
    printf '{"schema": "bridge-gpu/1", "complete": %s, "ran_on_gpu": %s, "gpu": "%s", "compute_sanitizer": "%s",\n"doctor": ' \
      "$finished" "$ran" "$(printf '%s' "$device" | tr -cd '[:alnum:] .,()_/-')" "$checker" &&
      json_of doctor.json &&
      printf ',\n"models": [%s]' "$(cat "$work/models.json" 2>/dev/null)" &&
      printf ',\n"adapters": [%s]' "$(cat "$work/adapters.json" 2>/dev/null)" &&
      for suite in bv_cuda_test bv_gpu_test; do
        printf ',\n"%s": ' "$suite" && json_of "$suite.json" || return 1
      done &&
      printf ',\n"slice": %s,\n"benchmarks": ' "$slice" &&
      json_of bench.json &&
      printf '}\n'
  } >"$results" || { echo "run.sh: $results could not be written" >&2; return 1; }
  echo "$results"
}

step "$command" doctor --json >"$work/doctor.json" || fail "bridge-verify does not run on this machine"
: >"$work/doctor.json.whole"
# What there is is asked of the GPU itself, by a program that uses it.
device=$(step "$bin/bv_gpu_bench" --device 2>"$work/device.log")
case $? in
  0) ran=true ;;
  3) ran=false; echo "NOT RUN ON A GPU: $(head -1 "$work/device.log")" >&2 ;;
  *) ran=false; code=1; cat "$work/device.log" >&2 ;;
esac

for suite in bv_cuda_test bv_gpu_test; do
  step "$bin/$suite" --gtest_output="json:$work/$suite.json" >"$work/$suite.log" 2>&1 || { code=1; tail -40 "$work/$suite.log" >&2; }
  tail -c 2 "$work/$suite.json" 2>/dev/null | grep -q '}' && : >"$work/$suite.json.whole"  # gtest writes it at the end
  grep -q '"tests": [1-9]' "$work/$suite.json" || code=1
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
    step "$command" roundtrip --model "$model" --device cuda --only bytes,gpu -q >"$work/model.log" 2>&1
    ended=$?
    [ $ended -eq 0 ] || { code=1; tail -20 "$work/model.log" >&2; }
    printf '%s{"model": "%s", "exit": %d, "ms": %d}' "$([ -s "$work/models.json" ] && echo ', ')" \
      "$(basename "$model")" $ended $((($(now) - began) / 1000000)) >>"$work/models.json"
  done
  for golden in "$here"/fixtures/golden/peft/*/; do
    [ -d "$golden/adapter" ] && [ -d "$golden/base" ] || continue
    equal=true
    for where in cuda cpu; do
      step "$command" lora merge --model "$golden/base" --adapter "$golden/adapter" --untie --out "$work/merged.$where" --device $where -q \
        >"$work/model.log" 2>&1 || { equal=false; tail -20 "$work/model.log" >&2; }
    done
    $equal && same "$work/merged.cuda" "$work/merged.cpu" || { equal=false; code=1; echo "$golden is merged to other bytes" >&2; }
    printf '%s{"adapter": "%s", "same_bytes": %s}' "$([ -s "$work/adapters.json" ] && echo ', ')" "$(basename "$golden")" $equal \
      >>"$work/adapters.json"
    rm -rf "$work"/merged.*
  done
fi
under() {  # a tool of the checker, then a command line
  step compute-sanitizer --tool "$1" --error-exitcode 9 "$command" "${@:2}" -q >"$work/checker.log" 2>&1 && return
  checker="errors"
  code=1
  tail -20 "$work/checker.log" >&2
}
if $ran && command -v compute-sanitizer >/dev/null; then
  checker="clean"
  adapter=$here/fixtures/golden/peft/llama_all
  for tool in memcheck racecheck initcheck synccheck; do
    # A dense model, tensors that are turned in tiles, and a merge.
    under "$tool" roundtrip --model "$here/fixtures/golden/hf/qwen3" --device cuda --only gpu
    under "$tool" roundtrip --model "$here/fixtures/golden/hf/gpt_oss" --device cuda --only gpu
    under "$tool" lora merge --model "$adapter/base" --adapter "$adapter/adapter" --out "$work/checked" --overwrite --device cuda
  done
fi

# A model of a few layers with the sizes of a 35B mixture of experts (4 GB; a small one for small benchmarks), there and back on
# the GPU and on the processor.
if $ran; then
  sizes=(hidden_size=2048 num_experts=96 moe_intermediate_size=512 shared_expert_intermediate_size=512 head_dim=256 vocab_size=32000
         num_attention_heads=16 num_key_value_heads=2 linear_num_key_heads=16 linear_num_value_heads=32 linear_key_head_dim=128
         linear_value_head_dim=128)
  [ "$mib" -ge 1024 ] || sizes=(vocab_size=640)
  if step "$command" fixture make qwen3_5_moe --out "$work/slice" "${sizes[@]/#/--set=}" -q >"$work/slice.log" 2>&1; then
    for where in cuda cpu; do
      began=$(now)
      step "$command" roundtrip --model "$work/slice" --device $where --only bytes --layout tp2pp1ep2etp1 -q >"$work/slice.log" 2>&1
      ended=$?
      [ $ended -eq 0 ] || { code=1; tail -20 "$work/slice.log" >&2; }
      slice="${slice#null}, \"$where\": {\"exit\": $ended, \"ms\": $((($(now) - began) / 1000000))}"
    done
    # LoRA of the slice: every projection and every expert, merged there and on the processor. It takes the slice twice more of disk.
    kib=$(kib_of "$work/slice")
    if [ "$(df -Pk "$work" | awk 'NR == 2 {print $4}')" -lt $((kib * 5 / 2)) ]; then
      code=1
      echo "no room below $work for the merged slices: set TMPDIR" >&2
      slice="$slice, \"lora\": \"no room\""
    else
      step "$bin/bv_gpu_bench" --adapter "$work/slice" "$work/adapter" 32 >"$work/slice.log" 2>&1 || { code=1; cat "$work/slice.log" >&2; }
      lora="\"kib\": $(kib_of "$work/adapter")"
      for where in cuda cpu; do
        began=$(now)
        step "$command" lora merge --model "$work/slice" --adapter "$work/adapter" --out "$work/merged.$where" --device $where -q \
          >"$work/slice.log" 2>&1
        ended=$?
        [ $ended -eq 0 ] || { code=1; tail -20 "$work/slice.log" >&2; }
        lora="$lora, \"$where\": {\"exit\": $ended, \"ms\": $((($(now) - began) / 1000000))}"
      done
      if same "$work/merged.cuda" "$work/merged.cpu"; then equal=true; else equal=false; code=1; echo "the slice is merged to other bytes" >&2; fi
      slice="$slice, \"lora\": {$lora, \"same_bytes\": $equal}"
      rm -rf "$work/adapter" "$work"/merged.*
    fi
    slice="{\"kib\": $(kib_of "$work/slice")$slice}"
  else
    code=1
    cat "$work/slice.log" >&2
  fi
  rm -rf "$work/slice"
fi

# Bytes a second beside the driver's own copies, merges beside cuBLAS where the loader finds it.
if $ran; then
  bench=("$mib")
else
  bench=(--dry)
fi
if step "$bin/bv_gpu_bench" "${bench[@]}" >"$work/bench.json" 2>"$work/bench.log"; then
  : >"$work/bench.json.whole"
else
  code=1
  tail -20 "$work/bench.log" >&2
fi

finished=true
write_results || code=1
[ $code -eq 0 ] || exit $code
$ran || exit 3
