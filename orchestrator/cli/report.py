"""`orchestrator report`: one page on one or several studies, tables for a paper, and checklists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Home, absolute
from orchestrator.cli.console.reading import ON_DAMAGE
from orchestrator.common.files import refuse_as_output, size_text
from orchestrator.terminal.printing import err, out, plain, print_json

STDOUT = "-"


def report(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            help="Studies; the others are compared with the first. Default: the study worked on last."
        ),
    ] = None,
    page: Annotated[
        Path,
        typer.Option("--out", callback=absolute, help="File for the page; an earlier report is replaced."),
    ] = Path("report.html"),
    latex: Annotated[
        Path | None,
        typer.Option(help="File for a table of scores as in papers, in LaTeX; - prints it."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="File for the same table as CSV; - prints it.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="File for the same table in Markdown; - prints it.")
    ] = None,
    methods: Annotated[
        Path | None, typer.Option(help="File for a methods paragraph, which says what was done; - prints it.")
    ] = None,
    checklist: Annotated[
        list[str] | None,
        typer.Option(
            help="Checklist to fill in with what the study shows, in a Markdown file next to the page: claim, tripod "
            "or midl; repeat for several."
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Write a one-page report on one study or several: data, splits, search, champion, comparison, cost, methods.

    The page is one file that needs no internet connection. With --json, its numbers are printed too, with scores from 0
    to 1.
    """
    from orchestrator.api import studies as api
    from orchestrator.results.report.checklists.filled import checklist_name
    from orchestrator.results.report.files import checklist_file

    texts = {"latex": latex, "csv": csv, "markdown": markdown, "methods": methods}
    given = {kind: path for kind, path in texts.items() if path is not None}
    _refuse_outputs(page, given, as_json=as_json)
    made = api.report(*studies or (), page=page, checklists=checklist or (), home=home, display=ON_DAMAGE)
    names = [checklist_name(name) for name in dict.fromkeys(checklist or ())]
    wanted = {made.text(kind): path for kind, path in given.items()}
    to_stdout = as_json or any(str(path) == STDOUT for path in wanted.values())
    pages = [page, *(checklist_file(page, name) for name in names)]
    written = [*pages, *_written(wanted)]
    if as_json:
        print_json(made.as_dict(names) | {"files": [str(path) for path in written]})
    for path in written:
        size = size_text(path.stat().st_size)
        (err if to_stdout else out).print(f"{path} ({size})", markup=False, highlight=False)
    for name in names:
        for line in made.checklist_lines(name):
            (err if to_stdout else out).print(line, markup=False, highlight=False)


def _refuse_outputs(page: Path, texts: Mapping[str, Path], *, as_json: bool) -> None:
    """Raise all mistakes in the output files of page and texts before work begins: drawing takes seconds."""
    from orchestrator.common.errors import BadData, Mistakes

    mistakes, taken = Mistakes(), {page: "--out"}
    printed = ["--json"] * as_json + [f"--{kind}" for kind, path in texts.items() if str(path) == STDOUT]
    if len(printed) > 1:
        with mistakes.noted():
            raise BadData(
                "report",
                f"expected one text on stdout, where several would run into each other, found {', '.join(printed)}; "
                "name files for the others",
            )
    if page.name != STDOUT and not page.is_dir():  # which have words of their own
        with mistakes.noted():
            refuse_as_output(page, "--out")
    for kind, path in texts.items():
        target = path.expanduser().absolute()
        if str(path) == STDOUT:
            continue
        with mistakes.noted():
            if target in taken:
                raise BadData(f"--{kind} {path}", f"expected another file than that of {taken[target]}")
            refuse_as_output(target, f"--{kind}")
        taken.setdefault(target, f"--{kind}")
    mistakes.raise_all()


def _written(texts: Mapping[str, Path]) -> Iterator[Path]:
    """Write texts to their files, or to stdout where that was asked for; yields the files."""
    from orchestrator.results.report.files import write_text

    for text, path in texts.items():
        if str(path) == STDOUT:
            out.print(plain(text), markup=False, highlight=False, soft_wrap=True, end="")
        else:
            target = path.expanduser().absolute()
            write_text(target, text)
            yield target
