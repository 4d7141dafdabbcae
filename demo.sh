#!/bin/sh
# The main job on the sample cluster: logs in, checked policies and a diff out.
set -eu
out=${1:-out}
samples=data/samples
rm -rf "$out/store"
mkdir -p "$out"
step() { printf '\n$ flowpolicy %s\n' "$*"; flowpolicy "$@"; }

step ingest "$samples/hubble" --store "$out/store"
step recommend --store "$out/store" --inventory "$samples/inventory.yaml" --out "$out/policies"
# 10 is an answer, not a failure: the two sets differ.
step diff "$samples/policies" "$out/policies" --inventory "$samples/inventory.yaml" \
  --store "$out/store" || [ $? -eq 10 ]
printf '\nThe policies are in %s/policies; apply none before you have read them.\n' "$out"
