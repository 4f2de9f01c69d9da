#!/bin/sh
# What a search gains over the baseline, on images of the same hospital and of hospitals that it never saw.
#
#   sh examples/what_tuning_gains/run.sh DATA OUT [SEED...]
#
# DATA has Kvasir-SEG/, CVC-ClinicDB/, ETIS-LaribPolypDB/, EndoTect2020/ and PolypGen/, each as published. Two cores take
# an hour or two for each of the two studies of a seed. Half of Kvasir-SEG is set aside before a study begins. The tuned
# configuration and the baseline are then trained alike on the other half, and both networks are scored on what neither
# has seen. Run again, the command continues. OUT has the scores, ORCHESTRATOR_HOME the studies; table.py prints the table.
set -eu
data=$1 out=$2
shift 2
here=$(dirname "$0")
unseen="CVC-ClinicDB ETIS-LaribPolypDB EndoTect2020 PolypGen"

add() {
  orchestrator data show "$1" > /dev/null 2>&1 || orchestrator data add "$@"
}
add Kvasir-SEG "$data/Kvasir-SEG"
add CVC-ClinicDB "$data/CVC-ClinicDB" --groups "$data/CVC-ClinicDB/meta.csv" --group-column sequence_or_center
add ETIS-LaribPolypDB "$data/ETIS-LaribPolypDB"
add EndoTect2020 "$data/EndoTect2020" --allow-empty
add PolypGen "$data/PolypGen" --groups "$data/PolypGen/meta.csv" --group-column sequence_or_center --allow-empty

scores() { # FILE COMMAND...: what the command prints, whole or not at all
  file=$1
  shift
  "$@" --json > "$file.part" && mv "$file.part" "$file"
}

mkdir -p "$out"
for seed in "${@:-0}"; do
  for network in lite0 unet; do
    study=$network-$seed
    # shellcheck disable=SC2046,SC2086  # a flag for each name
    orchestrator search "$here/$network.toml" --data Kvasir-SEG $(printf ' --unseen %s' $unseen) \
      --holdout 0.5 --trials 10 --rescore 2 --seed "$seed" --study "$study"
    scores "$out/$study.validation.json" orchestrator compare "$study:0" "$study"
    orchestrator best "$study" --refit --export "$out/$study/tuned" --formats onnx --yes
    orchestrator best "$study" --trial 0 --refit --export "$out/$study/baseline" --formats onnx --yes
    # shellcheck disable=SC2046,SC2086
    scores "$out/$study.outside.json" orchestrator evaluate "$out/$study/tuned" --against "$out/$study/baseline" \
      --data Kvasir-SEG $(printf ' --data %s' $unseen)
  done
done
python "$here/table.py" "$out"
