"""Which frames of one place `find_twins` finds on real images, against the maps that came with them.

    python tests/benchmarks/leak_recall.py
    python tests/benchmarks/leak_recall.py --only CVC-ClinicDB --json

CVC-ClinicDB            Its 29 video sequences: precision and recall over all pairs of frames that groups put together,
                        and over neighbours, frames with consecutive numbers of one sequence.
ETIS-LaribPolypDB       The same with its scenes, told by eye.
Kvasir-SEG, EndoTect    Pairs that show one frame twice, one of them between the two sets; how many of the pairs found
                        in Kvasir-SEG are in its list of near duplicates, too. That list is not complete.

Images and maps (meta.csv) are read in POLYP_DATA, default ../shared/data/polyps. The search is told no map; of names it
uses the numbers, where the pictures show that they follow a video. What the pictures tell alone stands beside it.
Nothing is asserted; a set takes minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator.data.cases import add_dataset
from orchestrator.data.deal import merge
from orchestrator.data.leaks import Leaks, find_twins

POLYPS = Path(
    os.environ.get("POLYP_DATA", Path(__file__).resolve().parents[3] / "shared" / "data" / "polyps")
)
SHARED = ("EndoTect2020/2b9a40af-bad5-4bc1-9b11-8052fbdefb0c", "Kvasir-SEG/cju3xwpgviwlx0871rwm15q7v")
Rows = dict[str, dict[str, str]]  # of meta.csv, by case id


def meta(name: str) -> Rows:
    with (POLYPS / name / "meta.csv").open(newline="", encoding="utf-8") as file:
        return {f"{name}/{row['name']}": row for row in csv.DictReader(file)}


def sequences(leaks: Leaks) -> dict[str, float]:
    """Precision and recall of what twins alone put together, against the sequences of the map."""
    pictures = replace(leaks, twins=tuple(twin for twin in leaks.twins if twin.kind != "same video"))
    seen = {f"{what}, pictures alone": value for what, value in _shares(pictures).items()}
    return {**_shares(leaks), **seen}


def _shares(leaks: Leaks) -> dict[str, float]:
    rows = meta(leaks.datasets[0].name)
    group = merge([replace(case, group=case.id) for case in leaks.datasets[0].cases], leaks.pairs)
    truth = {id: row["sequence_or_center"] for id, row in rows.items() if row["sequence_or_center"]}
    same = {pair for pair in combinations(sorted(truth), 2) if truth[pair[0]] == truth[pair[1]]}
    joined = {pair for pair in combinations(sorted(truth), 2) if group[pair[0]] == group[pair[1]]}
    near = {pair for pair in same if abs(int(rows[pair[0]]["name"]) - int(rows[pair[1]]["name"])) == 1}
    return {
        "precision": len(joined & same) / max(1, len(joined)),
        "recall": len(joined & same) / len(same),
        "recall of neighbours": len(joined & near) / len(near),
    }


def known_pairs(leaks: Leaks) -> dict[str, float]:
    """How many known pairs are found, and how many found pairs are known."""
    rows = meta("Kvasir-SEG")
    twin = {id: f"Kvasir-SEG/{row['same_frame_as']}" for id, row in rows.items() if row["same_frame_as"]}
    known = {(min(a, b), max(a, b)) for a, b in twin.items() if b in rows}
    found = {(a.one, a.other) for a in leaks.between("Kvasir-SEG", "Kvasir-SEG")}
    groups = [{rows[id]["near_dup_group"] for id in pair} for pair in found]
    listed = sum(len(group) == 1 and group != {""} for group in groups)
    between = {(a.one, a.other) for a in leaks.between("EndoTect2020", "Kvasir-SEG")}
    return {
        "same frame, known": len(known),
        "same frame, found": len(known & found),
        "pairs in Kvasir-SEG": len(found),
        "of these listed": listed,
        "pairs between the sets": len(between),
        "of these known, one of 1": int(SHARED in between),
    }


CHECKS: dict[str, tuple[tuple[str, ...], Callable[[Leaks], dict[str, float]]]] = {
    "CVC-ClinicDB": (("CVC-ClinicDB",), sequences),
    "ETIS-LaribPolypDB": (("ETIS-LaribPolypDB",), sequences),
    "Kvasir-SEG": (("Kvasir-SEG", "EndoTect2020"), known_pairs),
}


def measure(check: str, home: Path) -> dict[str, float]:
    names, judge = CHECKS[check]
    datasets = [add_dataset(home, name, POLYPS / name, allow_empty=True) for name in names]
    began = time.perf_counter()
    leaks = find_twins(datasets, home / "cache")
    seconds = round(time.perf_counter() - began)
    return {**judge(leaks), "cases": sum(len(one.cases) for one in datasets), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description="Twins found in real images, against known maps.")
    parser.add_argument("--only", choices=list(CHECKS), nargs="+", default=list(CHECKS))
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args()
    if missing := [
        name for check in options.only for name in CHECKS[check][0] if not (POLYPS / name).is_dir()
    ]:
        print(f"nothing measured: {POLYPS} has no {', '.join(missing)}; POLYP_DATA says where they are")
        return
    with tempfile.TemporaryDirectory() as home:
        rows: dict[str, Any] = {check: measure(check, Path(home)) for check in options.only}
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("frames", "what", title=f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    table.add_column("found", justify="right")
    for check, found in rows.items():
        for what, value in found.items():
            table.add_row(check, what, f"{value:.3f}" if isinstance(value, float) else str(value))
        table.add_section()
    Console().print(table)


if __name__ == "__main__":
    main()
