"""The database of `--storage`: it answers and accepts us. Only the study's process uses it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url

from orchestrator.common.errors import BadMachine
from orchestrator.doctor.checks.findings import Result, ok, warning
from orchestrator.doctor.checks.resources import networked
from orchestrator.search.store.optuna_storage import kept_url, reach

SLOW_S = 0.5


def answers(url: str) -> Iterator[Result]:
    """Check the URL and the connection. Raises nothing: an invalid URL is a failure as well."""
    try:
        url = kept_url(url)
        started = time.monotonic()
        reach(url)
    except BadMachine as error:
        yield (
            "failure",
            "; ".join(error.problems),
            "start it, or correct --storage; a password belongs in ~/.pgpass or in MySQL's option file",
        )
        return
    seconds, parsed = time.monotonic() - started, make_url(url)
    where = f"{parsed.get_backend_name()} {parsed.host or parsed.database}"
    if parsed.get_backend_name() == "sqlite" and (kind := networked(Path(parsed.database or "/"))):
        yield warning(
            f"{where} is a file on {kind}, where SQLite is unreliable",
            "use the journal (no --storage), or PostgreSQL",
        )
    elif seconds > SLOW_S:
        yield warning(f"{where} accepts us only after {seconds:.1f} s", "use a database closer to the driver")
    else:
        yield ok(f"{where} accepts us, in {1000 * seconds:.0f} ms")
