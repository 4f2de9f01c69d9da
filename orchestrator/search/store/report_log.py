"""What of a study was reported: each finished fold and each trial that is over once, whatever is killed when.

A name is noted after it was told, so a kill in between makes it told again, which whoever listens must bear.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.common.files import append


class ReportLog:
    """A set of names that only grows, one a line of a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        # What was damaged is no name that is asked for: it is told again.
        self.names = set(file.read_text(errors="replace").split("\n")) if file.exists() else set()

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def add(self, name: str) -> None:
        self.names.add(name)
        append(self.file, f"{name}\n".encode())  # at once: no kill leaves half of it
