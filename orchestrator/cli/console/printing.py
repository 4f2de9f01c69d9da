"""What all commands print with: results on stdout, progress and mistakes on stderr, plain lines in a log file."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator.scoring.formatting import percent

LOG_WIDTH = 140  # a log file has no width; tables need one
SECONDS_A_LINE = 60  # of progress, in a log file
out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else LOG_WIDTH)
err = Console(stderr=True, soft_wrap=True)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; in a log file, a line a minute with what is left."""
    if not err.is_terminal:
        yield LogLines(title)
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def plain(text: str) -> str:
    """Lines of a message, with what a terminal would obey written out: names in a user's file may hold escapes."""
    return "\n".join(
        line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        for line in text.split("\n")
    )


class LogLines:
    """Progress for those who read a log file: nothing about what is over within a minute."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.began = self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last < SECONDS_A_LINE or not 0 < done < total:
            return
        self.last = now
        minutes = (now - self.began) / done * (total - done) / 60
        note(f"{self.title}: {done:,} of {total:,}, about {max(1, round(minutes))} min left")


def note(line: str) -> None:
    """A line on stderr, as it is."""
    err.print(line, markup=False, highlight=False)


def epoch_line(row: dict[str, float], epochs: int) -> str:
    """Dice in percent, at the epoch's own best threshold. A refit on all cases has none to validate, and so no Dice."""
    dice = "" if math.isnan(row["val_dice"]) else f"val dice {percent(row['val_dice'])}  "
    return (
        f"epoch {row['epoch'] + 1:.0f}/{epochs}  loss {row['train_loss']:.4f}  {dice}"
        f"lr {row['learning_rate']:.2e}  {row['images_per_second']:.1f} images/s"
    )


def print_json(value: Any, indent: int | None = 1) -> None:
    """JSON knows no NaN and no infinity: they become null."""
    print(json.dumps(_finite(value), indent=indent, allow_nan=False), flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
