"""The table of faults, in Markdown, of the last run of each."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from chaos.faults import FAULTS, names

PAGE = """# Faults, and what they cost

Each line is a search over real processes that was disturbed at a moment that follows from the seed. After it ended,
everything that can be compared was compared with the same search undisturbed: leaderboard, trials in Optuna, fits by
their content, every epoch of every curve to nine digits, runs and curves in MLflow, the champion, and files left
half-written. Lost and doubled list the differences. Epochs again: epochs in flight that were trained twice, at most
one per lane and strike. Seconds: until everything that was being trained continues ("recovered", counted from the
fault, or from when the same command was given again), or until the search said that it ends ("noticed"). Nodes are
network namespaces of one machine, each with its own address, link, Ray and object store; they share the disk.

After `cut`, Ray takes 40 s to give up a node. Meanwhile the other lanes continue with what is queued, one trial more
than the lanes need. In a study as small as this one, that may run out, which would explain why everything stood still
for up to 19 s (inferred from the logs, not proven).

Written by `make chaos TABLE=docs/faults.md`. To run one line again: `make chaos FAULTS="cut" SEED=7`, with the name of
the fault from the first column.

"""
HEADER = (
    "| name | fault | exit codes | lost | doubled | epochs again | seconds |\n|---|---|---|---|---|---|---|"
)
PACKAGES = ("ray", "optuna", "mlflow", "torch", "sqlalchemy")


@dataclass(frozen=True)
class Row:
    """What came of one fault."""

    name: str
    seed: int
    codes: tuple[int, ...] = ()  # exit codes of the searches
    seconds: tuple[tuple[str, float], ...] = ()
    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    num_again: int = 0  # epochs that were trained twice, for they were in flight
    trouble: str = ""  # what did not go as it should, or why it was skipped
    at: str = ""

    @property
    def is_good(self) -> bool:
        return not self.lost and not self.doubled and not self.trouble


def remember(file: Path, row: Row) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(f"{json.dumps(asdict(row) | {'at': time.strftime('%Y-%m-%d')})}\n")


def remembered(file: Path) -> list[Row]:
    """The last row of each fault, in the order of what they are about."""
    last = {row["name"]: Row(**row) for row in map(json.loads, file.read_text("utf-8").splitlines())}
    return [last[name] for name in names() if name in last]


def page(rows: Sequence[Row]) -> str:
    """What each fault did to a study, and on what."""
    return f"{PAGE}{table(rows)}\n\n{_where(rows)}\n{_others(rows)}"


def table(rows: Iterable[Row]) -> str:
    return "\n".join([HEADER, *map(_line, rows)])


def _line(row: Row) -> str:
    lost, doubled = ("; ".join(found) or "nothing" for found in (row.lost, row.doubled))
    if row.trouble:
        lost, doubled = row.trouble.replace("|", "/")[:200], ""
    codes = ", ".join(map(str, row.codes))
    seconds = ", ".join(f"{name} {seconds:.0f}" for name, seconds in row.seconds)
    text = FAULTS[row.name].text
    return f"| {row.name} | {text} | {codes} | {lost} | {doubled} | {row.num_again} | {seconds} |"


def _others(rows: Sequence[Row]) -> str:
    """Faults that were not run."""
    missing = [
        f"`{name}` ({FAULTS[name].text})" for name in names() if name not in {row.name for row in rows}
    ]
    return f"\nNot run: {'; '.join(missing)}.\n" if missing else ""


def _where(rows: Sequence[Row]) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = Path("/proc/loadavg").read_text().split()[1]
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, load {load} in the last five minutes"
    seeds = ", ".join(map(str, sorted({row.seed for row in rows})))
    days = ", ".join(sorted({row.at for row in rows}))
    return (
        f"{days}, seed {seeds}; {machine}, so seconds are upper bounds; Python {platform.python_version()}, "
        f"{packages}, Linux {platform.release().split('-')[0]}."
    )
