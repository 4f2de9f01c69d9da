"""Verification of every pair of files: copy, decode, measure; a killed run is resumed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from orchestrator.common.cpus import pooled, usable_cpus
from orchestrator.common.display import Progress
from orchestrator.common.errors import BadData
from orchestrator.common.faults import FAULTS, machine_fault
from orchestrator.common.files import replacing, write_atomically
from orchestrator.data.masks.inspection import Facts, inspect_pair
from orchestrator.data.masks.mask_rule import BLACK_AND_WHITE, MaskRule
from orchestrator.data.masks.verdict import problems_of_pair
from orchestrator.data.sources.pairs import Pair

NUM_THREADS = min(16, usable_cpus())
JOURNAL = "journal.jsonl"

Stamp = tuple[str | int, ...]


def copy_verified(
    pairs: Sequence[Pair],
    partial: Path,
    *,
    allow_empty: bool,
    rule: MaskRule = BLACK_AND_WHITE,
    temporary: bool = False,
    on_progress: Progress | None = None,
) -> tuple[dict[str, Facts], dict[str, list[str]]]:
    """Copy every pair into `partial` and inspect the copy: facts by stem, and problems by stem if there are any.

    A mask that `read_mask` would read differently from `rule` is replaced by a black and white NAME.bmp. Pairs that an
    earlier, killed run verified are not verified again. `temporary` pairs are moved instead of copied.
    """
    take = _move if temporary else _copy
    stamps = {pair.stem: _stamp(pair, rule) for pair in pairs}
    known = _read_journal(partial, stamps)
    drop_others(partial, known)
    facts: dict[str, Facts] = {}
    problems: dict[str, list[str]] = {}

    def work(pair: Pair) -> Facts | list[str]:
        return known[pair.stem] if pair.stem in known else _transfer_and_inspect(pair, partial, take, rule)

    with (partial / JOURNAL).open("a") as journal, pooled(ThreadPoolExecutor(NUM_THREADS)) as pool:
        for done, (pair, found) in enumerate(zip(pairs, pool.map(work, pairs), strict=True), start=1):
            if isinstance(found, Facts):
                facts[pair.stem] = found
                problems[pair.stem] = problems_of_pair(found, pair.stem, allow_empty=allow_empty)
                if pair.stem not in known:
                    journal.write(json.dumps({"stamp": stamps[pair.stem], "facts": asdict(found)}) + "\n")
                    journal.flush()
            else:
                problems[pair.stem] = found
            if on_progress:
                on_progress(done, len(pairs))
    return facts, {stem: found for stem, found in problems.items() if found}


def _transfer_and_inspect(
    pair: Pair, partial: Path, take: Callable[[Path, Path], None], rule: MaskRule
) -> Facts | list[str]:
    image, mask = partial / "images" / pair.image_name, partial / "masks" / pair.mask_name
    try:
        take(pair.image, image)
        take(pair.mask, mask)
        facts, drawn = inspect_pair(image, mask, rule)
        if drawn is not None:
            mask.unlink()
            write_atomically(mask.with_name(f"{pair.stem}.bmp"), drawn)
        return facts
    except BadData as error:
        if (fault := machine_fault(error)) is not None:  # a full disk is not the pair's fault
            raise fault from error
        return list(error.problems)


def _move(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)


def _copy(source: Path, target: Path) -> None:
    try:
        original = source.open("rb")
    except OSError as error:
        if error.errno in FAULTS:
            raise
        raise BadData(source.stem, f"{source.parent.name}/{source.name}: {error.strerror}") from error
    with original, replacing(target) as copy:
        shutil.copyfileobj(original, copy, 1 << 20)


def _stamp(pair: Pair, rule: MaskRule) -> Stamp:
    """A tuple that changes when a source file or the rule changes, without reading the file."""
    stats = [path.stat() for path in (pair.image, pair.mask)]
    sizes_and_times = (n for stat in stats for n in (stat.st_size, stat.st_mtime_ns))
    return (pair.stem, str(pair.image), str(pair.mask), repr(rule), *sizes_and_times)


def _read_journal(partial: Path, stamps: Mapping[str, Stamp]) -> dict[str, Facts]:
    """Facts by stem that are still valid; lines that cannot be parsed, as after a kill, are ignored."""
    for name in ("images", "masks"):
        (partial / name).mkdir(parents=True, exist_ok=True)
    entries = {}
    journal = partial / JOURNAL
    for line in journal.read_text(errors="replace").splitlines() if journal.exists() else ():
        with suppress(ValueError, TypeError, KeyError):  # truncated, damaged, or of another version
            entry = json.loads(line)
            entries[tuple(entry["stamp"])] = Facts(**entry["facts"])
    return {stem: entries[stamp] for stem, stamp in stamps.items() if stamp in entries}


def drop_others(partial: Path, known: Collection[str]) -> None:
    """Remove copies of all cases except those `known` by stem."""
    for path in (*(partial / "images").iterdir(), *(partial / "masks").iterdir()):
        if path.stem not in known:
            path.unlink()
