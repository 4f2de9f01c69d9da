"""The files of a report: what a command writes, and what a sink puts beside the study's run."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.common.errors import BadStudy
from orchestrator.results.report.facts import StudyFacts
from orchestrator.results.report.gather import study_facts
from orchestrator.results.report.page import Compared, report_page
from orchestrator.results.report.search_figures import search_pictures
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.selection.comparison import compare, compared_system

PAGE = "report.html"


def report_files(snapshot: StudySnapshot) -> dict[str, bytes]:
    """Name -> content: report.html, and the plots of the search as NAME.svg and NAME.png, those that can be drawn.

    Names: history, race_timeline, importance, slices, parallel_coordinates, folds, front. What a sink puts beside the
    study's run in MLflow. Takes seconds; nothing is written.
    """
    study = study_facts(snapshot)
    plots = {name: content for one in search_pictures(study) for name, content in one.files.items()}
    return {PAGE: report_page([study]).encode(), **plots}


def compared(snapshots: Sequence[StudySnapshot], studies: Sequence[StudyFacts]) -> Compared:
    """The champions of several studies, each against that of the first, on the images that both were scored on."""
    if len(snapshots) < 2:
        return Compared()
    if without := [study.name for study in studies if study.champion is None]:
        return Compared(missing=f"The studies are not compared: {', '.join(without)} has no champion yet.")
    try:
        return Compared(tuple(compare([compared_system(one, "", "dice") for one in snapshots])))
    except BadStudy as error:
        return Compared(missing=f"The studies are not compared: {error}.")
