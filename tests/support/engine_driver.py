"""A study of the formula in a process of its own, to be interrupted and killed: HOME TRIALS SECONDS_PER_EPOCH RACE."""

from __future__ import annotations

import sys
from pathlib import Path

from formula import FormulaJobRunner, Heard, formula_study

from orchestrator.ray_cluster.machine import Machine
from orchestrator.study.run import run_study

if __name__ == "__main__":
    home, num_trials, seconds, race = sys.argv[1:]
    study = formula_study(Path(home), num_trials=int(num_trials), race=race)  # type: ignore[arg-type]
    try:
        run_study(
            study,
            Machine("local", "cpu", num_lanes=1),
            FormulaJobRunner(study.store.ledger, seconds=float(seconds)),
            [Heard()],
        )
    except KeyboardInterrupt:
        sys.exit(130)
