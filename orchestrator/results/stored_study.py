"""The results of a study on disk, as values: leaderboard, winner, exported network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.common.errors import python_errors, python_errors_of
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.study_spec import StudySpec

if TYPE_CHECKING:
    import pandas

    from orchestrator.common.display import Display
    from orchestrator.results.best_trial import BestTrial
    from orchestrator.results.report.files import Report
    from orchestrator.results.views.ranking import Ranking
    from orchestrator.search.choices import BestRule, EnsembleName
    from orchestrator.search.records.status import Status
    from orchestrator.search.store.snapshot import StudySnapshot


@python_errors_of
class StoredStudy:
    """Results of a study on disk.

    >>> import orchestrator as po
    >>> study = po.load_study("demo")
    >>> study.best().number in [row["trial"] for row in study.leaderboard(as_dicts=True)]
    True
    """

    def __init__(self, store: StudyStore) -> None:
        self._store = store

    @property
    def store(self) -> StudyStore:
        """Store of the study: its folder with all records."""
        return self._store

    @property
    def name(self) -> str:
        """Name of the study, unique in its home."""
        return self.store.name

    @property
    def spec(self) -> StudySpec:
        """Options of the study's last run."""
        return self.store.record().spec

    def status(self, display: Display | None = None) -> Status:
        """Status last written by a running process of the study, or of an outer fold; else from the records.

        Unreadable files are noted in `display`.

        >>> import orchestrator as po
        >>> now = po.load_study("demo").status()
        >>> now.state, now.num_trials
        ('ended', 1)
        """
        from orchestrator.search.progress.recorded import recorded_status
        from orchestrator.search.records.status import is_alive, read_status
        from orchestrator.selection.nested import inner_stores

        read = None if display is None else self._read(display)
        for one in (self.store, *inner_stores(self.store)):
            if is_alive(one.status_file) and (alive := read_status(one.status_file)) is not None:
                return alive
        return recorded_status(read or self._read())

    def damage(self) -> list[str]:
        """Sentences on files that cannot be read and are left out, one for each kind; `run` repairs them."""
        from orchestrator.search.store.damage import damage

        return damage(self.store.snapshot())

    def _read(self, display: Display | None = None) -> StudySnapshot:
        """Present state of the study; unreadable files are noted in `display`."""
        from orchestrator.search.store.damage import damage

        found = self.store.snapshot()
        if display is not None:
            for line in damage(found):
                display.note(line)
        return found

    def ranking(self, metric: str = "dice", display: Display | None = None) -> Ranking:
        """Ranking of all trials, best first: the content of tables and JSON.

        Unreadable files are noted in `display`. Raises `BadStudy` for an unknown metric.
        """
        from orchestrator.results.views.ranking import Ranking

        return Ranking(self._read(display), known_metric(metric))

    def leaderboard(
        self, metric: str = "dice", *, as_dicts: bool = False
    ) -> pandas.DataFrame | list[dict[str, Any]]:
        """Every trial, best first; scores from 0 to 1. Dictionaries, or where pandas is installed a `DataFrame`.

        Its columns name what is nested with a point: "scores.dice", "searched.learning_rate". Raises `BadStudy` for an
        unknown metric.
        """
        rows = self.ranking(metric).as_dicts()
        try:
            import pandas
        except ImportError:
            return rows
        return rows if as_dicts else pandas.json_normalize(rows)

    def networks(self, metric: str = "dice") -> list[dict[str, Any]]:
        """Every network of a study over several, the best first, by its best trial; [] for one network.

        Each has its best trial, that trial's score with its interval, and `lead_of_best`: how far the study's
        best trial is ahead of it on the same images, with interval and p; None for the best trial itself.
        """
        return [one.as_dict() for one in self.ranking(metric).networks]

    def best(
        self,
        metric: str = "dice",
        *,
        rule: BestRule = "best",
        trial: int | None = None,
        network: str | None = None,
        refit: bool = False,
        ensemble: EnsembleName | None = None,
        export: str | Path | None = None,
        formats: str | None = None,
        replace: bool | Callable[[str], bool] = True,
        tracking_uri: str | None = None,
        **training: Any,
    ) -> BestTrial:
        """The trial that the study's objective and constraints choose, the one that `trial` names, or the best one of
        a `network` of a study over several.

        By `metric` "nsd", "boundary_f" or "lesion_f1" it is the best of the trials whose fold networks are kept: each
        network predicts the validation images of its fold in this process, on `device`, unless their scores are on
        record. `rule`, `trial`, `network` and greedy ensembles do not go together with these.

        `rule`, `refit` and `ensemble` are those of `orchestrator best`; fits and scores for them that are not
        on record are made now. `training`: `address`, `device`, `workers_per_fit`, `cache`, `display` for
        that. `export`, `formats`, `tracking_uri`: where the result is to be exported next; `replace`: whether
        an export of another network there may be replaced, or a function that is asked. Raises `BadStudy`
        while there is no such trial, and everything that is wrong before anything is trained.
        """
        from orchestrator.results.best_networks import Trainer
        from orchestrator.results.best_trial import choose, choose_by_masks
        from orchestrator.results.export.formats.names import formats_of
        from orchestrator.scoring.metrics import METRICS

        how = {"rule": rule, "trial": trial, "network": network}
        refuse_request(metric, export, formats, tracking_uri, how={**how, "ensemble": ensemble})
        found = self._read(training.get("display"))
        trainer, name = Trainer(found, **training), known_metric(metric, masks=True)
        if name in METRICS:
            choice = choose(found, name, rule, trial, network)
        else:
            choice = choose_by_masks(found, name, trainer.mask_scores)
        formats_of(formats, choice.score.masks)
        if export is not None:
            choice.refuse_to_replace(absolute(export), replace, refit=refit, ensemble=ensemble is not None)
        return choice.best(trainer, ensemble, refit=refit, export=export is not None)

    @python_errors(export="folder")
    def export(
        self, folder: str | Path, metric: str = "dice", *, formats: str | None = None, **choice: Any
    ) -> Path:
        """Write the networks of `best` as files that other programs load: weights, ONNX, config, model card.

        `formats`: names with commas between, as of `orchestrator best --formats`. `choice`: the other parameters of
        `best`. Raises `BadStudy` where weights were deleted, and `BadBundle` where the folder holds anything else.
        """
        best = self.best(metric, export=folder, formats=formats, **choice)
        return best.export(absolute(folder), best.formats(formats))

    @python_errors(out="page")
    def report(self, page: str | Path = "report.html") -> Report:
        """Write one page on the study, which needs no network; an earlier report of that name is replaced.

        What is returned has the table of scores as papers print it, `text("latex")`, "csv" or "markdown", a paragraph
        for a paper, `text("methods")`, and filled checklists, `checklist("claim")`, "tripod" or "midl".
        """
        from orchestrator.results.report.files import write_report

        return write_report([self._read()], absolute(page))


