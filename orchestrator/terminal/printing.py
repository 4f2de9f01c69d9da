"""Printing of all commands: results on stdout, progress and errors on stderr, plain lines in a log file."""

from __future__ import annotations

import codecs
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator.common.errors import BadData
from orchestrator.scoring.formatting import duration, finite

LOG_WIDTH = 140  # a log file has no width; tables need one, and COLUMNS may say it
# One character each where tables have it, so that their columns stay straight.
SPELLED = {
    **dict.fromkeys("–—−‑─━", "-"),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼╷╵╶╴", "+"),
    **dict.fromkeys("\u00a0\u2009\u202f", " "),
    **{
        "●": "#",
        "◐": ">",
        "○": "o",
        "×": "x",
        "·": ".",
        "…": ".",
        "±": "+-",
        "→": "->",
        "←": "<-",
        "≥": ">=",
        "≤": "<=",
    },
    **{"µ": "u", "μ": "u", "²": "2", "³": "3", "°": " deg", "≈": "~", "✓": "v", "✗": "x"},
}
WIDEST = 1000  # columns of a table
SECONDS_A_LINE = 10  # of progress, in a log file
out = Console(soft_wrap=True, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else LOG_WIDTH)
err = Console(stderr=True, soft_wrap=True)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; in a log file, a line every ten seconds with the remaining time."""
    if not err.is_terminal:
        yield LogLines(title)
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def encodable() -> None:
    """Make stdout and stderr replace characters that their encoding lacks, as on a terminal without UTF-8."""
    codecs.register_error("spelled", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="spelled")


def _spelled(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(SPELLED.get(char, ascii(char)[1:-1]) for char in missing), error.end


def plain(text: str) -> str:
    """A message with control characters escaped: names in a user's file may contain terminal commands."""
    return "\n".join(
        line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        for line in text.split("\n")
    )


class LogLines:
    """Progress in a log file; nothing is printed for work that takes a few seconds."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.last = time.monotonic()
        self.first: tuple[float, int] | None = None  # when pieces were finished first, and how many

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done == 0:
            return
        self.first = self.first or (now, done)
        if now - self.last < SECONDS_A_LINE or done >= total:
            return
        self.last = now
        began, before = self.first  # processes may have had to start before
        left = ""
        if done > before:
            seconds = (now - began) / (done - before) * (total - done)
            left = f", about {duration(max(1, seconds))} left"
        note(f"{self.title}: {done:,} of {total:,}{left}")


def note(line: str) -> None:
    """Print a line on stderr, without markup."""
    err.print(line, markup=False, highlight=False)


def show_table(table: RenderableType) -> None:
    """Print tables and lines on stdout, wider than the terminal rather than with numbers cut off."""
    least = Measurement.get(out, out.options.update(max_width=WIDEST), table).minimum
    out.print(table, soft_wrap=False, crop=False, width=max(out.width, least))


def nothing_in(home: Path, said: str) -> None:
    """Print that a home is empty, with its path, since a mistyped one is empty, too."""
    place = f"{home}" if home.exists() else f"{home}, a folder that is not there"
    out.print(plain(f"{place}: {said}"), markup=False, highlight=False)


def megabytes(num_bytes: int) -> str:
    """Text for a number of bytes: 1234567 -> 1.2 MB."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def agreed(question: str, *, yes: bool) -> bool:
    """Whether the user agrees; True with `yes`, else asked. Raises `BadData` without a terminal to ask on."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise BadData("--yes", f"is needed because nobody can be asked here: {question}")
    err.print(f"{plain(question)}? \\[y/N] ", end="", highlight=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_json(value: Any, indent: int | None = 1) -> None:
    """Print JSON on stdout; NaN and infinity, which JSON does not have, become null."""
    print(json.dumps(finite(value), indent=indent, allow_nan=False), flush=True)
