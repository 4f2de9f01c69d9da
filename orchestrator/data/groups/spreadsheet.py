"""Rows of a text table by heading, as people and spreadsheets save it, with remarks on its interpretation."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.common.errors import BadData

MAX_BYTES = 64 << 20
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
PROTECTED = re.compile(r'^\s*="(.*)"\s*$')  # ="0001", which prevents conversion to a number
# Not text, by first bytes: default formats of spreadsheets.
WORKBOOKS = {b"PK\x03\x04": "a workbook (.xlsx, .ods)", b"\xd0\xcf\x11\xe0": "an old workbook (.xls)"}


@dataclass
class Notes:
    """Problems of a table, and remarks on its interpretation."""

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def read_rows(path: Path, notes: Notes) -> tuple[dict[int, dict[str, str]], list[str]]:
    """Line number -> row (heading -> cell) without blank rows, and the headings. BadData if it is not text."""
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
    rows = {line: [PROTECTED.sub(r"\1", cell) for cell in cells] for line, cells in lines}
    return {line: dict(zip(headings, cells, strict=False)) for line, cells in rows.items()}, headings


def _text(path: Path, notes: Notes) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadData(path.name, f"expected a CSV file, found {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise BadData(path.name, f"expected at most {MAX_BYTES:,} bytes")
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
        raise BadData(path.name, "expected a CSV file, found bytes that are not text")
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
    """The most frequent separator in the first line, outside of quotes; a comma if there is none."""
    line = next((line for line in text.split("\n") if line.strip()), "")
    bare = "".join(line.split('"')[::2])
    return max(DELIMITERS, key=lambda delimiter: (bare.count(delimiter), delimiter == ","))
