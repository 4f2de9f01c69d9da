#!/usr/bin/env bash
# The smoke tables of all papers on real images; given again, it goes on. POLYP_DATA: folders with images/ and masks/.
#   make reproduce-smoke           RESULTS.md in build/reproduce
set -eu
out=${1:?a folder} python=${2:-python}
polyps=${POLYP_DATA:?names a folder that holds Kvasir-SEG, CVC-ClinicDB and PolypGen}
mkdir -p "$out"
export ORCHESTRATOR_HOME="$out/home" PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
for folder in "$polyps"/[A-Z]*/; do
  "$python" -m orchestrator data add "$(basename "$folder")" "$folder" --allow-empty
done
failed=0
for paper in gmsrf parallel-res2net mediaeval-depthwise attention-unet resunetpp; do
  "$python" -m orchestrator reproduce "$paper" --scale smoke --device cpu --out "$out/RESULTS.md" || failed=1
done
exit $failed
