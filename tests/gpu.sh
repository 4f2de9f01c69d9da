#!/usr/bin/env bash
# What only a GPU can show, in fifteen minutes at most, the most valuable first. A step that is done leaves its log in OUT
# and is passed over the next time; `tests/gpu.sh OUT` is run again until nothing is left.
#   make gpu           logs in build/gpu; RESULTS.md and times.jsonl, too
# Real frames, small, are carried along: `python tests/support/small_polyps.py "$POLYP_DATA" build/polyps256` makes them
# before (25 MB). Without them the tables of the papers are left out.
set -u
out=${1:?a folder for the logs}
mkdir -p "$out"
export ORCHESTRATOR_HOME="$out/home" PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
polyps=${POLYPS:-build/polyps256}
failed=0

step() {  # NAME SECONDS COMMAND...
  local name=$1 limit=$2
  shift 2
  if [ -e "$out/$name.done" ]; then return; fi
  echo "$name: $*"
  local begun=$SECONDS
  if timeout "$limit" "$@" >"$out/$name.log" 2>&1; then
    echo "$((SECONDS - begun)) s" >"$out/$name.done"
  else
    echo "$name: exit code $?"
    failed=1
  fi
  tail -n 15 "$out/$name.log"
}

po() { python -m orchestrator "$@"; }
# Where time runs out, the next call goes on: fits that are finished, and epochs of those that are not, are on record.
added() { for folder in "$polyps"/[A-Z]*/; do po data add "$(basename "$folder")" "$folder" --allow-empty || return; done; }
# In the first call U-Net, ResUNet++, PraNet, GMSRF-Net and a pretrained encoder; four fits share the GPU.
table() {
  po reproduce gmsrf I --scale small --only U-Net --only PraNet --only GMSRF-Net --also resunet_pp --also encoder_decoder \
    --weights encoder_decoder=imagenet --device cuda --fits-per-gpu 4 --address local --out "$out/RESULTS.md"
}
whole_table() {
  po reproduce gmsrf I --scale small --also resunet_pp --also encoder_decoder --weights encoder_decoder=imagenet \
    --device cuda --fits-per-gpu 4 --address local --out "$out/RESULTS.md"
}
drawn() { po data draw "$out/drawn" --cases 200 && po data add drawn "$out/drawn" --groups "$out/drawn/groups.csv" --allow-empty; }
# Four fits share the GPU, as the smoke study of cluster/dgx2.sh does.
study() { po search smoke --data drawn --trials 6 --rescore 0 --device cuda --fits-per-gpu 4 --study gpu; }
handed() {
  rm -rf "$out/champion" "$out/masks"
  po best gpu --export "$out/champion" && po predict "$out/champion" "$out/drawn/images" --device cuda --out "$out/masks" &&
    po evaluate "$out/champion" --data drawn --device cuda
}
export -f po added table whole_table drawn study handed
export out polyps

nvidia-smi || { echo "no GPU answers here"; exit 2; }
if [ -d "$polyps" ]; then
  step added 60 bash -c added
  step table 330 bash -c table
fi
step times 210 python tests/benchmarks/gpu_times.py "$out/times.jsonl"
step tests 300 python -m pytest -q -p no:cacheprovider tests/training/test_gpu.py
step drawn 60 bash -c drawn
step doctor 120 python -m orchestrator doctor --device cuda --data drawn --json
step study 240 bash -c study
step handed 120 bash -c handed
step channels_last 150 python tests/benchmarks/channels_last.py
step shared_gpu 240 python tests/benchmarks/shared_gpu.py --networks unet resunet_pp
step fit_anatomy 90 python tests/benchmarks/fit_anatomy.py --device cuda --networks unet resunet_pp --channels 0 --size 256 --cases 400 --threads 4
[ -d "$polyps" ] && step whole_table 400 bash -c whole_table
exit $failed
