#!/usr/bin/env bash
# The step of action.yml: MODEL, RULES, BRIDGE, LAYOUTS, LEVEL, WAIVERS, FAIL_ON and OUT in the environment. Always ends with 0:
# the last step of the action ends with the exit code of the check, after the reports are uploaded.
set -uo pipefail
mkdir -p "$OUT"
rm -f "$OUT"/{verdicts.json,report.html,report.txt,junit.xml,ctrf.json,summary.md,results.sarif} # of an earlier step
code=0
fetched=()
if [[ "$MODEL" =~ ^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$ && ! -e "$MODEL" ]]; then
  python3 -m bridge_verify.headers "$MODEL" -o "$OUT/model.headers.json" || code=5
  MODEL="$OUT/model.headers.json"
fi
if [ "$code" = 0 ] && [ -n "$BRIDGE" ]; then
  RULES="$OUT/$BRIDGE.rules.json"
  python3 -m bridge_verify.export --bridge "$BRIDGE" --model "$MODEL" -o "$RULES" || code=5
fi
if [ "$code" = 0 ]; then
  [ -z "$RULES" ] || fetched+=(--rules "$RULES")
  [ -z "$WAIVERS" ] || fetched+=(--waivers "$WAIVERS")
  bridge-verify check --model "$MODEL" --level "$LEVEL" --layouts "$LAYOUTS" --fail-on "$FAIL_ON" --out "$OUT" \
    --report sarif="$OUT/results.sarif" --ci auto "${fetched[@]}"
  code=$?
fi
if ! result=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["result"]["word"])' "$OUT/verdicts.json" 2>/dev/null); then
  result=INPUT
  [ "$code" != 0 ] || code=5 # what left no verdicts has checked nothing
fi
{
  echo "exit-code=$code"
  echo "result=$result"
  echo "report-path=$OUT"
} >>"${GITHUB_OUTPUT:-/dev/stdout}"
