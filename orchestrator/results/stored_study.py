"""The results of a study on disk, as values: leaderboard, winner, exported network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.common.errors import BadStudy
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.study_spec import StudySpec

if TYPE_CHECKING:
    import pandas

    from orchestrator.results.report.files import Report
    from orchestrator.search.store.snapshot import Standing, StudySnapshot


@dataclass(frozen=True)
class BestTrial:
    """The winner of a study."""

    number: int
    params: Mapping[str, Any]  # searched and fixed
    threshold: float  # of the probability, above which a pixel is polyp
    scores: Sequence[Mapping[str, Any]]  # a table: where, number of images, metrics with intervals
    reasons: tuple[str, ...]  # why this one, and which trials are not significantly different


class StoredStudy:
    """A study on disk: its results.

    >>> import orchestrator as po
    >>> study = po.load_study("demo")
    >>> study.best().number in [row["trial"] for row in study.leaderboard(as_dicts=True)]
    True
    """

    def __init__(self, store: StudyStore) -> None:
        self._store = store

    @property
    def store(self) -> StudyStore:
        """Its folder."""
        return self._store

    @property
    def name(self) -> str:
        """Its name among the studies of its home."""
        return self.store.name

    @property
    def spec(self) -> StudySpec:
        """The options of its last run."""
        return self.store.record().spec

    def leaderboard(
        self, metric: str = "dice", *, as_dicts: bool = False
    ) -> pandas.DataFrame | list[dict[str, Any]]:
        """Every trial, best first; scores from 0 to 1. Dictionaries, or where pandas is installed a `DataFrame`.

        Its columns name what is nested with a point: "scores.dice", "searched.learning_rate".
        """
        from orchestrator.results.views.study_scores import board
        from orchestrator.results.views.tables import leaderboard_dicts

        rows = leaderboard_dicts(board(self.store.snapshot(), metric), metric)
        try:
            import pandas
        except ImportError:
            return rows
        return rows if as_dicts else pandas.json_normalize(rows)

    def best(self, metric: str = "dice") -> BestTrial:
        """The trial that the study's objective and constraints choose. Raises `BadStudy` while there is none."""
        from orchestrator.results.views.study_scores import fold_lines, outside_lines, validation_line
        from orchestrator.results.views.tables import score_dicts
        from orchestrator.selection.ranking import select_trial

        found = self.store.snapshot()
        standing = _standing(found, metric)
        selection = select_trial(found, standing, metric)
        trial, score = next(pair for pair in standing if pair[0].number == selection.chosen)
        lines = [
            *fold_lines(found, trial, score),
            validation_line(found, score),
            *outside_lines(found, [found.champion_fit(trial)], score.masks),
        ]
        reasons = tuple(selection.sentences())
        return BestTrial(trial.number, trial.params, score.threshold, score_dicts(lines), reasons)

    def export(self, folder: str | Path, metric: str = "dice") -> Path:
        """Write the winner's network as files that other programs load: weights, ONNX, config, model card.

        Raises `BadStudy` where its weights were deleted, and `BadBundle` where the folder holds anything else.
        """
        from orchestrator.results.export.handover import export_trial
        from orchestrator.results.export.write import refuse_to_overwrite
        from orchestrator.selection.ranking import select_trial

        target = Path(folder).expanduser().absolute()
        refuse_to_overwrite(target)
        found = self.store.snapshot()
        standing = _standing(found, metric)
        selection = select_trial(found, standing, metric)
        trial, score = next(pair for pair in standing if pair[0].number == selection.chosen)
        record = found.champion_fit(trial)
        if not record.weights.exists():
            raise BadStudy(
                self.name, f"the weights of trial {trial.number} were deleted; `best --refit` trains them"
            )
        return export_trial(found, trial, score, [record], target, selection)

    def report(self, page: str | Path = "report.html") -> Report:
        """Write one page on the study, which needs no network; an earlier report of that name is replaced.

        What is returned has the table of scores as papers print it, `text("latex")`, "csv" or "markdown", a paragraph
        for a paper, `text("methods")`, and filled checklists, `checklist("claim")`, "tripod" or "midl".
        """
        from orchestrator.results.report.files import write_report

        return write_report([self.store.snapshot()], Path(page).expanduser().absolute())


def _standing(found: StudySnapshot, metric: str) -> Standing:
    """Finished trials, best first. Raises `BadStudy` where none can be the winner."""
    standing = found.ranked(metric)
    if not standing:
        raise BadStudy(found.name, "has no finished trial yet; run the search on")
    if not found.contenders():
        raise BadStudy(found.name, "no finished trial keeps its constraints")
    return standing
