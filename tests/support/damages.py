"""What a power cut, a full disk or a bad copy does to a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def halve(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def end_in_zeros(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "emptied": lambda file: os.truncate(file, 0),
    "halved": halve,
    "zeros": end_in_zeros,
    "garbage": lambda file: file.write_bytes(b"\xff\xfe\x00\x01garbage\n\x80\n"),
    "another type": lambda file: file.write_text("[1, 2, 3]\n"),
}
