#!/bin/sh
# Builds the fuzz targets with clang (address and undefined-behaviour sanitizers) and runs each for SECONDS.
#   tests/fuzz/run.sh SECONDS [TARGET...]      targets: safetensors_header index config rules notation headers_dump manifest adapter metadata pickle torch_file
# The seeds are fixtures/fuzz/TARGET, the words tests/fuzz/TARGET.dict. New inputs go to a corpus in the build folder
# (BV_FUZZ_BUILD), which a later run goes on from. A crash leaves its input there and fails the script.
# The engine is compiled a room at a time, BV_FUZZ_SPLIT=1 a file at a time (for a compiler error that names one file).
# BV_FUZZ_OPT=-O0 builds in half the time, for a run of seconds.
# BV_FUZZ_MIN=1 writes the smallest corpus with the same coverage over fixtures/fuzz/TARGET instead of fuzzing.
set -eu
seconds=${1:?usage: tests/fuzz/run.sh SECONDS [TARGET...]}
shift
[ $# -gt 0 ] || set -- safetensors_header index config rules notation headers_dump manifest adapter metadata pickle torch_file
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${BV_FUZZ_BUILD:-${TMPDIR:-/tmp}/bridge-verify-fuzz}
clang=$(command -v clang++ || command -v clang++-14)
compile="$(command -v ccache || true) $clang"
flags="-std=c++20 -gline-tables-only ${BV_FUZZ_OPT:--O1} -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -I$root"
mkdir -p "$build/objects"
cd "$root"

list() { ls -d "$root"/$1 | paste -sd ';' -; }
cmake "-DFAMILIES=$(list 'core/families/*.json')" "-DTABLES=$(list 'core/families/tables/*.json')" \
  "-DOUTPUT=$build/builtin_files.cpp" -P core/family/embed.cmake
{
  printf '#include "core/kinds/catalogue.hpp"\nnamespace bv::kinds {\nstd::string_view builtin_text() { return R"layout('
  cat core/kinds/kinds.layout
  printf ')layout"; }\n}\n'
} >"$build/builtin_text.cpp"

# The engine below the command, once for all targets; the archive gives each what it asks for.
rooms="base pickle io torch_dist layout kinds family model foreign parallel plan quantised move checkpoint"
adapters="core/lora/adapter_config.cpp core/lora/adapter_keys.cpp core/lora/adapter_record.cpp"
sources="$adapters properties/attacks/lines/tilings.cpp $build/builtin_files.cpp $build/builtin_text.cpp"
rm -rf "$build/rooms" && mkdir "$build/rooms"
for room in $rooms; do
  if [ -n "${BV_FUZZ_SPLIT:-}" ]; then
    sources="$sources $(echo core/"$room"/*.cpp)"
  else
    # Assertions are those of tests/fuzz/abort.cpp.
    printf '#include "%s"\n' core/"$room"/*.cpp | grep -v '"core/base/assert.cpp"' >"$build/rooms/$room.cpp"
    sources="$sources $build/rooms/$room.cpp"
  fi
done
targets=""
for target in "$@"; do
  targets="$targets tests/fuzz/${target}_fuzz.cpp"
done
name() { echo "$build/objects/$(echo "${1#"$build"/}" | tr '/' '_').o"; }
objects="" pairs=""
for source in $sources; do
  objects="$objects $(name "$source")"
done
for source in $sources $targets tests/fuzz/abort.cpp; do
  pairs="$pairs $source $(name "$source")"
done
# shellcheck disable=SC2086  # lists of words
printf '%s\n' $pairs | xargs -P "$(nproc)" -n 2 sh -c "$compile $flags -c \"\$0\" -o \"\$1\""
rm -f "$build/engine.a"
# shellcheck disable=SC2086
ar rc "$build/engine.a" $objects

for target in "$@"; do
  $clang -fsanitize=fuzzer,address,undefined "$(name "tests/fuzz/${target}_fuzz.cpp")" "$(name tests/fuzz/abort.cpp)" \
    "$build/engine.a" -lfmt -lz -lxxhash -o "$build/$target"
  mkdir -p "$build/corpus/$target"
done
if [ -n "${BV_FUZZ_MIN:-}" ]; then
  for target in "$@"; do
    seeds=fixtures/fuzz/$target
    rm -rf "$build/merged" && mkdir "$build/merged"
    "$build/$target" -merge=1 -max_len=2048 "$build/merged" "$seeds" "$build/corpus/$target"
    cp "$build"/merged/* "$seeds/"
  done
  exit 0
fi
# Each target has one thread: as many run at once as there are processors. What one says is printed when it ends.
export build seconds
# shellcheck disable=SC2016
printf '%s\n' "$@" | xargs -P "$(nproc)" -I TARGET sh -c '
  "$build/TARGET" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -verbosity=0 -print_final_stats=1 \
    -dict=tests/fuzz/TARGET.dict -artifact_prefix="$build/TARGET-" "$build/corpus/TARGET" fixtures/fuzz/TARGET \
    >"$build/TARGET.log" 2>&1
  status=$?
  echo "$0 TARGET"
  cat "$build/TARGET.log"
  [ $status -eq 0 ] || exit 1' "fuzz target"
