"""`orchestrator report`: one page on one or several studies, tables for a paper, and checklists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Home, absolute
from orchestrator.cli.console.printing import err, out, plain, print_json
from orchestrator.cli.console.reading import tell_damage

if TYPE_CHECKING:
    from orchestrator.results.report.files import Report

STDOUT = "-"


def report(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            help="Studies, the first being the one that others are compared with. Default: the study worked on last."
        ),
    ] = None,
    page: Annotated[
        Path, typer.Option("--out", callback=absolute, help="The page; an earlier report is replaced.")
    ] = Path("report.html"),
    latex: Annotated[
        Path | None,
        typer.Option(help="File for the table of scores as papers print it, in LaTeX; - prints it."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="File for the same table as CSV; - prints it.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="File for the same table in Markdown; - prints it.")
    ] = None,
    methods: Annotated[
        Path | None, typer.Option(help="File for a paragraph that says what was done; - prints it.")
    ] = None,
    checklist: Annotated[
        list[str] | None,
        typer.Option(
            help="claim, tripod or midl, filled with what the study shows, in a Markdown file beside the page; "
            "repeat for several."
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Write one page on a study, or on several: data, splits, search, champion, comparison, cost, methods.

    The page is one file that needs no network. With --json its numbers are printed as well, scores from 0 to 1.
    """
    from orchestrator.results.report.files import make_report

    names, snapshots = _checked(studies or [], page, checklist or [], home.expanduser().resolve())
    for snapshot in snapshots:
        tell_damage(snapshot)
    made = make_report(snapshots)
    texts = {"latex": latex, "csv": csv, "markdown": markdown, "methods": methods}
    wanted = {made.text(kind): path for kind, path in texts.items() if path is not None}
    to_stdout = as_json or any(str(path) == STDOUT for path in wanted.values())
    written = list(_written(made, page, wanted, names))
    if as_json:
        print_json(made.as_dict(names) | {"files": [str(path) for path, _ in written]})
    for path, size in written:
        (err if to_stdout else out).print(f"{path} ({size})", markup=False, highlight=False)
    for name in names:
        for line in made.checklist_lines(name):
            (err if to_stdout else out).print(line, markup=False, highlight=False)


def _checked(
    studies: list[str], page: Path, checklists: list[str], home: Path
) -> tuple[list[Any], list[Any]]:
    """Names of checklists, and studies. Raises every mistake in what is asked, before anything is read at length."""
    from orchestrator.common.errors import BadStudy, Mistakes
    from orchestrator.results.report.checklists.filled import checklist_name
    from orchestrator.results.report.files import refuse_foreign
    from orchestrator.search.store.study_store import find_study

    mistakes, names, snapshots = Mistakes(), [], []
    for study in dict.fromkeys(studies) if studies else [None]:
        with mistakes.noted():
            snapshots.append(find_study(home, study).snapshot())
    if len(set(studies)) < len(studies):
        with mistakes.noted():
            raise BadStudy("report", f"expected each study once, found {', '.join(studies)}")
    for name in dict.fromkeys(checklists):
        with mistakes.noted():
            names.append(checklist_name(name))
    with mistakes.noted():
        refuse_foreign(page)
    mistakes.raise_all()
    return names, snapshots


def _written(
    made: Report, page: Path, texts: Mapping[str, Path], names: list[Any]
) -> Iterator[tuple[Path, str]]:
    """Write everything; each file with its size."""
    from orchestrator.common.files import size_text, write_atomically

    files = {page: made.page} | {
        page.with_name(f"{page.stem}-{name}.md"): made.checklist(name) for name in names
    }
    for text, path in texts.items():
        if str(path) == STDOUT:
            out.print(plain(text), markup=False, highlight=False, soft_wrap=True, end="")
        else:
            files[path.expanduser().absolute()] = text
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text.encode()
        write_atomically(path, content, sync=False)
        yield path, size_text(len(content))
