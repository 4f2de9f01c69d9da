"""Damaged downloads: whatever happens to the bytes, an import is good or refused in words, and leaves nothing else.

The long run prints how often each came about:  pytest -m slow -s tests/data/importing/test_damaged.py
"""

from __future__ import annotations

import random
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from packed import MASK, tarred, write_tree, zipped

from orchestrator.common.errors import BadData
from orchestrator.data.importing.check import check_dataset
from orchestrator.data.importing.dataset import add_dataset

NOISE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
SUFFIXES = ("jpg", "png", "tif", "bmp")
SOURCE = {
    f"{sub}/{suffix}.{suffix}": pixels
    for suffix in SUFFIXES
    for sub, pixels in (("images", NOISE), ("masks", MASK))
}
FORMS = ("stored", "deflated", "tar", "tar.gz", "tar.xz", "nested", "images")


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, Path]:
    """The same four pairs in every form; "images" is the folder itself, of which one file is damaged."""
    top = tmp_path_factory.mktemp("good")
    folder = write_tree(top / "folder", SOURCE)
    outer = top / "outer"
    outer.mkdir()
    zipped(folder, outer / "inner.zip")
    return {
        "stored": zipped(folder, top / "stored.zip", zipfile.ZIP_STORED),
        "deflated": zipped(folder, top / "deflated.zip"),
        "nested": zipped(outer, top / "nested.zip", zipfile.ZIP_STORED),
        **{form: tarred(folder, top / f"a.{form}") for form in ("tar", "tar.gz", "tar.xz")},
        "images": folder,
    }


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 30))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def header_changed(content: bytes, rng: random.Random) -> bytes:
    """A few bytes of the start, or of the end, where the directory of a zip is."""
    changed = bytearray(content)
    near = min(len(changed), 600)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(near)
        changed[at if rng.random() < 0.5 else -1 - at] = rng.randrange(256)
    return bytes(changed)


def hole(content: bytes, rng: random.Random) -> bytes:
    """A block lost, or put in twice."""
    start = rng.randrange(len(content))
    block = content[start : start + rng.randint(1, 512)]
    return content[:start] + block * rng.choice((0, 2)) + content[start + len(block) :]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (cut, flipped, header_changed, hole)


def outcome(seed: int, good: dict[str, Path], work: Path) -> tuple[str, str]:
    """(form, "imported" or "refused") of one damaged source; anything else fails."""
    rng = random.Random(seed)
    form = rng.choice(FORMS)
    damage = rng.choice(DAMAGES)
    source = work / "source"
    if form == "images":
        shutil.copytree(good[form], source)
        victim = rng.choice(sorted(path for path in source.rglob("*.*") if path.is_file()))
        victim.write_bytes(damage(victim.read_bytes(), rng))
        if rng.random() < 0.5:
            source = zipped(source, work / "source.zip")
    else:
        source.write_bytes(damage(good[form].read_bytes(), rng))
    home = work / "home"
    try:
        dataset = add_dataset(home, "X", source, allow_empty=True)
    except BadData as error:
        assert all(len(problem) > 10 and "Traceback" not in problem for problem in error.problems)
        result, expected = "refused", {".X.lock"}
    else:
        assert check_dataset(dataset) == [] and dataset.cases
        result, expected = "imported", {".X.lock", "X"}
    assert {path.name for path in (home / "datasets").iterdir()} <= expected
    return form, result


def run(seeds: range, good: dict[str, Path], tmp_path: Path) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for seed in seeds:
        work = tmp_path / str(seed)
        work.mkdir()
        counts[outcome(seed, good, work)] += 1
        shutil.rmtree(work)
    return counts


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of some damage and then reads on
def test_a_damaged_source_is_imported_whole_or_refused_in_words(good, tmp_path):
    counts = run(range(80), good, tmp_path)
    assert {form for form, _ in counts} == set(FORMS)
    assert {result for _, result in counts} == {"imported", "refused"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_thousands_of_damaged_sources_are_imported_whole_or_refused_in_words(good, tmp_path):
    counts = run(range(1000, 4000), good, tmp_path)
    for form in FORMS:
        print(f"{form:>9}  imported {counts[form, 'imported']:4}  refused {counts[form, 'refused']:4}")
    assert counts.total() == 3000
