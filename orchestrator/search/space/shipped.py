"""Search-space files that come with the package: one per network, and `smoke`."""

from __future__ import annotations

from pathlib import Path

# A link to search_spaces/ in a checkout, the files themselves in a wheel.
FOLDER = Path(__file__).resolve().parents[2] / "search_spaces"


def names() -> tuple[str, ...]:
    """Names that can stand for a file: "unet" for search_spaces/unet.toml."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


def shipped_file(name: str) -> Path | None:
    """The file of that name, or None."""
    return FOLDER / f"{name}.toml" if name in names() else None


def find_space_file(given: Path) -> Path:
    """`given` itself if it is a file; else the shipped file of that name, if there is one; else `given`."""
    if given.exists() or given.name != str(given):
        return given
    return shipped_file(given.name) or given
