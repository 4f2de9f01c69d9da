"""The results of a study on disk, as values: leaderboard, winner, exported network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.common.errors import python_errors, python_errors_of
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.study_spec import StudySpec

if TYPE_CHECKING:
    import pandas

    from orchestrator.results.best_trial import BestTrial
    from orchestrator.results.report.files import Report
    from orchestrator.search.choices import BestRule, EnsembleName
    from orchestrator.search.records.status import Status


@python_errors_of
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

    def status(self) -> Status:
        """How the study stands: what whoever works on it, or on one of its outer folds, last said, else its records.

        >>> import orchestrator as po
        >>> now = po.load_study("demo").status()
        >>> now.state, now.num_trials
        ('ended', 1)
        """
        from orchestrator.search.progress.recorded import recorded_status
        from orchestrator.search.records.status import is_alive, read_status
        from orchestrator.selection.nested import inner_stores

        for one in (self.store, *inner_stores(self.store)):
            if is_alive(one.status_file) and (alive := read_status(one.status_file)) is not None:
                return alive
        return recorded_status(self.store.snapshot())

    def damage(self) -> list[str]:
        """A sentence for each kind of file that does not read and is left out; `run` repairs them."""
        from orchestrator.search.store.damage import damage

        return damage(self.store.snapshot())

    def leaderboard(
        self, metric: str = "dice", *, as_dicts: bool = False
    ) -> pandas.DataFrame | list[dict[str, Any]]:
        """Every trial, best first; scores from 0 to 1. Dictionaries, or where pandas is installed a `DataFrame`.

        Its columns name what is nested with a point: "scores.dice", "searched.learning_rate". Raises `BadStudy` for an
        unknown metric.
        """
        from orchestrator.results.views.study_scores import board
        from orchestrator.results.views.tables import leaderboard_dicts

        rows = leaderboard_dicts(board(self.store.snapshot(), known_metric(metric)), metric)
        try:
            import pandas
        except ImportError:
            return rows
        return rows if as_dicts else pandas.json_normalize(rows)

    def networks(self, metric: str = "dice") -> list[dict[str, Any]]:
        """Every network of a study over several, the best first, by its best trial; none of a study of one.

        Each says its best trial, that trial's score with its interval, and `lead_of_best`: how far the study's best
        trial is ahead of it on the same images, with interval and p; None of that trial itself.
        """
        from orchestrator.results.views.by_network import networks_of
        from orchestrator.results.views.study_scores import board

        found = self.store.snapshot()
        return [one.as_dict() for one in networks_of(found, board(found, known_metric(metric)), metric)]

    def best(
        self,
        metric: str = "dice",
        *,
        rule: BestRule = "best",
        trial: int | None = None,
        network: str | None = None,
        refit: bool = False,
        ensemble: EnsembleName | None = None,
        **training: Any,
    ) -> BestTrial:
        """The trial that the study's objective and constraints choose, the one that `trial` names, or the best one of
        a `network` of a study over several.

        `rule`, `refit` and `ensemble` are those of `orchestrator best`; what they ask for and is not on record is
        trained and scored now. `training`: `address`, `device`, `workers_per_fit`, `cache`, `display` for that.
        Raises `BadStudy` while there is no such trial.
        """
        from orchestrator.results.best_networks import Trainer
        from orchestrator.results.best_trial import choose

        found = self.store.snapshot()
        choice = choose(found, known_metric(metric), rule, trial, network)
        return choice.best(Trainer(found, **training), ensemble, refit=refit)

    def export(
        self,
        folder: str | Path,
        metric: str = "dice",
        *,
        rule: BestRule = "best",
        trial: int | None = None,
        network: str | None = None,
        refit: bool = False,
        ensemble: EnsembleName | None = None,
        formats: str | None = None,
        **training: Any,
    ) -> Path:
        """Write the networks of `best` as files that other programs load: weights, ONNX, config, model card.

        `formats`: names with commas between, as of `orchestrator best --formats`. Raises `BadStudy` where weights were
        deleted, and `BadBundle` where the folder holds anything else.
        """
        from orchestrator.results.best_networks import Trainer
        from orchestrator.results.best_trial import choose
        from orchestrator.results.export.formats.names import formats_of
        from orchestrator.results.export.write import refuse_to_overwrite

        target = Path(folder).expanduser().absolute()
        refuse_to_overwrite(target)
        found = self.store.snapshot()
        choice = choose(found, known_metric(metric), rule, trial, network)
        asked = formats_of(formats, choice.score.masks)
        best = choice.best(Trainer(found, **training), ensemble, refit=refit, export=True)
        return best.export(target, asked)

    @python_errors(out="page")
    def report(self, page: str | Path = "report.html") -> Report:
        """Write one page on the study, which needs no network; an earlier report of that name is replaced.

        What is returned has the table of scores as papers print it, `text("latex")`, "csv" or "markdown", a paragraph
        for a paper, `text("methods")`, and filled checklists, `checklist("claim")`, "tripod" or "midl".
        """
        from orchestrator.results.report.files import write_report

        return write_report([self.store.snapshot()], Path(page).expanduser().absolute())


def known_metric(metric: str) -> str:
    """A metric of the leaderboard by its name. Raises `BadStudy`, with the names that are known."""
    from orchestrator.common.errors import BadStudy
    from orchestrator.scoring.metrics import metric_name

    try:
        return metric_name(metric, masks=False)
    except ValueError as unknown:
        raise BadStudy("--metric", str(unknown)) from None
