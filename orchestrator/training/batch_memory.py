"""Numbers of images that a device holds at a time, by kind of work: files that the fits of a study share."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from orchestrator.common.files import write_atomically
from orchestrator.common.stored_json import Unreadable, parse_json

# Everything that determines the memory per image, and the memory available: plain JSON.
Kind = dict[str, Any]


class Memory:
    """Known numbers of images at a time by kind of work: one small file per kind, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def at_a_time(self, kind: Kind, images: int, smallest: int = 1) -> int:
        """Images to take at a time: at most the stored number, in similar parts, none below `smallest`."""
        fits = self._known(kind) or images
        return math.ceil(images / min(math.ceil(images / fits), most_parts(images, smallest)))

    def _known(self, kind: Kind) -> int | None:
        """The stored number; None without one, or if its file is damaged."""
        try:
            found = parse_json(self._path(kind), dict[str, Any]).get("images")
        except (Unreadable, FileNotFoundError):
            return None
        return found if isinstance(found, int) and found > 0 else None

    def note(self, kind: Kind, images: int) -> None:
        """Store `images` as the most to take at a time. Concurrent writers find the same number."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**kind, "images": images}, indent=1)
        write_atomically(self._path(kind), text.encode())

    def _path(self, kind: Kind) -> Path:
        content = json.dumps(kind, sort_keys=True)
        return self.folder / f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"


def most_parts(images: int, smallest: int) -> int:
    """The largest number of parts with at least `smallest` images each."""
    return max(1, images // smallest)
