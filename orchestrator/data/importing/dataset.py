"""Import of a folder or an archive of images and masks as a dataset: copied, verified, hashed."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import astuple, replace
from pathlib import Path

from filelock import FileLock, Timeout

from orchestrator.common.cpus import pooled
from orchestrator.common.display import Progress
from orchestrator.common.errors import BadData, UserError
from orchestrator.common.files import write_atomically
from orchestrator.data.cases import FORMAT, MANIFEST, Case, Dataset, _datasets_folder, load_dataset
from orchestrator.data.groups.group_table import CENTER, GROUP, read_groups
from orchestrator.data.importing.disk_space import DiskSpace
from orchestrator.data.importing.verify import JOURNAL, NUM_THREADS, copy_verified, drop_others
from orchestrator.data.masks.inspection import Facts, inspect_pair
from orchestrator.data.masks.mask_rule import BLACK_AND_WHITE, MaskRule, as_published
from orchestrator.data.masks.repeats import problems_of_repeats, remarks_on_repeats
from orchestrator.data.masks.verdict import (
    is_unclear,
    problems_of_pair,
    problems_of_set,
    remarks_of_set,
    unclear_pairs,
)
from orchestrator.data.sources.archives import open_source
from orchestrator.data.sources.collect import Found
from orchestrator.data.sources.pairs import Membership, Pair, collapsed
from orchestrator.data.sources.sets import AS_FOUND, SourceOptions
from orchestrator.data.sources.skipped import SKIP_BAD, share_skipped, skipped_cases

RESERVED = ("test", "validation")  # names of studies for their own parts


def add_dataset(
    home: Path,
    name: str,
    source: Path,
    *,
    parts: Sequence[str] = (),
    reading: SourceOptions = AS_FOUND,
    groups: Path | None = None,
    group_column: str = GROUP,
    center_column: str = CENTER,
    allow_empty: bool = False,
    rule: MaskRule = BLACK_AND_WHITE,
    on_progress: Progress | None = None,
) -> Dataset:
    """Copy and verify the pairs of a folder or an archive; one BadData lists every problem of every file.

    `parts` selects from a source of several sets, and `reading` has further options. Groups and centers are those of
    the archive, if it has them, unless the CSV `groups` gives others. `allow_empty` accepts masks without a polyp,
    which archives known to contain such frames always may. `rule` defines which levels of a mask are polyp. A killed
    import is resumed; a failed one leaves nothing behind. Returns the existing dataset if it has the same name and
    content.
    """
    _refuse_name(name)
    if not source.exists():
        raise BadData(str(source), "expected a folder, a zip or a tar archive, found nothing there")
    reading = replace(reading, parts=(*reading.parts, *parts))
    command = f"orchestrator data add {name} {shlex.quote(str(source))}{reading.options}"
    target = _datasets_folder(home) / name
    staging, partial = target.with_name(f".{name}.unpacked"), target.with_name(f".{name}.partial")
    space = DiskSpace(target.parent)
    with space.cleaning_up():
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        with (
            _locked(target),
            space.cleaning_up(partial, staging),
            _removed_if_rejected(partial),
            open_source(source, staging, reading, command, on_progress) as found,
        ):
            members, remarks, problems = _members(found, groups, group_column, center_column)
            allow_empty = allow_empty or found.empty
            rule = as_published(rule, found.classes)
            if target.exists():
                return _same_or_rejected(
                    load_dataset(home, name), source, found, members, rule, allow_empty, problems
                )
            if not found.temporary:
                space.reserve(found.pairs, partial)
            facts, unusable = copy_verified(
                found.pairs,
                partial,
                allow_empty=allow_empty,
                rule=rule,
                temporary=found.temporary,
                on_progress=on_progress,
            )
            if reading.skip_bad:
                unusable |= unclear_pairs({stem: facts[stem] for stem in facts.keys() - unusable.keys()})
            pairs = [pair for pair in found.pairs if pair.stem not in unusable]
            if reading.skip_bad:
                facts = {pair.stem: facts[pair.stem] for pair in pairs}
            problems += _blocking_problems(found, unusable, reading) + problems_of_set(facts, rule)
            problems += [] if problems else problems_of_repeats(facts, rule)
            if problems:
                raise BadData(str(source), collapsed(problems))
            drop_others(partial, [pair.stem for pair in pairs])
            cases = tuple(_case(name, target, pair, facts[pair.stem], members) for pair in pairs)
            fingerprint = _fingerprint({stem: fact.sha256 for stem, fact in facts.items()}, members)
            skipped = skipped_cases(found, unusable)
            remarks += [
                *share_skipped(skipped, len(pairs)),
                *remarks_of_set(facts, rule),
                *remarks_on_repeats(facts),
            ]
            known = all(members[pair.stem].group for pair in pairs)
            dataset = Dataset(name, target, cases, fingerprint, known, found.layout, tuple(remarks), skipped)
            _write_manifest(dataset, partial)
            (partial / JOURNAL).unlink()
            partial.replace(target)
    return dataset


@contextmanager
def _removed_if_rejected(partial: Path) -> Iterator[None]:
    """Context that removes copied files when an import is rejected; a killed import keeps them, to be resumed."""
    try:
        yield
    except UserError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _blocking_problems(
    found: Found, unusable: Mapping[str, Sequence[str]], reading: SourceOptions
) -> list[str]:
    """Problems that prevent an import; with --skip-bad only if no pair would be left."""
    problems = [str(bad) for bad in found.bad] + [problem for here in unusable.values() for problem in here]
    if reading.skip_bad and (not problems or len(unusable) < len(found.pairs)):
        return []
    return problems + ([*found.remedies, SKIP_BAD] if problems and not reading.skip_bad else [])


def _members(
    found: Found, groups: Path | None, group_column: str, center_column: str
) -> tuple[dict[str, Membership], list[str], list[str]]:
    """Origin of each case, remarks and problems; the archive's origin where the CSV has no column."""
    members = {pair.stem: pair.member for pair in found.pairs}
    remarks = list(found.remarks)
    if groups is None:
        return members, remarks, []
    unpaired = {bad.stem for bad in found.bad} - members.keys()
    table = read_groups(groups, list(members), group_column, center_column, unpaired)
    for stem, member in table.members.items():
        here = members[stem]
        group = member.group if table.has_groups else here.group
        members[stem] = Membership(group, member.center or here.center)
    return members, remarks + list(table.remarks), list(table.problems)


