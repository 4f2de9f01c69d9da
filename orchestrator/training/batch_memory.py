"""How many images of each kind of work a device holds at a time, as files that the fits of a study share."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from orchestrator.common.files import write_atomically
from orchestrator.common.stored_json import Unreadable, parse_json

# What decides how much memory an image takes, and how much there is: plain JSON.
Kind = dict[str, Any]


class Memory:
    """How many images each kind of work holds at a time: one small file a kind, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def at_a_time(self, kind: Kind, images: int, smallest: int = 1) -> int:
        """How many of `images` to take at a time: as few parts as are known to fit, of about one size, none smaller."""
        fits = self._known(kind) or images
        return math.ceil(images / min(math.ceil(images / fits), most_parts(images, smallest)))

    def _known(self, kind: Kind) -> int | None:
        """None where nothing is, or its file was damaged: it is found out by trying."""
        try:
            found = parse_json(self._path(kind), dict[str, Any]).get("images")
        except (Unreadable, FileNotFoundError):
            return None
        return found if isinstance(found, int) and found > 0 else None

    def note(self, kind: Kind, images: int) -> None:
        """Remember that more than `images` do not fit. Written anew by whoever finds out: all find the same."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**kind, "images": images}, indent=1)
        write_atomically(self._path(kind), text.encode())

    def _path(self, kind: Kind) -> Path:
        content = json.dumps(kind, sort_keys=True)
        return self.folder / f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"


def most_parts(images: int, smallest: int) -> int:
    """Into how many parts images can be dealt so that each has as many as a network needs at a time."""
    return max(1, images // smallest)
