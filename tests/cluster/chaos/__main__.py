"""Inject faults into searches and write a table of results; exit code 1 if anything was lost or doubled.

make chaos SEED=7 FAULTS="worker driver"
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from chaos import clocks, cluster, data, database, disks, ends, mlflow, processes  # noqa: F401
from chaos.faults import FAULTS, names
from chaos.runner import FaultRunner
from chaos.table import Row, page, remember, remembered, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(names())}; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments, the victims and the study")
    parser.add_argument("--rounds", type=int, default=1, help="how often each, at other moments")
    parser.add_argument("--shuffle", action="store_true", help="in an order that follows from the seed")
    parser.add_argument("--results", type=Path, help="file that a line is added to for every fault")
    parser.add_argument("--table", type=Path, help="page that is written of the last line of every fault")
    parser.add_argument("--keep", type=Path, help="folder to work in, which stays; short, for Ray's sockets")
    parser.add_argument("--run-none", action="store_true", help="write the page alone")
    asked = parser.parse_args()
    if unknown := [name for name in asked.faults if name not in FAULTS]:
        parser.error(f"expected faults of {', '.join(names())}, found {', '.join(unknown)}")
    order = (asked.faults or names()) * asked.rounds
    if asked.shuffle:
        random.Random(asked.seed).shuffle(order)
    with tempfile.TemporaryDirectory(prefix="ch", ignore_cleanup_errors=True) as temporary:
        results = asked.results or Path(temporary, "results.jsonl")
        rows = [] if asked.run_none else run_all(asked.keep or Path(temporary), asked.seed, order, results)
        if asked.table:
            asked.table.write_text(page(remembered(results)), encoding="utf-8")
    print(table(rows))
    return int(not all(row.is_good for row in rows))


def run_all(folder: Path, seed: int, order: list[str], results: Path) -> list[Row]:
    rows = []
    with FaultRunner(folder, seed) as runner:
        for number, name in enumerate(order):
            rows.append(runner.act(FAULTS[name], number))
            remember(results, rows[-1])
    return rows


if __name__ == "__main__":
    sys.exit(main())
