"""`orchestrator` with counted epochs: the same words, to be killed at any moment."""

from __future__ import annotations

from counted import CountedWork

from orchestrator.cli import main
from orchestrator.search import fit_jobs as work

if __name__ == "__main__":
    work.FitJobRunner = CountedWork  # type: ignore[misc]
    main()
