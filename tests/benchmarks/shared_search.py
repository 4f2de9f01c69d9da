"""Seconds of a small search where other programs compute on the same cores, with the niceness that Ray's workers get.

    python tests/benchmarks/shared_search.py
    python tests/benchmarks/shared_search.py --busy 4 --limit 1200

Workers of a Ray that `orchestrator search` starts have the niceness of the search (common/cpus.py); as Ray comes, they
have 15. Both ways do the same two fits on a local Ray while `--busy` processes count. A search that is not over after
`--limit` seconds is ended, and counts as that long: its ratio is a lower bound, and this is said.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rows import Row, add_rows_option, save_rows, spread
from start_and_end import SPACE, search_command

from orchestrator.common.cpus import NICENESS_OF_STARTER, usable_cpus
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset

(VARIABLE,) = NICENESS_OF_STARTER
AS_RAY_COMES = "15"


@contextmanager
def busy(processes: int) -> Iterator[None]:
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def seconds_of(folder: Path, home: Path, niceness: str, limit: float) -> tuple[float, int]:
    """Wall seconds of a new search, at most `limit`, and its finished fits."""
    name = f"niceness-{niceness}-{time.time_ns()}"
    began = time.perf_counter()
    running = subprocess.Popen(
        search_command(folder, home, trials=1, study=name),
        env=os.environ | {VARIABLE: niceness},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        if running.wait(limit) != 0:
            raise RuntimeError(f"the search ended with {running.returncode}")
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGTERM)
    seconds = min(limit, time.perf_counter() - began)
    fits = len(list(home.glob(f"studies/{name}/ledger/fits/*/record.json")))
    running.wait()
    return seconds, fits


def main() -> None:
    parser = argparse.ArgumentParser(description="A small search, and programs that compute.")
    parser.add_argument("--busy", type=int, default=usable_cpus(), help="processes that count meanwhile")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which a search is ended")
    add_rows_option(parser)
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder, home = Path(place), Path(place) / "home"
        draw_dataset(folder / "frames", num_cases=16, size=48)
        add_dataset(home, "drawn", folder / "frames", allow_empty=True)
        (folder / "space.toml").write_text(SPACE)
        with busy(options.busy):
            for niceness in (NICENESS_OF_STARTER[VARIABLE], AS_RAY_COMES):
                seconds, fits = found[niceness] = seconds_of(folder, home, niceness, options.limit)
                print(f"niceness {niceness}: {seconds:.0f} s, {fits} of 2 fits finished", flush=True)
    (ours, _), (theirs, fits) = found.values()
    bound = (
        "" if theirs < options.limit else f"the other was ended then, with {fits} of 2 fits: a lower bound"
    )
    what = f"a search of two fits, {options.busy} busy processes on {usable_cpus()} cores"
    row = Row(what, "Ray's own niceness of workers, 15", "s", (ours,), (theirs,), bound=bound)
    print(f"{what}: {spread(row.ratios)} times as long with {row.against}" + (f"; {bound}" if bound else ""))
    save_rows(options.rows, [row])


if __name__ == "__main__":
    main()
