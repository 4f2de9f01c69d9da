"""The files of a report: what a command writes, and what a sink adds to the study's run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.common.errors import BadStudy
from orchestrator.common.files import write_atomically
from orchestrator.common.names import hint
from orchestrator.results.report import paper_tables
from orchestrator.results.report.checklists import filled as checklists
from orchestrator.results.report.checklists.lists import Name
from orchestrator.results.report.facts import StudyFacts
from orchestrator.results.report.figures.importance import conditional_importances, importances
from orchestrator.results.report.figures.search import search_pictures
from orchestrator.results.report.gather import study_facts
from orchestrator.results.report.page import GENERATOR, Compared, report_page
from orchestrator.results.report.prose import energy, methods
from orchestrator.results.views.tables import comparison_dicts, score_dicts
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.selection.comparison import compare, compared_system

PAGE = "report.html"
TEXTS = ("latex", "csv", "markdown", "methods")
HEAD = 2000  # bytes of a page in which its generator stands


def report_files(snapshot: StudySnapshot) -> dict[str, bytes]:
    """Files that a sink adds to the study's run in MLflow, by name: report.html, and plots of the search.

    A plot is NAME.svg and NAME.png, if it can be drawn; names: history, race_timeline, importance, slices,
    parallel_coordinates, folds, front. Takes seconds; nothing is written.
    """
    study = study_facts(snapshot)
    plots = {name: content for one in search_pictures(study) for name, content in one.files.items()}
    return {PAGE: report_page([study]).encode(), **plots}


@dataclass(frozen=True)
class Report:
    """The report on one or several studies: their facts, their comparison and the page."""

    studies: tuple[StudyFacts, ...]
    compared: Compared
    page: str  # HTML

    def text(self, kind: str) -> str:
        """The table of scores as latex, csv or markdown, or the methods as a paragraph for each study.

        Raises `BadStudy` for any other kind.
        """
        if kind not in TEXTS:
            raise BadStudy("report", f"{hint(kind, TEXTS)}expected {', '.join(TEXTS)}, found {kind}")
        if kind == "methods":
            return "".join(f"{methods(study)}\n" for study in self.studies)
        table = paper_tables.rows(self.studies, self.compared.marked)
        if kind == "markdown":
            return "\n".join([paper_tables.markdown(table), *paper_tables.notes(table), ""])
        return {"latex": paper_tables.latex, "csv": paper_tables.as_csv}[kind](table)

    def checklist(self, name: str) -> str:
        """Filled checklist as Markdown, study by study. Raises `BadStudy` for an unknown checklist."""
        known = checklists.checklist_name(name)
        return "\n".join(checklists.markdown(known, study) for study in self.studies)

    def checklist_lines(self, name: Name) -> list[str]:
        """Sentences on how much of a checklist is filled, one for each study."""
        return [
            f"{name}, study {study.name}: {checklists.count_sentence(checklists.filled(name, study))}"
            for study in self.studies
        ]

    def as_dict(self, names: Sequence[Name] = ()) -> dict[str, Any]:
        """Numbers of the report as plain values, scores from 0 to 1."""
        return {
            "studies": [_as_dict(study, names) for study in self.studies],
            "comparison": comparison_dicts(self.compared.rows),
        }


def write_report(studies: Sequence[StudySnapshot], page: Path, names: Sequence[Name] = ()) -> Report:
    """Make the report of studies; write its page, and filled checklists as PAGE-NAME.md next to it.

    Raises `BadStudy` where the name of the page is another file's.
    """
    refuse_foreign(page)
    made = make_report(studies)
    write_text(page, made.page)
    for name in names:
        write_text(checklist_file(page, name), made.checklist(name))
    return made


def checklist_file(page: Path, name: Name) -> Path:
    """Path of a filled checklist, in the folder of the page: "report-claim.md"."""
    return page.with_name(f"{page.stem}-{name}.md")


def write_text(path: Path, text: str) -> None:
    """Write a file of a report, and the folder for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode(), sync=False)


def make_report(snapshots: Sequence[StudySnapshot]) -> Report:
    """The report of studies; the champions of all are compared with that of the first."""
    studies = tuple(study_facts(one) for one in snapshots)
    found = compared(snapshots, studies)
    return Report(studies, found, report_page(studies, found))


def compared(snapshots: Sequence[StudySnapshot], studies: Sequence[StudyFacts]) -> Compared:
    """Comparison of each study's champion with that of the first, on images that both were scored on."""
    if len(snapshots) < 2:
        return Compared()
    if without := [study.name for study in studies if study.champion is None]:
        names = ", ".join(without)
        return Compared(
            missing=f"The studies are not compared, because there is no champion yet in: {names}."
        )
    try:
        return Compared(tuple(compare([compared_system(one, "", "dice") for one in snapshots])))
    except BadStudy as error:
        return Compared(missing=f"The studies are not compared: {error}.")


def refuse_foreign(page: Path) -> None:
    """Raise `BadStudy` if the page's name is "-", a folder, or a file that is no report of this program."""
    if page.name == "-":
        raise BadStudy(
            "--out -", "expected a file for the page; texts alone go to stdout, such as --markdown -"
        )
    if page.is_dir():
        raise BadStudy(f"--out {page}", "expected a file, or a name that is free, found a folder")
    if page.exists() and GENERATOR.encode() not in page.read_bytes()[:HEAD]:
        raise BadStudy(
            f"--out {page}", "exists already, and is not a report of this program; choose another name"
        )


def _as_dict(study: StudyFacts, names: Sequence[Name]) -> dict[str, Any]:
    champion, (kwh, how) = study.champion, energy(study)
    return {
        "study": study.name,
        "state": study.state,
        "champion": None if champion is None else champion.trial,
        "scores": [] if champion is None else score_dicts(champion.scores),
        "importance": importances(study),
        "importance_where_present": {
            name: {"share": share, "trials": count}
            for name, (share, count) in conditional_importances(study).items()
        },
        "fits": study.fits_of,
        "num_saved": study.num_saved,
        "hours": study.hours,
        "device_hours": study.device_hours,
        "kwh": kwh,
        "kwh_assumption": how,
        "methods": methods(study),
        "checklists": {name: checklists.counts(checklists.filled(name, study)) for name in names},
    }
