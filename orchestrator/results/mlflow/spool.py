"""Calls that wait for MLflow, kept on disk so that neither a crash nor an absent server loses one.

calls.jsonl     one call a line, in order; emptied when all are written
files/          pictures that waiting calls refer to
refused.jsonl   calls that MLflow will never take, with its reason
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import uuid
from collections import deque
from pathlib import Path
from typing import Any

from orchestrator.common.files import append, write_atomically
from orchestrator.common.stored_json import Unreadable, parse

logger = logging.getLogger(__name__)


class Spool:
    """A queue whose content survives the process. One process at a time; any number of its threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls_file = folder / "calls.jsonl"
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._calls = deque(_read_calls(self._calls_file))
        self._rewrite()  # without a last line that a kill left half-written
        if not self._calls:
            shutil.rmtree(folder / "files", ignore_errors=True)

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def num_bytes(self) -> int:
        """On disk, of calls; pictures not counted."""
        return self._calls_file.stat().st_size

    def append(self, call: dict[str, Any]) -> None:
        line = json.dumps(call) + "\n"
        with self._lock:
            append(self._calls_file, line.encode())
            self._calls.append(call)

    def first(self) -> dict[str, Any] | None:
        """The call that waits longest; it stays until `done`."""
        with self._lock:
            return self._calls[0] if self._calls else None

    def done(self) -> None:
        """Forget the first call."""
        with self._lock:
            self._calls.popleft()
            if not self._calls:
                os.truncate(self._calls_file, 0)

    def refuse(self, reason: str) -> None:
        """Put the first call aside for good."""
        line = json.dumps({"reason": reason, "call": self.first()}) + "\n"
        append(self.folder / "refused.jsonl", line.encode())
        self.done()

    def keep_file(self, name: str, content: bytes) -> str:
        """Store a file under that name; returns its path relative to the spool's folder."""
        path = self.folder / "files" / uuid.uuid4().hex / name
        path.parent.mkdir(parents=True)
        write_atomically(path, content, sync=False)
        return path.relative_to(self.folder).as_posix()

    def _rewrite(self) -> None:
        lines = (json.dumps(call) + "\n" for call in self._calls)
        write_atomically(self._calls_file, "".join(lines).encode())


def _read_calls(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    calls = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        try:
            calls.append(parse(line, dict[str, Any]))
        except Unreadable as error:
            append(
                path.with_name("refused.jsonl"),
                f"{json.dumps({'reason': str(error), 'line': line})}\n".encode(),
            )
            logger.warning("%s: a line %s; MLflow does not get it, refused.jsonl keeps it", path, error)
    return calls
