"""RESULTS.md and RESULTS.json, which the command writes: one block for each table, replaced when it is run again.

Nothing in a block is typed in: numbers come from records of fits, facts from this machine and its packages.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.common.errors import BadData
from orchestrator.common.files import write_atomically
from orchestrator.protocols.outcome.measured import Cell, MeasuredSet
from orchestrator.protocols.outcome.survival import Difference
from orchestrator.protocols.run import TableRun
from orchestrator.results.provenance import environment
from orchestrator.scoring.formatting import finite

HEAD = "# Results\n\nWritten by `orchestrator reproduce`; a table that is run again replaces its block.\n"
BEGIN, END = "<!-- reproduce: {key} -->", "<!-- end: {key} -->"


def hardware(devices: Sequence[str]) -> str:
    """The devices that trained, and the processor of this machine, in words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    here = f"{_processor()}, {cores} cores"
    others = [one for one in devices if one != platform.machine()]  # which is how records name a CPU
    return f"{', '.join(others)}; {here}" if others else here


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1].strip() if found and found[1].strip() != "unknown" else platform.machine()


def as_plain(
    run: TableRun, sets: Sequence[MeasuredSet], differences: Sequence[Difference], command: str
) -> dict[str, Any]:
    """Content of a table's block, as plain values for JSON."""
    plan = run.plan
    return {
        "paper": plan.protocol.name,
        "table": plan.table_name,
        "scale": plan.scale_name,
        "title": plan.title,
        "only": list(plan.only),
        "caption": plan.table.caption,
        "citation": plan.protocol.citation,
        "command": command,
        "hardware": hardware(run.devices),
        "environment": environment(),
        "seeds": list(range(plan.wishes.num_seeds)) if plan.split else [],
        "fits": plan.num_fits,
        "seconds_of_training": run.seconds,
        "differences_to_the_paper": list(plan.differences()),
        "datasets": {
            wanted: {
                "name": one.dataset.name,
                "images": len(one.dataset.cases),
                "fingerprint": one.dataset.fingerprint,
            }
            for wanted, one in plan.taken.items()
        },
        "columns": [
            {"name": one.name, "score": one.score, "measure": one.measure} for one in plan.table.columns
        ],
        "sets": [_set(one) for one in sets],
        "published_differences": [one.as_dict() for one in differences],
    }


def _set(one: MeasuredSet) -> dict[str, Any]:
    return {
        "name": one.name,
        "shown": one.shown,
        "images": one.num_images,
        "rows": [
            {
                "name": row.name,
                "error": row.error,
                "cells": [cell.as_dict() for cell in row.cells],
                "tuned": None if row.tuned is None else [cell.as_dict() for cell in row.tuned],
                "tuned_params": None if row.tuned_params is None else dict(row.tuned_params),
            }
            for row in one.rows
        ],
    }


def check_writable(path: Path) -> None:
    """Raises `BadData` for a file that this command did not write: it would be changed."""
    if path.suffix != ".md":
        raise BadData("--out", f"expected a name that ends in .md, found {path}")
    if (reason := _unwritable(path)) is not None:
        raise BadData("--out", reason)
    if path.exists() and not path.read_bytes().startswith(HEAD.splitlines()[0].encode()):
        raise BadData("--out", f"{path} was not written by this command; name another file")
    if path.with_suffix(".json").exists():
        _read(path.with_suffix(".json"))
    elif path.exists():
        raise BadData(
            "--out", f"{path} has no {path.with_suffix('.json').name} next to it, from which it is written"
        )


def _unwritable(path: Path) -> str | None:
    """Why files cannot be made there; None where they can."""
    if path.is_dir():
        return f"expected a file, found the folder {path}"
    folder = next(one for one in path.parents if one.exists())  # the folders below it are made
    if not folder.is_dir():
        return f"{folder} is a file, so {path} cannot be made"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written to"
    return None


def write_results(path: Path, key: str, plain: Mapping[str, Any]) -> list[str]:
    """Write a table to both files, in place of its earlier run; returns what the new run lacks, in words."""
    content = _read(path.with_suffix(".json"))
    lost = _lost(content[key], plain) if key in content else []
    content[key] = finite(plain)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path.with_suffix(".json"), json.dumps(content, indent=1).encode())
    blocks = [
        f"{BEGIN.format(key=one)}\n{block_of(table)}{END.format(key=one)}\n" for one, table in content.items()
    ]
    write_atomically(path, "\n".join([HEAD, *blocks]).encode())
    return lost


