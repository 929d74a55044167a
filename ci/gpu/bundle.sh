#!/usr/bin/env bash
# Makes the folder that is copied to a GPU machine: bundle.sh BUILD OUT [MIB]. Executables that need nothing but glibc, the golden HF
# models, golden adapters with their bases, and run.sh; at most MIB (40). BV_BUNDLE_LINKED=1: a build that is linked with more than
# glibc is taken, for tests of this script.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
out=$2
mib=${3:-40}
rm -rf "$out"
mkdir -p "$out/bin" "$out/fixtures/golden"
out=$(cd "$out" && pwd)
for name in bridge-verify bv_cuda_test bv_gpu_test bv_gpu_bench; do
  file=$(find "$build" -type f -executable -name "$name" | head -1)
  [ -n "$file" ] || { echo "$name is not built in $build" >&2; exit 1; }
  strip -o "$out/bin/$name" "$file"
done
# The driver's libraries, cuBLAS and NCCL are looked for at run time and never listed here.
needed=$(for file in "$out"/bin/*; do objdump -p "$file" | awk '$1 == "NEEDED" {print $2}'; done | sort -u)
if [ -z "${BV_BUNDLE_LINKED:-}" ] && more=$(grep -Ev '^(ld-linux-x86-64|libc|libm|libdl|librt|libpthread)\.so' <<<"$needed"); then
  echo "these are linked and would be missing there: $more" >&2
  exit 1
fi
# Of the goldens what a program of the bundle reads.
cp -r fixtures/golden/hf "$out/fixtures/golden/"
find "$out/fixtures" -name forward.safetensors -delete
for golden in fixtures/golden/peft/*/; do
  [ -d "$golden/adapter" ] && [ -d "$golden/base" ] || continue
  mkdir -p "$out/$golden"
  cp -r "$golden/adapter" "$golden/base" "$out/$golden"
done
cp ci/gpu/run.sh "$out/run.sh"
chmod +x "$out/run.sh"
needs=$(objdump -T "$out"/bin/* 2>/dev/null | grep -o 'GLIBC_2\.[0-9.]*' | sort -uV | tail -1)
tar -C "$out" --remove-files --owner=0 --group=0 -cf - bin | gzip -9n >"$out/bin.tar.gz"
size=$(du -sk "$out" | cut -f1)
echo "$out: $((size / 1024)) MiB, needs glibc ${needs#GLIBC_} and nothing else"
[ "$size" -lt $((mib * 1024)) ] || { echo "that is more than $mib MiB" >&2; exit 1; }
case "${needs#GLIBC_2.}" in
  3[7-9] | [4-9][0-9]) echo "that is newer than glibc 2.36" >&2; exit 1 ;;
esac
# It starts where nothing is set, without a GPU and from another folder, and says so.
code=0
(cd / && env -i "$out/run.sh" "$out/results.here.json") >/dev/null 2>"$out/here.log" || code=$?
rm -rf "$out/results.here.json" "${out:?}/bin"
case $code in
  0) echo "it ran on the GPU of this machine" ;;
  3) grep -q 'NOT RUN ON A GPU' "$out/here.log" && echo "it runs here: $(head -1 "$out/here.log")" ;;
  *) cat "$out/here.log" >&2; exit 1 ;;
esac
rm -f "$out/here.log"
