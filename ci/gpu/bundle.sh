#!/usr/bin/env bash
# Makes the folder that is copied to a GPU machine: bundle.sh BUILD OUT. Executables, the libraries that they need beside glibc,
# the golden HF models and run.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
out=$2
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib" "$out/fixtures/golden"
for name in bridge-verify bv_cuda_test bv_gpu_test; do
  file=$(find "$build" -type f -executable -name "$name" | head -1)
  [ -n "$file" ] || { echo "$name is not built in $build" >&2; exit 1; }
  cp "$file" "$out/bin/$name"
  strip "$out/bin/$name"
done
# Everything that is not glibc itself; the driver's libraries are loaded at run time and never listed here.
for file in "$out"/bin/*; do
  ldd "$file" | awk '$3 ~ /^\// {print $3}'
done | sort -u | grep -Ev '/(ld-linux[^/]*|libc|libm|libdl|librt|libpthread)\.so' | while read -r library; do
  cp -L "$library" "$out/lib/"
done
cp -r fixtures/golden/hf "$out/fixtures/golden/"
cp ci/gpu/run.sh "$out/run.sh"
chmod +x "$out/run.sh"
needs=$(objdump -T "$out"/bin/* "$out"/lib/* 2>/dev/null | grep -o 'GLIBC_2\.[0-9.]*' | sort -uV | tail -1)
size=$(du -sk "$out" | cut -f1)
echo "$out: $((size / 1024)) MiB, needs ${needs#GLIBC_} of glibc"
[ "$size" -lt $((40 * 1024)) ] || { echo "that is more than 40 MiB" >&2; exit 1; }
case "${needs#GLIBC_2.}" in
  3[7-9] | [4-9][0-9]) echo "that is newer than glibc 2.36" >&2; exit 1 ;;
esac
