"""Matching of table rows with cases, for names as people, scripts and spreadsheets write them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import PurePosixPath

from orchestrator.data.images import EXTENSIONS
from orchestrator.data.spelling import composed, folded

DECIMALS = re.compile(r"([0-9]+)[.,]0+")  # 1.0, or 1,0 in German, for image 1
ROUNDED = re.compile(r"[0-9]([.,][0-9]+)?[eE]\+?[0-9]+")  # 1.23457E+11
MONTH = "(?:jan|feb|m[aä]r|apr|ma[iy]|june?|july?|aug|sept?|o[ck]t|nov|de[cz])"
DATE = re.compile(
    rf"[0-9]{{1,2}}[.-] ?{MONTH}\.?|{MONTH}[.-][0-9]{{2}}", re.IGNORECASE
)  # 01-Feb, 02. Jan, Jan-24

Finder = Callable[[str], str | None]


def finders(stems: Collection[str]) -> list[tuple[str, Finder]]:
    """Methods of matching a name, strictest first, each with its remark; a name that fits two cases matches none."""
    by_form, by_letters = _unique(stems, composed), _unique(stems, folded)
    numbers = _unique([stem for stem in stems if stem.isdecimal()], lambda stem: str(int(stem)))
    known = set(stems)
    return [
        ("", lambda name: name if name in known else None),
        ("suffixes and folders of names are left out", lambda name: _within(bare(name), known)),
        ("folders of names are read as part of them", lambda name: _within(_joined(name), known)),
        ("accents of names are encoded differently", lambda name: by_form.get(composed(name))),
        (
            "capitals of names are ignored",
            lambda name: by_letters.get(folded(name)) or by_letters.get(folded(bare(name))),
        ),
        (
            "leading zeros of names are ignored",
            lambda name: numbers.get(str(int(bare(name)))) if bare(name).isdecimal() else None,
        ),
        (
            "decimals of names, which spreadsheets add, are ignored",
            lambda name: numbers.get(str(int(found[1]))) if (found := DECIMALS.fullmatch(name)) else None,
        ),
    ]


def spoiled(names: Iterable[str]) -> str:
    """Remedy for names that a spreadsheet converted to numbers or dates; "" if there are none."""
    found = next((name for name in names if ROUNDED.fullmatch(name) or DATE.fullmatch(name)), "")
    what = "number" if ROUNDED.fullmatch(found) else "date"
    return (
        f"{found!r} seems to be a {what} that a spreadsheet made of a name; give that column the format Text, "
        "write the names again and save as CSV"
        if found
        else ""
    )


def bare(name: str) -> str:
    """The stem of a path: images/c0.PNG -> c0."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in EXTENSIONS else path.name


def _joined(name: str) -> str:
    """seq1/c0.png -> seq1_c0, the form in which frames of several folders get unique names."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "_".join((*parts[-2:-1], bare(name)))


def _within(name: str, known: Collection[str]) -> str | None:
    return name if name in known else None


def _unique(stems: Collection[str], key: Callable[[str], str]) -> dict[str, str]:
    by_key: dict[str, list[str]] = defaultdict(list)
    for stem in stems:
        by_key[key(stem)].append(stem)
    return {text: found[0] for text, found in by_key.items() if len(found) == 1}
