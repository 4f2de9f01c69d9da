"""A draw of the sampler while the cores train: on one thread, as `draw` is, and with the threads of BLAS as they come.

    python tests/benchmarks/decision_threads.py
    python tests/benchmarks/decision_threads.py --trials 30 100 400 --rounds 5

The same draw of the same study of five parameters, by turns; seconds are wall time. Meanwhile another program
trains U-Net on all cores; "idle" is without it. Both ways must draw the same configuration.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FixedTrial, create_trial
from rows import Row, add_rows_option, save_rows, spread
from scale import SPACE

from orchestrator.common.cpus import usable_cpus
from orchestrator.search.samplers.draw import draw
from orchestrator.search.samplers.inducing_points import _exact, _fitted
from orchestrator.search.samplers.past_trials import PastTrial


def study_of(num_trials: int) -> list[PastTrial]:
    """Random configurations of one fold each; the best rate is 1e-3."""
    rng, past = np.random.default_rng(0), []
    while len(past) < num_trials:
        params: dict[str, Any] = {
            "learning_rate": float(10 ** rng.uniform(-5, -1)),
            "weight_decay": float(10 ** rng.uniform(-6, -2)),
            "clip_norm": float(rng.uniform(0.5, 2)),
            "averaging_start": float(rng.uniform(0, 0.9)),
            "loss": str(rng.choice(["bce_dice", "bce", "dice"])),
        }
        fixed = FixedTrial(params)
        SPACE.sample(fixed)
        value = math.exp(-((math.log10(params["learning_rate"]) + 3) ** 2)) + 0.02 * rng.standard_normal()
        stored = create_trial(value=value, params=fixed.params, distributions=fixed.distributions)
        past.append(PastTrial(stored, value, 1))
    return past


@contextmanager
def training() -> Iterator[None]:
    """Another program trains on all cores."""
    script = str(Path(__file__).with_name("shared_cpus.py"))
    load = subprocess.Popen(
        [sys.executable, script, "--one", str(usable_cpus()), "--steps", "1000000"], stdout=subprocess.DEVNULL
    )
    try:
        time.sleep(10)  # until it trains
        yield
    finally:
        load.kill()
        load.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A draw of the sampler while the cores train.")
    parser.add_argument("--trials", type=int, nargs="+", default=[30, 100, 300], help="before the draw")
    parser.add_argument("--rounds", type=int, default=3)
    add_rows_option(parser)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ways = {"on one thread": draw, "with the threads of BLAS": draw.__wrapped__}  # type: ignore[attr-defined]
    rows = []
    for where, load in (("while the cores train", training), ("on idle cores", nullcontext)):
        with load():
            for num_trials in options.trials:
                past = study_of(num_trials)
                found: dict[str, list[float]] = {way: [] for way in ways}
                for number in range(options.rounds):
                    drawn = []
                    for way in ways if number % 2 == 0 else reversed(ways):
                        for cache in (_fitted, _exact):
                            cache.cache_clear()
                        start = time.perf_counter()
                        drawn.append(ways[way](SPACE, past, "surrogate", seed=number))
                        found[way].append(time.perf_counter() - start)
                    if not same(*drawn):
                        sys.exit(f"two configurations were drawn: {drawn}")
                what = f"a draw after {num_trials} trials, {where}"
                ours, theirs = (tuple(found[way]) for way in ways)
                rows.append(
                    Row(what, list(ways)[1], "s", ours, theirs, bound="both draw the same configuration")
                )
                print(f"{what}: {spread(ours)} s; {list(ways)[1]} {spread(theirs)} s", flush=True)
    save_rows(options.rows, rows)


def same(one: Any, other: Any) -> bool:
    """Whether two draws are one configuration, but for rounding."""
    return all(
        value == other.params[name]
        if isinstance(value, str)
        else math.isclose(value, other.params[name], rel_tol=1e-3)
        for name, value in one.params.items()
    )


if __name__ == "__main__":
    main()
