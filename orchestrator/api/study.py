"""A study that a notebook, or the command line, makes and runs.

Nothing here reads the command line or ends the process. A study may run in any thread; signals are handled in the main
thread alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.api.home import PathLike, as_names, home_folder
from orchestrator.common.display import Display
from orchestrator.common.errors import FitFailed, Mistakes, for_python, python_errors_of
from orchestrator.common.files import size_text
from orchestrator.data.splits.split_plan import SplitPlan, earlier_name
from orchestrator.doctor.quick import checked_machine
from orchestrator.ray_cluster.machine import Machine
from orchestrator.results.mlflow.client import check_uri, default_uri, refuse_locked_out
from orchestrator.results.mlflow.earlier_studies import earlier_configurations
from orchestrator.results.mlflow.sink import MlflowSink
from orchestrator.results.sinks.console import ConsoleSink
from orchestrator.results.sinks.csv_files import CsvSink
from orchestrator.results.stored_study import StoredStudy
from orchestrator.search.choices import DeviceName
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.records.status import Status
from orchestrator.search.space.builds import trainable_space
from orchestrator.search.store.study_record import specification
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial, outside_cases
from orchestrator.search.study_spec import StudySpec
from orchestrator.selection.warm_start import fit_in
from orchestrator.study.checks import check_options
from orchestrator.study.housekeeping import prune_derived
from orchestrator.study.loading import DataChoice
from orchestrator.study.outer import run_outer_folds
from orchestrator.study.run import run_study
from orchestrator.study.runnable_study import RunnableStudy

if TYPE_CHECKING:
    from orchestrator.study.forecast import StudyForecast


class NoChampion(FitFailed):
    """A study whose budget is used up without a trial that can be its champion."""


@python_errors_of
class Study(StoredStudy):
    """A study to run, or to resume: a search space on datasets.

    `space`: a search-space file, or the name of one that comes with the package, such as "unet". `data`, `unseen`:
    names of datasets to train on, and of those that the champion alone is scored on. `splits`: "five-fold" and the
    others of `orchestrator search --help`, or a split file. `options`: the fields of `orchestrator.StudySpec`, such as
    `trials`, `hours`, `race`, `objectives`. Raises one `UserError` with everything that is wrong.

    >>> import orchestrator as po
    >>> study = po.Study("tiny.toml", data="drawn", splits="k-fold:2", trials=1, name="demo", progress=None)
    >>> study.spec.trials
    1
    """

    def __init__(
        self,
        space: PathLike,
        data: str | Sequence[str],
        *,
        unseen: str | Sequence[str] = (),
        splits: PathLike = "five-fold",
        holdout: float = 0.1,
        near_duplicates: bool = True,
        name: str | None = None,
        home: PathLike | None = None,
        cache: PathLike | None = None,
        tracking_uri: str | None = None,
        address: str = "auto",
        device: DeviceName = "auto",
        workers_per_fit: int | None = None,
        lanes: int | None = None,
        fits_per_gpu: int = 1,
        progress: Display | Literal["auto"] | None = "auto",
        **options: Any,
    ) -> None:
        self.home, self.file, self.given_name = home_folder(home), Path(space), name
        self.display = _rich_display() if progress == "auto" else progress or Display()
        self.given_uri, self.uri = tracking_uri, tracking_uri or default_uri(self.home)
        seed = options.get("seed")
        self.data = DataChoice(
            home=self.home,
            data=as_names(data),
            unseen=as_names(unseen),
            splits=str(splits),
            holdout=holdout,
            seed=seed if isinstance(seed, int) else 0,
            near_duplicates=near_duplicates,
            cache=Path(cache) if cache else None,
        )
        self._check(options, (address, device, workers_per_fit, lanes, fits_per_gpu))

    def _check(self, options: Mapping[str, Any], where: tuple[Any, ...]) -> None:
        """Raises every mistake that is found without reading images, in one error."""
        mistakes = Mistakes()
        with mistakes.noted():
            self._spec = specification(options)
        with mistakes.noted():
            self.space = trainable_space(self.file, self.display.note)
        if not mistakes.found:
            with mistakes.noted():
                check_options(self._spec, self.space)
        with mistakes.noted():
            self.data.refuse()
        with mistakes.noted():
            StudyStore(self.home, self.given_name or self.file.stem)
        with mistakes.noted():
            self.machine = checked_machine(
                Machine(*where), self.home, self.data.cache_folder, self.display.note
            )
        with mistakes.noted():
            check_uri(self.uri)
            refuse_locked_out(self.uri)
        mistakes.raise_all()
        if len(self._spec.objectives) > 1 and self._spec.race is None:
            self.display.note("several objectives: every trial gets all its folds (--race none)")

    @property
    def spec(self) -> StudySpec:
        """The options that were given."""
        return self._spec

    @property
    def store(self) -> StudyStore:
        """Folder of the study; without a given name it is split first, for the split is part of its name."""
        return StudyStore(self.home, self.given_name) if self.given_name else self._runnable.store

    def plan(self, gpus: int, *, sampled: int = 4, failures: float = 0.0) -> StudyForecast:
        """Forecast fits, GPU-hours and hours on so many devices like the one here: a few steps are timed.

        `sampled`: configurations that are timed besides the baselines. `failures`: deaths of workers per lane and hour.
        Near-duplicates are not looked for. Raises `UserError` where the device that was asked for is not here.

        >>> import orchestrator as po
        >>> study = po.Study("tiny.toml", "drawn", splits="k-fold:2", trials=9, device="cpu", progress=None)
        >>> study.plan(gpus=1, sampled=0).soonest.fits <= 2 * 9 + 2 * 3
        True
        """
        from orchestrator.study.forecast import forecast_study
        from orchestrator.training.process import device_here

        device = device_here(self.machine.device)
        choice = replace(self.data, near_duplicates=False)
        return forecast_study(
            self.space,
            choice,
            self._spec,
            device,
            gpus=gpus,
            sampled=sampled,
            failures=failures,
            display=self.display,
        )

    def run(self, progress: Callable[[Status], None] | None = None) -> StudyTrial | None:
        """Search until the budget is used up, and name a champion; the same again goes on where it stopped.

        `progress` is called about once a second, in a thread of its own. Returns the champion; None where the hours
        were over before there was one. Raises `NoChampion` where no trial can be the champion, `KeyboardInterrupt`
        after Ctrl-C; both can be resumed.
        """
        study = self._runnable
        for one in prune_derived(self.home):
            self.display.note(f"removed {one.what}: {size_text(one.num_bytes)}")
        if study.spec.nested is not None:
            run_outer_folds(
                study,
                study.spec.nested,
                self.machine,
                lambda one: self._run(one, progress),
                self.display,
            )
        champion = self._run(study, progress)
        if champion is None and not study.store.snapshot().feasible():
            raise NoChampion(_why_no_champion(study.store))
        return champion

    def _run(self, study: RunnableStudy, progress: Callable[[Status], None] | None) -> StudyTrial | None:
        store = study.store
        work = FitJobRunner(self.home, self.data.cache_folder, store.ledger, study.secondary.is_measured)
        with self.display.view() as (say, show):
            console = ConsoleSink(store, say=say, show=progress or show)
            sinks = [console, MlflowSink(store, self.given_uri), CsvSink(store)]
            try:
                return run_study(study, self.machine, work, sinks)
            except KeyboardInterrupt:
                say(f"interrupted; the same command continues from here (study {store.name})")
                raise

    @cached_property
    def _runnable(self) -> RunnableStudy:
        """Everything that was asked for, loaded; images are compared here, which takes minutes the first time."""
        sources, tests, plan = self.data.load(self.display, check=self._refuse_early)
        store = self._store_of(plan)
        study = RunnableStudy(store, self.space, plan, sources, tests, self._spec)
        self._say_begun_without(store, plan)
        if self._spec.warm_start and not store.exists():
            outside = {case_id for ids in outside_cases(plan, tests).values() for case_id in ids}
            networks, names = self.space.networks, self._spec.warm_start
            earlier = earlier_configurations(self.home, names, self.uri, plan, outside, networks)
            fitted = fit_in(self.space, earlier, study.secondary)
            study = replace(study, warm_start_configurations=fitted.configurations)
            for line in fitted.lines:
                self.display.note(line)
        return study

    def _store_of(self, plan: SplitPlan) -> StudyStore:
        others = [f"vs-{other}" for other in self.data.unseen]
        made = self.given_name or "-".join([self.file.stem, *self.data.data, plan.name, *others])
        store, earlier = StudyStore(self.home, made), StudyStore(self.home, earlier_name(made))
        return earlier if earlier.exists() and not store.exists() else store

    def _refuse_early(self, plan: SplitPlan) -> None:
        """Raise the errors that can be found before near-duplicates are looked for."""
        store, earlier = self._store_of(plan), self._spec.warm_start
        store.refuse_changes(self.space, plan, self._spec, is_audited=False)
        if earlier and not store.exists():
            earlier_configurations(self.home, earlier, self.uri, plan, ())  # that they are there

    def _say_begun_without(self, store: StudyStore, plan: SplitPlan) -> None:
        """Name the study that the same command meant before near-duplicates were looked for, if there is one."""
        before = store.name.replace(plan.name, replace(plan, near_duplicates=None).name)
        if self.given_name or before == store.name or store.exists():
            return
        if StudyStore(self.home, before).exists():
            self.display.note(
                f"study {before} was begun without looking for near-duplicates; --no-near-duplicates continues it, "
                "this is a new one"
            )


def _why_no_champion(store: StudyStore) -> str:
    if store.snapshot().ranked():
        return (
            f"study {store.name}: no finished trial meets its constraints; the leaderboard says by how much each "
            "exceeds them"
        )
    return f"study {store.name}: no trial was finished; the errors are in the leaderboard"


def _rich_display() -> Display:
    """Display of the console, with remarks that name parameters as Python does."""
    from orchestrator.terminal.live import CONSOLE

    return replace(CONSOLE, note=lambda line: CONSOLE.note(for_python(line)))
