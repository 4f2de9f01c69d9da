"""The table of faults, in Markdown."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from chaos.play import Row

HEADER = "| fault | exit codes | lost | doubled | epochs again | seconds |\n|---|---|---|---|---|---|"
PACKAGES = ("ray", "optuna", "mlflow", "torch", "sqlalchemy")


def table(rows: Sequence[Row], seed: int, words: Sequence[str]) -> str:
    """What each fault did to a study of this seed, and on what."""
    return "\n".join([HEADER, *map(_line, rows), "", _where(seed, words), ""])


def _line(row: Row) -> str:
    if row.comparison is None:
        return f"| {row.fault.text} | {_codes(row)} | {row.trouble} | | | {_seconds(row)} |"
    lost, doubled = ("; ".join(found) or "nothing" for found in (row.comparison.lost, row.comparison.doubled))
    again = row.comparison.num_again
    return f"| {row.fault.text} | {_codes(row)} | {lost} | {doubled} | {again} | {_seconds(row)} |"


def _codes(row: Row) -> str:
    return ", ".join(map(str, row.codes))


def _seconds(row: Row) -> str:
    return ", ".join(f"{name} {seconds:.0f}" for name, seconds in row.seconds)


def _where(seed: int, words: Sequence[str]) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = Path("/proc/loadavg").read_text().split()[1]
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, load {load} in the last five minutes"
    told = f"`python -m chaos {' '.join(words)}`, {time.strftime('%Y-%m-%d')}, seed {seed}"
    return f"{told}; {machine}; Python {platform.python_version()}, {packages}, Linux {platform.release()}."