def absolute(path: str | Path) -> Path:
    """Absolute path, which a change of the working directory does not affect."""
    return Path(path).expanduser().absolute()


def refuse_request(
    metric: str,
    export: str | Path | None = None,
    formats: str | None = None,
    tracking_uri: str | None = None,
    how: Mapping[str, Any] | None = None,
) -> None:
    """Raise, as one error, all mistakes in a request that can be found without reading the study.

    `how`: other criteria for the choice of a trial, as `refuse_choice` takes them; None if none is chosen.
    """
    from orchestrator.common.errors import Mistakes

    mistakes = Mistakes()
    with mistakes.noted():
        known = known_metric(metric, masks=how is not None)
        if how is not None:
            from orchestrator.results.best_trial import refuse_choice

            refuse_choice(known, **how)
    if export is not None:
        from orchestrator.results.export.write import refuse_to_overwrite

        with mistakes.noted():
            refuse_to_overwrite(absolute(export))
    if formats is not None:
        from orchestrator.results.export.formats.names import formats_of, only_with_export

        with mistakes.noted():
            formats_of(formats)
        with mistakes.noted():
            only_with_export(export)
    if tracking_uri is not None:
        from orchestrator.results.mlflow.client import check_uri

        with mistakes.noted():
            check_uri(tracking_uri)
    mistakes.raise_all()


def known_metric(metric: str, *, masks: bool = False) -> str:
    """Registered name of a metric of the leaderboard; `masks`: or of a metric of masks that chooses trials.

    Raises `BadStudy`, with the names that are known.
    """
    from orchestrator.common.errors import BadStudy
    from orchestrator.scoring.metrics import choosing_metric, metric_name

    try:
        return choosing_metric(metric) if masks else metric_name(metric, masks=False)
    except ValueError as unknown:
        raise BadStudy("--metric", str(unknown)) from None
