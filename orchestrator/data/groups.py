"""A table of text -> the group and the center of every case, and in words how it was understood.

Such tables are made by hand, by spreadsheets in many languages and by scripts; what can be read in one way only is
read and reported, all else is refused with the remedy.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from orchestrator.data.images import EXTENSIONS
from orchestrator.data.pairs import Membership
from orchestrator.data.spreadsheet import Notes, read_rows
from orchestrator.errors import BadData

GROUP, CENTER = "group", "center"  # the columns that are looked for where none is named
# Words that headings are, without capitals and blanks; from the likeliest on.
NAMES = (
    "name case_name image image_name image_file image_id image_path img file filename file_name path frame frame_name "
    "stem bild datei dateiname case id"
)
GROUPS = (
    "group group_id groups gruppe patient patient_id patientid patient_nr subject subject_id sequence sequence_id seq "
    "video video_id video_name clip study study_id procedure exam examination"
)
CENTERS = (
    "center center_id centers centre centre_id centres hospital hospital_id krankenhaus site site_id institution "
    "institute clinic klinik zentrum"
)
NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")
NOTHING = ("", "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "-", "--", "?", "unknown")


@dataclass(frozen=True)
class Table:
    """What a groups file says."""

    members: Mapping[str, Membership]  # by stem; holds every case unless there are problems
    has_groups: bool  # a column of groups was found
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()  # how it was understood, where that is not plain


@dataclass(frozen=True)
class _Columns:
    name: str
    group: str | None
    center: str | None


def read_groups(
    path: Path,
    stems: Collection[str],
    group_column: str = GROUP,
    center_column: str = CENTER,
    skipped: Collection[str] = (),
) -> Table:
    """Group and center of every stem; the names of columns are the user's own, or known synonyms of the defaults.

    Rows of `skipped` names are no mistake.
    """
    notes = Notes()
    try:
        rows, headings = read_rows(path, notes)
    except BadData as error:
        return Table({}, False, tuple(f"{path.name}: {problem}" for problem in error.problems))
    columns = _columns(rows.values(), headings, (group_column, center_column), stems, notes)
    if columns is None:
        return Table({}, False, tuple(f"{path.name}: {problem}" for problem in notes.problems))
    rows = {n: row for n, row in rows.items() if _bare((row.get(columns.name) or "").strip()) not in skipped}
    members = _members(rows, columns, stems, notes)
    return Table(
        members,
        columns.group is not None,
        tuple(f"{path.name}: {problem}" for problem in notes.problems),
        tuple(f"{path.name}: {remark}" for remark in notes.remarks),
    )


def _columns(
    rows: Collection[Mapping[str, str]],
    headings: Sequence[str],
    wanted: tuple[str, str],
    stems: Collection[str],
    notes: Notes,
) -> _Columns | None:
    """Which column holds what; None, and a problem for each, where that is not clear."""
    named = [heading for heading in headings if heading]
    name = _name_column(rows, named, stems, notes)
    found = [
        _column(named, synonyms, column, default, notes)
        for synonyms, column, default in zip((GROUPS, CENTERS), wanted, (GROUP, CENTER), strict=True)
    ]
    is_ambiguous = bool(notes.problems)
    here = f"found {', '.join(named) or 'no headings'}"
    if name is None:
        notes.problems.append(f"expected a column 'name' with the names of the images, {here}")
    for asked, default, column in zip(wanted, (GROUP, CENTER), found, strict=True):
        if column is None and asked != default:
            notes.problems.append(f"expected the column {asked!r} of --{default}-column, {here}")
    if not any(found) and wanted == (GROUP, CENTER) and not is_ambiguous:
        notes.problems.append(
            f"expected a column 'group' (video, patient) or 'center', {here}; name yours with "
            "--group-column or --center-column"
        )
    if twice := [column for column in (name, *found) if column and headings.count(column) > 1]:
        notes.problems.append(f"columns given more than once: {some(twice)}")
    return None if name is None else _Columns(name, *found)


def _column(headings: Sequence[str], synonyms: str, wanted: str, default: str, notes: Notes) -> str | None:
    """The heading that is wanted, to the letter or but for capitals and blanks; else the only synonym of a default."""
    if wanted in headings:
        return wanted
    alike = [heading for heading in headings if _plain(heading) == _plain(wanted)]
    if not alike and wanted == default:
        alike = [heading for heading in headings if _plain(heading) in synonyms.split()]
    if len(alike) > 1:
        notes.problems.append(
            f"columns {', '.join(alike)} could each be the {default}; pick one with --{default}-column"
        )
    if len(alike) == 1:
        notes.remarks.append(f"column {alike[0]!r} is read as the {default}")
        return alike[0]
    return None


def _name_column(
    rows: Collection[Mapping[str, str]], headings: Sequence[str], stems: Collection[str], notes: Notes
) -> str | None:
    """`name`, else the synonym whose cells name the most cases."""
    if "name" in headings:
        return "name"
    finders, ranked = _finders(stems), NAMES.split()

    def matches(heading: str) -> int:
        names = ((row.get(heading) or "").strip() for row in rows)
        return sum(any(find(name) for _, find in finders) for name in names)

    alike = [heading for heading in headings if _plain(heading) in ranked]
    if not alike:
        return None
    best = max(alike, key=lambda heading: (matches(heading), -ranked.index(_plain(heading))))
    notes.remarks.append(f"column {best!r} is read as the name")
    return best


def _plain(heading: str) -> str:
    return "_".join(heading.casefold().replace("-", " ").replace("_", " ").split())


def _members(
    rows: Mapping[int, Mapping[str, str]], columns: _Columns, stems: Collection[str], notes: Notes
) -> dict[str, Membership]:
    members: dict[str, Membership] = {}
    finders = _finders(stems)
    lines: dict[str, list[int]] = defaultdict(list)
    others: dict[str, int] = {}
    changed: dict[str, list[str]] = defaultdict(list)
    for line, row in rows.items():
        name = (row.get(columns.name) or "").strip()
        how, stem = next(((how, found) for how, find in finders if (found := find(name))), ("", None))
        if stem is None:
            others[name] = line
            continue
        if how:
            changed[how].append(name)
        lines[stem].append(line)
        members[stem] = Membership(*(_cell(row, column) for column in (columns.group, columns.center)))
    notes.remarks += [f"{how}: {some(names)}" for how, names in changed.items()]
    _check_names(stems, lines, others, notes)
    _check_cells(rows.values(), columns, notes)
    for kind, column in (("group", columns.group), ("center", columns.center)):
        if column is not None:
            _check_gaps(kind, {stem: getattr(member, kind) for stem, member in members.items()}, lines, notes)
    return members


def _cell(row: Mapping[str, str], column: str | None) -> str:
    """An umlaut is one letter, as macOS does not write it: a patient must not become two."""
    text = " ".join(_composed(row.get(column) or "").split()) if column else ""
    return "" if text.casefold() in NOTHING else text


def _finders(stems: Collection[str]) -> list[tuple[str, Callable[[str], str | None]]]:
    """Ways to read a name, the plainest first, each with what to report about it; names that fit two cases fit none."""
    composed, folded = _unique(stems, _composed), _unique(stems, _folded)
    numbers = _unique([stem for stem in stems if stem.isdecimal()], lambda stem: str(int(stem)))
    known = set(stems)
    return [
        ("", lambda name: name if name in known else None),
        ("suffixes and folders of names are left out", lambda name: _within(_bare(name), known)),
        ("folders of names are read as part of them", lambda name: _within(_joined(name), known)),
        ("accents of names are written in another way", lambda name: composed.get(_composed(name))),
        (
            "names are matched but for capitals",
            lambda name: folded.get(_folded(name)) or folded.get(_folded(_bare(name))),
        ),
        (
            "leading zeros of names are made up for",
            lambda name: numbers.get(str(int(_bare(name)))) if _bare(name).isdecimal() else None,
        ),
    ]


def _within(name: str, known: Collection[str]) -> str | None:
    return name if name in known else None


def _unique(stems: Collection[str], key: Callable[[str], str]) -> dict[str, str]:
    by_key: dict[str, list[str]] = defaultdict(list)
    for stem in stems:
        by_key[key(stem)].append(stem)
    return {text: found[0] for text, found in by_key.items() if len(found) == 1}


def _composed(name: str) -> str:
    """An umlaut is one letter, as macOS does not write it."""
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(name).casefold()


def _bare(name: str) -> str:
    """images/c0.PNG -> c0"""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in EXTENSIONS else path.name


def _joined(name: str) -> str:
    """seq1/c0.png -> seq1_c0, as frames of several folders are told apart"""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "_".join((*parts[-2:-1], _bare(name)))


def _check_names(
    stems: Collection[str], lines: Mapping[str, Sequence[int]], others: Mapping[str, int], notes: Notes
) -> None:
    twice = [
        f"{stem!r} (lines {', '.join(map(str, found))})" for stem, found in lines.items() if len(found) > 1
    ]
    strangers = [f"{name!r} (line {line})" for name, line in others.items()]
    missing = [repr(stem) for stem in sorted(set(stems) - lines.keys())]
    for what, found in (
        ("names given more than once", twice),
        ("names without a case", strangers),
        ("cases without a row", missing),
    ):
        if found:
            notes.problems.append(f"{what}: {_listed(found)}")


def _check_cells(rows: Iterable[Mapping[str, str]], columns: _Columns, notes: Notes) -> None:
    """Report what was taken for an empty cell, and groups that differ in how they are written alone."""
    rows = list(rows)
    for kind, column in (("group", columns.group), ("center", columns.center)):
        cells = [" ".join(_composed(row.get(column) or "").split()) for row in rows] if column else []
        if words := sorted({cell for cell in cells if cell and cell.casefold() in NOTHING}):
            count = sum(cell in words for cell in cells)
            notes.remarks.append(f"{', '.join(map(repr, words))} is read as no {kind}, {count} times")
        spellings: dict[str, set[str]] = defaultdict(set)
        for cell in cells:
            spellings[_meant(cell)].add(cell)
        for text, found in sorted(spellings.items()):
            if len(found) > 1 and text not in NOTHING:
                alike = " and ".join(map(repr, sorted(found)))
                same = len({cell.casefold() for cell in found}) == 1
                why = "they differ in capitals alone" if same else "they are one number"
                notes.remarks.append(
                    f"{alike} are different {kind}s, although {why}; write one of them if they are the same"
                )


def _meant(cell: str) -> str:
    """The same text for 001, 1 and 1.0, as spreadsheets write one number, and for P1 and p1."""
    number = cell.replace(",", ".")
    return f"{float(number):.12g}" if NUMBER.fullmatch(number) else cell.casefold()


def _check_gaps(
    kind: str, cells: Mapping[str, str], lines: Mapping[str, Sequence[int]], notes: Notes
) -> None:
    gaps = [f"{stem!r} (line {lines[stem][0]})" for stem, text in cells.items() if not text]
    if not gaps:
        return
    if len(gaps) == len(cells):
        notes.remarks.append(f"no case has a {kind}, so {kind}s are unknown")
    else:
        rest = "so groups count as unknown" if kind == GROUP else "so no split by center can be made"
        notes.remarks.append(f"{len(gaps)} of {len(cells)} cases have no {kind}, {rest}: {_listed(gaps)}")


def some(names: Sequence[str]) -> str:
    """The first ten names, quoted, and how many more there are."""
    return _listed([repr(name) for name in names])


def _listed(texts: Sequence[str]) -> str:
    rest = f" and {len(texts) - 10} more" if len(texts) > 10 else ""
    return ", ".join(texts[:10]) + rest