@contextmanager
def _locked(target: Path, timeout_s: float = -1) -> Iterator[None]:
    """Lock for one import at a time; its file is removed while held, and waiting processes create a new one."""
    path = target.with_name(f".{target.name}.lock")
    with FileLock(path, timeout=timeout_s):
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _sweep(folder: Path) -> None:
    """Remove archives unpacked by killed imports; a running import holds its lock and is left alone."""
    for left in folder.glob(".*.unpacked"):
        target = folder / left.name[1:].removesuffix(".unpacked")
        with suppress(Timeout), _locked(target, timeout_s=0):
            shutil.rmtree(left, ignore_errors=True)


def _refuse_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise BadData(
            name[:120] or "''",
            "expected a dataset name of at most 100 letters, digits, '.', '_' and '-', as in Kvasir-SEG",
        )
    if name in RESERVED:
        raise BadData(name, "is the name of a part in the tables of every study; choose another name")


def _case(name: str, folder: Path, pair: Pair, facts: Facts, members: Mapping[str, Membership]) -> Case:
    member = members.get(pair.stem, Membership())
    return Case(
        id=f"{name}/{pair.stem}",
        dataset=name,
        # A case without a group is a group of one; "image:" distinguishes frame 1 from video 1.
        group=f"{name}/{member.group or f'image:{pair.stem}'}",
        center=member.center or None,
        image=folder / "images" / pair.image_name,
        mask=folder / "masks" / (f"{pair.stem}.bmp" if facts.drawn_again else pair.mask_name),
        height=facts.height,
        width=facts.width,
        polyp_fraction=facts.polyp_fraction,
        sha256=facts.sha256,
        image_sha256=facts.image_sha256,
        mask_sha256=facts.mask_sha256,
        classes=tuple(facts.classes),
        part=pair.part,
    )


def _fingerprint(hashes: Mapping[str, str], members: Mapping[str, Membership]) -> str:
    """32 hex digits of a hash of stem, bytes, group and center of every case; independent of the dataset's name."""
    lines = [(stem, hashes[stem], *astuple(members.get(stem, Membership()))) for stem in sorted(hashes)]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:32]


def _same_or_rejected(
    dataset: Dataset,
    source: Path,
    found: Found,
    members: Mapping[str, Membership],
    rule: MaskRule,
    allow_empty: bool,
    problems: Sequence[str],
) -> Dataset:
    known = {case.id.removeprefix(f"{dataset.name}/") for case in dataset.cases}
    left_out = {bad.stem for bad in dataset.skipped} - known
    pairs = [
        pair for pair in found.pairs if pair.stem not in left_out or not _is_bad(pair, rule, allow_empty)
    ]
    if problems or (found.bad and not dataset.skipped):
        raise BadData(str(source), collapsed([*problems, *map(str, found.bad), *found.remedies]))
    with pooled(ThreadPoolExecutor(NUM_THREADS)) as pool:
        found_facts = list(pool.map(lambda pair: inspect_pair(pair.image, pair.mask, rule)[0], pairs))
    hashed = {pair.stem: facts.sha256 for pair, facts in zip(pairs, found_facts, strict=True)}
    same = _fingerprint(hashed, members) == dataset.fingerprint
    if not same or [case.classes for case in dataset.cases] != [
        tuple(facts.classes) for facts in found_facts
    ]:
        raise BadData(
            dataset.name,
            f"a dataset of this name has other images, masks, groups, centers or classes than {source}; "
            f"choose another name, or remove {dataset.folder}",
        )
    return dataset


def _is_bad(pair: Pair, rule: MaskRule, allow_empty: bool) -> bool:
    try:
        facts = inspect_pair(pair.image, pair.mask, rule)[0]
        return is_unclear(facts) or bool(problems_of_pair(facts, pair.stem, allow_empty=allow_empty))
    except BadData:
        return True


def _write_manifest(dataset: Dataset, folder: Path) -> None:
    content = {
        "format": FORMAT,
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "groups_known": dataset.groups_known,
        "layout": dataset.layout,
        "remarks": dataset.remarks,
        "skipped": [bad._asdict() for bad in dataset.skipped],
        "cases": [
            {
                "id": case.id,
                "image": case.image.name,
                "mask": case.mask.name,
                "group": case.group,
                "center": case.center,
                "height": case.height,
                "width": case.width,
                "polyp_fraction": case.polyp_fraction,
                "sha256": case.sha256,
                "image_sha256": case.image_sha256,
                "mask_sha256": case.mask_sha256,
                **({"classes": case.classes} if case.classes else {}),
                **({"part": case.part} if case.part else {}),
            }
            for case in dataset.cases
        ],
    }
    write_atomically(folder / MANIFEST, json.dumps(content, indent=1).encode())
