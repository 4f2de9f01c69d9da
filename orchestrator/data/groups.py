"""A table of text -> the group and the center of every case, and in words how it was understood.

Such tables are made by hand, by spreadsheets in many languages and by scripts; what can be read in one way only is
read and reported, all else is refused with the remedy.
"""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from orchestrator.data.images import EXTENSIONS
from orchestrator.data.pairs import Membership
from orchestrator.errors import BadData

MAX_TABLE_BYTES = 64 << 20
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
GROUP, CENTER = "group", "center"  # the columns that are looked for where none is named
NAMES = (
    *("name", "case", "case_name", "image", "image_name", "image_file", "image_id", "image_path", "img"),
    *(
        "file",
        "filename",
        "file_name",
        "path",
        "frame",
        "frame_name",
        "stem",
        "bild",
        "datei",
        "dateiname",
        "id",
    ),
)
GROUPS = (
    *(
        "group",
        "group_id",
        "groups",
        "patient",
        "patient_id",
        "patientid",
        "patient_nr",
        "subject",
        "subject_id",
    ),
    *("sequence", "sequence_id", "seq", "video", "video_id", "video_name", "clip", "study", "study_id"),
    *("procedure", "exam", "examination", "gruppe"),
)
CENTERS = (
    *("center", "centre", "center_id", "centre_id", "centers", "centres", "hospital", "hospital_id"),
    *("site", "site_id", "institution", "institute", "clinic", "klinik", "zentrum", "krankenhaus"),
)
NOTHING = ("", "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "-", "--", "?", "unknown")
# Not text, by first bytes: what a spreadsheet saves if it is not asked for CSV.
WORKBOOKS = {b"PK\x03\x04": "a workbook (.xlsx, .ods)", b"\xd0\xcf\x11\xe0": "an old workbook (.xls)"}


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


@dataclass
class _Notes:
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


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
    notes = _Notes()
    try:
        rows, headings = _rows(path, notes)
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


def _rows(path: Path, notes: _Notes) -> tuple[dict[int, dict[str, str]], list[str]]:
    """Rows by line number, blank ones left out, as heading -> cell; and the headings."""
    text = _text(path, notes)
    first, _, rest = text.partition("\n")
    delimiter = ""
    if first.strip().strip('"').casefold().startswith("sep=") and rest:  # the first line that Excel may write
        delimiter, text = first.strip().strip('"')[4:5] or "\t", f"\n{rest}"
    delimiter = delimiter or _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        first_row = next((cells for cells in reader if any(cell.strip() for cell in cells)), [])
        headings = [heading.strip() for heading in first_row]
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise BadData(path.name, f"expected a CSV file, found {error}") from error
    for line, cells in lines:
        if any(cell.strip() for cell in cells[len(headings) :]):
            notes.problems.append(f"line {line}: expected {len(headings)} cells, found {len(cells)}")
    if delimiter != ",":
        notes.remarks.append(f"columns are separated by {DELIMITERS.get(delimiter, repr(delimiter))}")
    return {line: dict(zip(headings, cells, strict=False)) for line, cells in lines}, headings


def _text(path: Path, notes: _Notes) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TABLE_BYTES + 1)
    except OSError as error:
        raise BadData(path.name, f"expected a CSV file, found {error.strerror}") from error
    if len(content) > MAX_TABLE_BYTES:
        raise BadData(path.name, f"expected at most {MAX_TABLE_BYTES:,} bytes")
    if kind := next((kind for start, kind in WORKBOOKS.items() if content.startswith(start)), None):
        raise BadData(path.name, f"expected a CSV file, found {kind}; save the sheet as CSV")
    encoding = _encoding(content)
    if encoding not in ("utf-8-sig", "utf-8"):
        notes.remarks.append(f"read as {encoding}, as it is not UTF-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadData(
            path.name, f"expected a CSV file in UTF-8, found {error.reason}; save it as UTF-8"
        ) from error
    if "\0" in text:
        raise BadData(path.name, "expected a CSV file, found bytes that are no text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _encoding(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if content.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if content[1:2] == b"\0" or content[:1] == b"\0":
        return "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"  # of Windows in western Europe; holds Latin-1
    return "utf-8"


def _delimiter(text: str) -> str:
    """What parts the first line most often, outside of quotes; a comma where nothing does."""
    line = next((line for line in text.split("\n") if line.strip()), "")
    bare = "".join(line.split('"')[::2])
    return max(DELIMITERS, key=lambda delimiter: (bare.count(delimiter), delimiter == ","))


def _columns(
    rows: Collection[Mapping[str, str]],
    headings: Sequence[str],
    wanted: tuple[str, str],
    stems: Collection[str],
    notes: _Notes,
) -> _Columns | None:
    """Which column holds what; None, and a problem for each, where that is not clear."""
    named = [heading for heading in headings if heading]
    name = _name_column(rows, named, stems, notes)
    found = [
        _column(named, synonyms, column, default, notes)
        for synonyms, column, default in zip((GROUPS, CENTERS), wanted, (GROUP, CENTER), strict=True)
    ]
    here = f"found {', '.join(named) or 'no headings'}"
    if name is None:
        notes.problems.append(f"expected a column 'name' with the names of the images, {here}")
    for asked, default, column in zip(wanted, (GROUP, CENTER), found, strict=True):
        if column is None and asked != default:
            notes.problems.append(f"expected the column {asked!r} of --{default}-column, {here}")
    if not any(found) and wanted == (GROUP, CENTER) and not notes.problems:
        notes.problems.append(
            f"expected a column 'group' (video, patient) or 'center', {here}; name yours with "
            "--group-column or --center-column"
        )
    if twice := [column for column in (name, *found) if column and headings.count(column) > 1]:
        notes.problems.append(f"columns given more than once: {some(twice)}")
    return None if name is None else _Columns(name, *found)


def _column(
    headings: Sequence[str], synonyms: Sequence[str], wanted: str, default: str, notes: _Notes
) -> str | None:
    """The heading that is wanted, to the letter or but for capitals and blanks; else the only synonym of a default."""
    if wanted in headings:
        return wanted
    alike = [heading for heading in headings if _plain(heading) == _plain(wanted)]
    if not alike and wanted == default:
        alike = [heading for heading in headings if _plain(heading) in synonyms]
    if len(alike) > 1:
        notes.problems.append(
            f"columns {', '.join(alike)} could each be the {default}; pick one with --{default}-column"
        )
    if len(alike) == 1:
        notes.remarks.append(f"column {alike[0]!r} is read as the {default}")
        return alike[0]
    return None


def _name_column(
    rows: Collection[Mapping[str, str]], headings: Sequence[str], stems: Collection[str], notes: _Notes
) -> str | None:
    """`name`, else the synonym whose cells name the most cases."""
    if "name" in headings:
        return "name"
    finders = _finders(stems)

    def matches(heading: str) -> int:
        names = ((row.get(heading) or "").strip() for row in rows)
        return sum(any(find(name) for _, find in finders) for name in names)

    alike = [heading for heading in headings if _plain(heading) in NAMES]
    if not alike:
        return None
    best = max(alike, key=lambda heading: (matches(heading), -NAMES.index(_plain(heading))))
    notes.remarks.append(f"column {best!r} is read as the name")
    return best


def _plain(heading: str) -> str:
    return "_".join(heading.casefold().replace("-", " ").replace("_", " ").split())


def _members(
    rows: Mapping[int, Mapping[str, str]], columns: _Columns, stems: Collection[str], notes: _Notes
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
    text = " ".join((row.get(column) or "").split()) if column else ""
    return "" if text.casefold() in NOTHING else text


def _finders(stems: Collection[str]) -> list[tuple[str, Callable[[str], str | None]]]:
    """Ways to read a name, the plainest first, each with what to report about it; names that fit two cases fit none."""
    folded = _unique(stems, _folded)
    numbers = _unique([stem for stem in stems if stem.isdecimal()], lambda stem: str(int(stem)))
    known = set(stems)
    return [
        ("", lambda name: name if name in known else None),
        ("suffixes and folders of names are left out", lambda name: _within(_bare(name), known)),
        ("folders of names are read as part of them", lambda name: _within(_joined(name), known)),
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


def _folded(name: str) -> str:
    """Without capitals; an umlaut is one letter, as macOS does not write it."""
    return unicodedata.normalize("NFC", name).casefold()


def _bare(name: str) -> str:
    """images/c0.PNG -> c0"""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in EXTENSIONS else path.name


def _joined(name: str) -> str:
    """seq1/c0.png -> seq1_c0, as frames of several folders are told apart"""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "_".join((*parts[-2:-1], _bare(name)))


def _check_names(
    stems: Collection[str], lines: Mapping[str, Sequence[int]], others: Mapping[str, int], notes: _Notes
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


def _check_cells(rows: Iterable[Mapping[str, str]], columns: _Columns, notes: _Notes) -> None:
    """Report what was taken for an empty cell, and groups that only capitals tell apart."""
    rows = list(rows)
    for kind, column in (("group", columns.group), ("center", columns.center)):
        cells = [" ".join((row.get(column) or "").split()) for row in rows] if column else []
        if words := sorted({cell for cell in cells if cell and cell.casefold() in NOTHING}):
            count = sum(cell in words for cell in cells)
            notes.remarks.append(f"{', '.join(map(repr, words))} is read as no {kind}, {count} times")
        spellings: dict[str, set[str]] = defaultdict(set)
        for cell in cells:
            spellings[cell.casefold()].add(cell)
        for text, found in sorted(spellings.items()):
            if len(found) > 1 and text not in NOTHING:
                alike = " and ".join(map(repr, sorted(found)))
                notes.remarks.append(f"{alike} are different {kind}s, although they differ in capitals alone")


def _check_gaps(
    kind: str, cells: Mapping[str, str], lines: Mapping[str, Sequence[int]], notes: _Notes
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
