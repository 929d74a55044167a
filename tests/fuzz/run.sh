#!/bin/sh
# Builds the fuzz targets with clang (address and undefined-behaviour sanitizers) and runs each for SECONDS.
#   tests/fuzz/run.sh SECONDS [TARGET...]      targets: safetensors_header index config rules notation headers_dump
# New inputs go to a temporary corpus; the seeds are fixtures/fuzz/TARGET. A crash leaves its input in the build folder.
set -eu
seconds=${1:?usage: tests/fuzz/run.sh SECONDS [TARGET...]}
shift
[ $# -gt 0 ] || set -- safetensors_header index config rules notation headers_dump
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${BV_FUZZ_BUILD:-${TMPDIR:-/tmp}/bridge-verify-fuzz}
mkdir -p "$build"
cd "$root"
list() { ls -d "$root"/$1 | paste -sd ';' -; }
cmake "-DFAMILIES=$(list 'core/models/*.json')" "-DTABLES=$(list 'core/models/tables/*.json')" \
  "-DOUTPUT=$build/builtin_files.cpp" -P core/model/embed.cmake
flags="-std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -I$root"
for target in "$@"; do
  case $target in
    notation) sources="core/layout/*.cpp" ;;
    config) sources="core/exec/open_model.cpp core/exec/digest.cpp core/model/*.cpp core/io/*.cpp $build/builtin_files.cpp" ;;
    rules) sources="core/model/*.cpp $build/builtin_files.cpp" ;;
    *) sources="core/io/*.cpp" ;;
  esac
  # shellcheck disable=SC2086  # lists of files
  clang++ $flags tests/fuzz/${target}_fuzz.cpp $sources core/base/*.cpp -lfmt -lz -o "$build/$target"
  mkdir -p "$build/corpus/$target"
  seeds=fixtures/fuzz/$target
  "$build/$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
    -artifact_prefix="$build/$target-" "$build/corpus/$target" "$seeds"
done