def _lost(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Seeds, tuned rows and data of an earlier run of a table that the new run lacks, in words."""
    tuned = [
        {row["name"] for one in plain["sets"] for row in one["rows"] if row["tuned"] is not None}
        for plain in (earlier, now)
    ]
    lost = []
    if (seeds := len(earlier["seeds"])) > len(now["seeds"]):
        lost.append(f"{seeds} seeds")
    if missing := sorted(tuned[0] - tuned[1]):
        lost.append(f"tuned rows ({', '.join(missing)})")
    if earlier["datasets"] != now["datasets"]:
        names = ", ".join(f"{one['name']} for {wanted}" for wanted, one in earlier["datasets"].items())
        lost.append(f"other data ({names or 'none'})")
    return lost


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise BadData(
            str(path), f"is not JSON: {error}; move it away, and tables are written again"
        ) from error
    if not isinstance(content, dict):
        raise BadData(str(path), "is not a file of results; move it away, or name another one with --out")
    return content


def block_of(plain: Mapping[str, Any]) -> str:
    """Markdown block of one table."""
    made, packages = plain["environment"], plain["environment"]["packages"]
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    seeds = ", ".join(map(str, plain["seeds"])) or "none"
    only = f", only {', '.join(plain['only'])}" if plain["only"] else ""
    lines = [
        f"## {plain['title']} (--scale {plain['scale']}{only})",
        "",
        f"{plain['citation']}: {plain['caption']}.",
        "",
        f"- Command: `{plain['command']}`",
        f"- Written {made['written']}, revision {made['git_revision']}, Python {made['python']}",
        f"- Hardware: {plain['hardware']}",
        f"- {plain['fits']} fits, {plain['seconds_of_training'] / 60:.1f} minutes of training",
        f"- Seeds: {seeds}",
        f"- Packages: {versions}",
        "",
        "Differences from the paper:",
        "",
        *[f"- {line}" for line in plain["differences_to_the_paper"]],
        "",
        "In parentheses: 95 % interval over test images, each resampled by itself, even those of one video; ±: "
        "standard deviation over seeds and folds.",
        "",
    ]
    for one in plain["sets"]:
        lines += _markdown_set(one, plain["columns"])
    lines += _markdown_differences(plain["published_differences"])
    return "\n".join(lines) + "\n"


def _markdown_set(one: Mapping[str, Any], columns: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [column["name"] for column in columns]
    images = f", {one['images']} images" if one["images"] else ""
    lines = [
        f"### {one['shown']}{images}",
        "",
        f"| network | | {' | '.join(names)} |",
        f"|---|---|{'---:|' * len(names)}",
    ]
    for row in one["rows"]:
        cells = [Cell(**cell) for cell in row["cells"]]
        lines.append(f"| {row['name']} | published | {' | '.join(published_text(cell) for cell in cells)} |")
        here = [measured_text(cell) for cell in cells]
        said = "here" if row["error"] is None else f"here: {short_error(row['error'])}"
        lines.append(f"| | {said} | {' | '.join(here)} |")
        if row["tuned"] is not None:
            tuned = [measured_text(Cell(**cell)) for cell in row["tuned"]]
            lines.append(f"| | tuned | {' | '.join(tuned)} |")
    lines += [
        f"\n{row['name']}, tuned: {', '.join(f'{key} {value}' for key, value in row['tuned_params'].items())}"
        for row in one["rows"]
        if row["tuned_params"]
    ]
    return [*lines, ""]


def _markdown_differences(differences: Sequence[Mapping[str, Any]]) -> list[str]:
    if not differences:
        return []
    lines = [
        "### Which published differences survive their own intervals?",
        "",
        ASSUMPTION,
        "",
        "| test set | rows | published difference | images | largest half-width | half-width here | larger? |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for one in differences:
        largest, half = (_share(one[key]) for key in ("largest_half_width", "half_width"))
        lines.append(
            f"| {one['test']} | {one['better']} - {one['worse']} | {one['difference']:.4f} | {one['num_images']} "
            f"| {largest} | {half} | {one['why']} |"
        )
    return [*lines, ""]


ASSUMPTION = (
    "The paper prints means over this many images without their spread. Largest half-width: that of the 95 % interval "
    "of the difference, with the largest spread that two such means allow. Half-width here: with the spread of the "
    "difference in Dice, image by image, that these rows have here; it counts if both score within 0.1 of the paper. "
    "Chance in training comes on top: a difference that is not larger may be chance, and so may one that is."
)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def short_error(error: str) -> str:
    """The last line of a traceback."""
    return error.strip().splitlines()[-1]


def published_text(cell: Cell) -> str:
    """The text of a cell, as the paper prints it."""
    return "" if cell.published is None else number_text(cell.published)


def measured_text(cell: Cell) -> str:
    """Text of a measured cell, with interval and spread, where there are any."""
    if cell.measured is None or not math.isfinite(cell.measured):
        return "-"
    text = number_text(cell.measured)
    if cell.interval is not None:
        text += f" ({cell.interval[0]:.3f} to {cell.interval[1]:.3f})"
    return text if cell.spread is None else f"{text} ± {cell.spread:.3f}"


def number_text(value: float) -> str:
    """Text of a number: a share with four digits, a count as it is."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) <= 1 else f"{value:.4g}"
