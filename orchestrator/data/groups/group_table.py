"""The group and the center of every case from a text table, with remarks on its interpretation.

Such tables come from people, scripts and spreadsheets in many languages; a table with a single interpretation is read
and reported, any other is rejected with the remedy.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.common.errors import BadData
from orchestrator.data.groups.row_names import bare, finders, spoiled
from orchestrator.data.groups.spreadsheet import Notes, read_rows
from orchestrator.data.sources.pairs import Membership
from orchestrator.data.spelling import composed

GROUP, CENTER = "group", "center"  # default columns
# Known headings, without capitals and blanks; most likely ones first.
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
FEW = 3  # images from which groups of one image each get a remark
Row = Mapping[str, str]  # heading -> cell
SPREADSHEET = re.compile(r"=.*|#(?!n/?[av]$)[a-z/0]+[!?]?|#{3,}", re.IGNORECASE)  # =A1, #REF!, #WERT!, #####
NOTHING = ("", "nan", "none", "null", "na", "n/a", "#n/a", "#nv", "<na>", "-", "--", "?", "unknown")


@dataclass(frozen=True)
class GroupTable:
    """Content of a groups file."""

    members: Mapping[str, Membership]  # by stem; contains every case unless there are problems
    has_groups: bool  # whether there is a column of groups
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()  # on its interpretation, where it is not obvious


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
) -> GroupTable:
    """Group and center of every stem; columns are named by the user, or known synonyms of the defaults.

    Rows of `skipped` names are ignored, and so are rows of other images if every stem has a row.
    """
    notes = Notes()
    try:
        rows, headings = read_rows(path, notes)
    except BadData as error:
        return GroupTable({}, False, tuple(f"{path.name}: {problem}" for problem in error.problems))
    columns = _columns(rows.values(), headings, (group_column, center_column), stems, notes)
    if columns is None:
        return GroupTable({}, False, tuple(f"{path.name}: {problem}" for problem in notes.problems))
    rows = {n: row for n, row in rows.items() if bare((row.get(columns.name) or "").strip()) not in skipped}
    members = _members(rows, columns, stems, notes)
    return GroupTable(
        members,
        columns.group is not None,
        tuple(f"{path.name}: {problem}" for problem in notes.problems),
        tuple(f"{path.name}: {remark}" for remark in notes.remarks),
    )


def _columns(
    rows: Collection[Row],
    headings: Sequence[str],
    wanted: tuple[str, str],
    stems: Collection[str],
    notes: Notes,
) -> _Columns | None:
    """The columns of names, groups and centers; None, and a problem for each, if they are ambiguous or missing."""
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
    for requested, default, column in zip(wanted, (GROUP, CENTER), found, strict=True):
        if column is None and requested != default:
            notes.problems.append(f"expected the column {requested!r} of --{default}-column, {here}")
    if not any(found) and wanted == (GROUP, CENTER) and not is_ambiguous:
        notes.problems.append(
            f"expected a column 'group' (video, patient) or 'center', {here}; name yours with "
            "--group-column or --center-column"
        )
    if name and name in found:
        notes.problems.append(
            f"column {name!r} holds the names of images; it cannot be the group or center as well"
        )
    if twice := [column for column in (name, *found) if column and headings.count(column) > 1]:
        notes.problems.append(f"columns given more than once: {some(twice)}")
    return None if name is None else _Columns(name, *found)


def _column(headings: Sequence[str], synonyms: str, wanted: str, default: str, notes: Notes) -> str | None:
    """The heading equal to `wanted`, or equal except for capitals and blanks; else the only synonym of a default."""
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
    rows: Collection[Row], headings: Sequence[str], stems: Collection[str], notes: Notes
) -> str | None:
    """`name`, else the synonym whose cells match the most cases."""
    if "name" in headings:
        return "name"
    ways, ranked = finders(stems), NAMES.split()

    def matches(heading: str) -> int:
        names = ((row.get(heading) or "").strip() for row in rows)
        return sum(any(find(name) for _, find in ways) for name in names)

    alike = [heading for heading in headings if _plain(heading) in ranked]
    if not alike:
        return None
    best = max(alike, key=lambda heading: (matches(heading), -ranked.index(_plain(heading))))
    notes.remarks.append(f"column {best!r} is read as the name")
    return best


def _plain(heading: str) -> str:
    return "_".join(heading.casefold().replace("-", " ").replace("_", " ").split())


def _members(
    rows: Mapping[int, Row], columns: _Columns, stems: Collection[str], notes: Notes
) -> dict[str, Membership]:
    found, others = _rows_by_stem(rows, columns, stems, notes)
    _check_names(stems, found, others, columns, notes)
    _check_cells([row for here in found.values() for row in here.values()], columns, notes)
    members = {stem: _membership(next(iter(here.values())), columns) for stem, here in found.items()}
    lines = {stem: next(iter(here)) for stem, here in found.items()}
    for kind, column in ((GROUP, columns.group), (CENTER, columns.center)):
        if column is not None:
            _check_gaps(kind, {stem: getattr(member, kind) for stem, member in members.items()}, lines, notes)
    return members


def _rows_by_stem(
    rows: Mapping[int, Row], columns: _Columns, stems: Collection[str], notes: Notes
) -> tuple[dict[str, dict[int, Row]], dict[int, str]]:
    """Rows by stem and line, and names without a case by line; remarks on how names were matched."""
    found: dict[str, dict[int, Row]] = defaultdict(dict)
    others: dict[int, str] = {}
    changed: dict[str, list[str]] = defaultdict(list)
    ways = finders(stems)
    for line, row in rows.items():
        name = (row.get(columns.name) or "").strip()
        how, stem = next(((how, one) for how, find in ways if (one := find(name))), ("", None))
        if stem is None:
            others[line] = name
            continue
        if how:
            changed[how].append(name)
        found[stem][line] = row
    notes.remarks += [f"{how}: {some(names)}" for how, names in changed.items()]
    return found, others


def _membership(row: Row, columns: _Columns) -> Membership:
    return Membership(*(_cell(row, column) for column in (columns.group, columns.center)))


def _cell(row: Row, column: str | None) -> str:
    """A cell without surplus blanks, in Unicode form NFC so that umlauts of macOS do not split a patient in two."""
    text = " ".join(composed(row.get(column) or "").split()) if column else ""
    return "" if text.casefold() in NOTHING else text


def _check_names(
    stems: Collection[str],
    found: Mapping[str, Mapping[int, Row]],
    others: Mapping[int, str],
    columns: _Columns,
    notes: Notes,
) -> None:
    """Report cases without exactly one row (or several equal rows); rows of other images are counted."""
    several = {stem: here for stem, here in found.items() if len(here) > 1}
    differing = [stem for stem, here in several.items() if len(_memberships(here, columns)) > 1]
    if differing:
        contradictions = _listed([_contradiction(stem, several[stem], columns) for stem in differing])
        notes.problems.append(f"rows that contradict each other: {contradictions}; keep one for each image")
    if same := [
        f"{stem!r} (lines {_lines(here)})" for stem, here in several.items() if stem not in differing
    ]:
        notes.remarks.append(f"repeated rows with equal content: {_listed(same)}")
    missing = sorted(set(stems) - found.keys())
    unknown = _listed([f"{name!r} (line {line})" for line, name in others.items()])
    if missing and not found:
        rows = f"its rows are named {unknown}" if others else "it has no rows"
        notes.problems.append(f"names no image: {rows}; images are named {some(missing[:3])}")
    elif missing:
        notes.problems += [f"names without a case: {unknown}"] if others else []
        notes.problems.append(f"cases without a row: {some(missing)}; a row may leave its cell empty")
    elif others:
        notes.remarks.append(f"{len(others)} row{'s'[: len(others) > 1]} of other images, ignored: {unknown}")
    if missing and (remedy := spoiled(others.values())):
        notes.problems.append(remedy)


def _memberships(rows: Mapping[int, Row], columns: _Columns) -> set[Membership]:
    return {_membership(row, columns) for row in rows.values()}


def _contradiction(stem: str, rows: Mapping[int, Row], columns: _Columns) -> str:
    """Text such as `'c0' is in group 'p1' (line 2: 'train/c0.png'), group 'p2' (line 9: 'test/c0.png')`."""
    texts: dict[Membership, str] = {}
    for line, row in rows.items():
        member = _membership(row, columns)
        kinds = ((GROUP, columns.group, member.group), (CENTER, columns.center, member.center))
        cells = " of ".join(f"{kind} {text!r}" for kind, column, text in kinds if column)
        texts.setdefault(member, f"{cells} (line {line}: {(row.get(columns.name) or '').strip()!r})")
    return f"{stem!r} is in {', '.join(texts.values())}"


def _lines(rows: Mapping[int, Row]) -> str:
    return ", ".join(map(str, rows))


def _check_cells(rows: Iterable[Row], columns: _Columns, notes: Notes) -> None:
    """Report texts that count as empty cells, and groups whose names differ only in spelling."""
    rows = list(rows)
    for kind, column in (("group", columns.group), ("center", columns.center)):
        cells = [" ".join(composed(row.get(column) or "").split()) for row in rows] if column else []
        notes.problems += _wrong_cells(kind, sorted(set(cells)))
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
                why = "they differ only in capitals" if same else "they are one number"
                notes.remarks.append(
                    f"{alike} are different {kind}s, although {why}; use one spelling if they are the same"
                )


def _wrong_cells(kind: str, cells: Sequence[str]) -> Iterator[str]:
    """Problems of cells that cannot be the name of a group or center."""
    for what, remedy, wrong in (
        ("errors or formulas of a spreadsheet", "correct them there, and save values", SPREADSHEET.fullmatch),
        ("invisible characters", "write them again", lambda cell: not cell.isprintable()),
        ("'image:' at the beginning", "which means no group", lambda cell: cell.startswith("image:")),
    ):
        if found := [ascii(cell) for cell in cells if wrong(cell)]:
            yield f"{kind}s with {what}: {_listed(found)}; {remedy}"


def _meant(cell: str) -> str:
    """Key of a cell, equal for 001, 1 and 1.0, which spreadsheets treat as one number, and for P1 and p1."""
    number = cell.replace(",", ".")
    return f"{float(number):.12g}" if NUMBER.fullmatch(number) else cell.casefold()


def _check_gaps(kind: str, cells: Mapping[str, str], lines: Mapping[str, int], notes: Notes) -> None:
    if kind == GROUP and len(cells) >= FEW and len({*cells.values(), ""}) == len(cells) + 1:
        notes.remarks.append(
            f"each of the {len(cells)} images has a group of its own, so no two are known to belong together; name "
            "another column with --group-column if this one is not of patients or videos"
        )
    gaps = [f"{stem!r} (line {lines[stem]})" for stem, text in cells.items() if not text]
    if not gaps:
        return
    if len(gaps) == len(cells):
        notes.remarks.append(f"no case has a {kind}, so {kind}s are unknown")
    else:
        rest = "so groups count as unknown" if kind == GROUP else "so no split by center can be made"
        notes.remarks.append(f"{len(gaps)} of {len(cells)} cases have no {kind}, {rest}: {_listed(gaps)}")


def some(names: Sequence[str]) -> str:
    """The first ten names, quoted, and the number of further ones."""
    return _listed([repr(name) for name in names])


def _listed(texts: Sequence[str]) -> str:
    rest = f" and {len(texts) - 10} more" if len(texts) > 10 else ""
    return ", ".join(texts[:10]) + rest
