#!/bin/sh
# The main job on drawn polyps, as `make demo` runs it: draw, import, search, leaderboard, export, predict.
# Killed and given again it continues; once finished it trains nothing. `make clean` removes it.
set -eu
demo=$1
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

mkdir -p "$demo"
if ! orchestrator data show drawn > /dev/null 2>&1; then
  rm -rf "$demo/drawn"
  say orchestrator data draw "$demo/drawn" --cases 200
  say orchestrator data add drawn "$demo/drawn" --groups "$demo/drawn/groups.csv" --allow-empty
fi
say orchestrator search search_spaces/smoke.toml --data drawn --trials 4 --rescore 2 --study demo
say orchestrator best demo --export "$demo/champion"
say orchestrator predict "$demo/champion" "$demo/drawn/images" --out "$demo/predicted"
cat <<EOF

What to open next:
  $demo/champion/model_card.md     what was found, how sure, and its limits
  $demo/predicted/*_overlay.png    what it sees: the prediction outlined in yellow
  every trial, fold and curve, to compare: .venv/bin/orchestrator ui demo --home $demo/home
EOF
