#!/usr/bin/env bash
# Builds the container recipe as it is, with buildah and no daemon or registry, and runs the image as a CI job would.
#   tests/container/run.sh [FOLDER]     keeps its images in FOLDER (build/container; a folder of an earlier run saves the base)
# The recipe's bases are made here: debootstrap writes a Debian 12, which is given the names of its FROM lines.
set -euo pipefail
cd "$(dirname "$0")/../.."
recipe=ci/templates/container/Dockerfile
folder=$(realpath -m "${1:-build/container}")
mkdir -p "$folder"
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
buildah() { command buildah --root "$folder/storage" --runroot "$folder/run" "$@"; }
fail() { echo "container: $*" >&2; exit 1; }

bases=$(sed -n 's/^FROM \([^ ]*\).*/docker.io\/library\/\1/p' "$recipe" | sort -u)
for base in $bases; do
  buildah inspect --type image "$base" >/dev/null 2>&1 && continue
  if [ ! -f "$folder/debian.tar" ]; then
    rm -rf "$folder/root"
    debootstrap --variant=minbase "$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)" "$folder/root" >"$folder/debootstrap.log" 2>&1 || fail "debootstrap failed, $folder/debootstrap.log says why"
    rm -f "$folder/root"/var/cache/apt/archives/*.deb "$folder/root"/var/cache/apt/*.bin
    tar -C "$folder/root" -cf "$folder/debian.tar" .
    rm -rf "$folder/root"
  fi
  container=$(buildah from scratch)
  buildah add -q "$container" "$folder/debian.tar" / >/dev/null
  buildah config --cmd bash "$container"
  buildah commit -q --rm "$container" "$base" >/dev/null
done

# As the first line of the recipe says to.
buildah build --layers --pull=false --network host -f "$recipe" -t bridge-verify .

container=$(buildah from bridge-verify)
trap 'buildah rm "$container" >/dev/null' EXIT
entry=$(buildah inspect --format '{{index .OCIv1.Config.Entrypoint 0}}' "$container")
[ "$entry" = bridge-verify ] || fail "the entry point is '$entry', want bridge-verify"
mkdir -p "$folder/work"
cp fixtures/rules/qwen3.rules.json fixtures/broken/swapped_gate_up.rules.json "$folder/work"

# code, text that is said, words
said() {
  local code=$1 text=$2 ended=0 out
  shift 2
  out=$(buildah run --volume "$folder/work:/work" --workingdir /work "$container" -- $entry "$@" 2>&1) || ended=$?
  [ "$ended" -eq "$code" ] || fail "$* ended with $ended, want $code: $out"
  grep -qF -e "$text" <<<"$out" || fail "$* does not say '$text': $out"
  echo "container: $* ended with $ended"
}
said 0 "bridge-verify" --version
said 0 "" doctor
said 0 PASS check --model fixture:qwen3 --rules qwen3.rules.json
said 1 BV2006 check --model fixture:qwen3 --rules swapped_gate_up.rules.json --report json=verdicts.json --report junit=junit.xml
said 5 "" check --model nowhere
said 2 "" check --no-such-option
[ -s "$folder/work/junit.xml" ] || fail "no report was left in the folder that is shared with the image"

mount=$(buildah mount "$container")
size=$(stat -c %s "$mount/usr/bin/bridge-verify")
for library in $(ldd "$mount/usr/bin/bridge-verify" | sed -n 's/^\s*\([^ /]*\) => .*/\1/p'); do
  find "$mount"/lib "$mount"/usr/lib -name "$library" | grep -q . || fail "the image has no $library"
done
for left in /src /usr/include/fmt /usr/bin/g++; do
  [ ! -e "$mount$left" ] || fail "$left of the build is in the image"
done
whole=$(du -sm "$mount" | cut -f1)
[ "$size" -lt 50000000 ] || fail "the command has $size bytes, want fewer than 50 million"
buildah umount "$container" >/dev/null
echo "container: the command has $size bytes, the image $whole MB with its base"
