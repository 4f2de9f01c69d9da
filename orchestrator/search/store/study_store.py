"""A study on disk: its folder, what it was made of, and its trials as they stand. Read by every command."""

from __future__ import annotations

import json
import logging
import re
import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from orchestrator.common.errors import BadSpace, BadSplit, BadStudy
from orchestrator.common.files import write_atomically
from orchestrator.common.stored_json import Unreadable, parse_json, read_json
from orchestrator.common.user_documents import read_bounded
from orchestrator.data.cases import Dataset, load_datasets
from orchestrator.data.splits.plan import group_of_case
from orchestrator.data.splits.split_file import SplitPlan, read_plan, write_plan
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.goals.goals import SecondaryGoals, front, secondary_goals
from orchestrator.search.goals.network_sizes import NetworkSizes
from orchestrator.search.goals.objective import Objective, objective_over
from orchestrator.search.race.verdict_log import read_verdicts
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.records.partial_score import (
    NOTHING_SEEN,
    PartialScore,
    SeenFolds,
    partial,
    seen_folds_of,
)
from orchestrator.search.records.status import read_status
from orchestrator.search.records.trial_records import of_status
from orchestrator.search.records.trial_score import TrialScore, fold_specs, score_trial
from orchestrator.search.space.space import Configuration, SearchSpace, checked_before
from orchestrator.search.store.optuna_journal import journal_damage, read_journal
from orchestrator.search.store.optuna_storage import open_database, open_journal, trouble_told
from orchestrator.search.store.study_changes import (
    ADVICE,
    change_of,
    changed_keys,
    dataset_changes,
    space_changes,
    split_problem,
)
from orchestrator.search.store.study_record import StudyRecord, new_record, read_record, text_digest
from orchestrator.search.study_spec import StudySpec

logger = logging.getLogger(__name__)
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}
OUTER = ".outer-"  # between the name of a study and the number of an outer fold's
LONGEST_NAME = 240  # file systems end at 255, and a nested study adds to it
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


ANEW = "the same `orchestrator search` writes it anew"


@dataclass(frozen=True)
class StudyTrial:
    """One trial as it stands: its settings, the folds that are finished, its score if all are."""

    number: int
    state: str  # "complete", "stopped" by the race, "failed", or "open": not over
    searched: dict[str, Any]
    params: dict[str, Any]  # searched and fixed
    configuration: Configuration
    records: tuple[
        FitRecord, ...
    ]  # of the finished folds, in order; of a stopped one those that it was stopped by
    num_folds: int
    error: str | None  # why it failed, or was stopped
    look: SeenFolds = NOTHING_SEEN  # what the race has seen of it

    @property
    def inference_ms(self) -> list[float | None]:
        """Of its finished folds, where it was measured."""
        return [record.inference_ms for record in self.records]

    @property
    def partial(self) -> PartialScore | None:
        """What it has shown on the folds that it has; None where it has all."""
        if len(self.records) == self.num_folds:
            return None
        dice = score_trial(self.records, self.configuration).metrics["dice"] if self.records else None
        is_seen = len(self.look.folds) == len(self.records)
        look = self.look if is_seen else SeenFolds(tuple(range(len(self.records))))
        return partial(dice, self.num_folds, look)

    def score(self, metric: str = "dice") -> TrialScore | None:
        """The trial's score, or None while folds are missing."""
        return (
            score_trial(self.records, self.configuration, metric)
            if len(self.records) == self.num_folds
            else None
        )


@dataclass(frozen=True)
class Champion:
    """The best trial, and the fit whose network stands for it."""

    trial: int
    fit_id: str


@dataclass(frozen=True)
class StudyStore:
    """Where one study lives: everything that it knows is below this folder."""

    home: Path
    name: str
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise BadStudy("--study", f"needs letters, digits, '.', '_' and '-', found {self.name!r}")
        if len(self.name) > LONGEST_NAME:
            raise BadStudy(
                "--study",
                f"needs at most {LONGEST_NAME} characters, found {len(self.name)}: {self.name[:30]}...",
            )
        object.__setattr__(self, "folder", self.home / "studies" / self.name)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / "ledger")

    @property
    def network_sizes(self) -> NetworkSizes:
        return NetworkSizes(self.folder / "network_sizes.json")

    @property
    def space_file(self) -> Path:
        return self.folder / "space.toml"

    @property
    def splits_file(self) -> Path:
        return self.folder / "splits.json"

    @property
    def journal_file(self) -> Path:
        return self.folder / "optuna.journal"

    @property
    def race_file(self) -> Path:
        return self.folder / "race.jsonl"

    @property
    def status_file(self) -> Path:
        return self.folder / "status.json"

    @property
    def speeds_file(self) -> Path:
        return self.folder / "speeds.json"

    @property
    def manifest_file(self) -> Path:
        return self.folder / "study.json"

    @property
    def champion_file(self) -> Path:
        return self.folder / "champion.json"

    @property
    def warm_start_file(self) -> Path:
        return self.folder / "warm_start.json"

    @property
    def manifest_copy(self) -> Path:
        """A second copy of the manifest, for the first may be damaged."""
        return self.folder / "ledger" / "study.json"

    def exists(self) -> bool:
        return self.manifest_file.exists() or self.manifest_copy.exists()

    def lock(self) -> FileLock:
        """Hold the study for one process. Raises `BadStudy` if another one has it; dies with its process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise BadStudy(
                self.name, "is being worked on by another process; wait for it, or stop it"
            ) from None
        return lock

    def record(self) -> StudyRecord:
        """What the study was made of, and the options of its last run. Raises `BadStudy` where there is no study."""
        if not self.exists():
            known = [study.name for study in list_studies(self.home)]
            raise BadStudy(
                str(self.home),
                f"no study is named {self.name!r}; known: {', '.join(known) or 'none yet'}",
            )
        try:
            return read_record(parse_json(self.manifest_file, dict[str, Any]))
        except (Unreadable, FileNotFoundError) as error:
            if not self.manifest_copy.exists():
                remedy = "restore it from a copy of the study; its fits are still in ledger/"
                raise BadStudy(str(self.manifest_file), f"{error}; {remedy}") from error
        try:
            return read_record(parse_json(self.manifest_copy, dict[str, Any]))
        except Unreadable as error:
            raise BadStudy(
                str(self.manifest_copy), f"{error}; restore it, or {self.manifest_file}"
            ) from error

    @property
    def study_id(self) -> str:
        """What tells this study from one that had its name before."""
        return self.record().made_of.id

    @property
    def spec(self) -> StudySpec:
        """The specification of its last run; the default before there is one."""
        return self.record().spec if self.exists() else StudySpec()

    @property
    def warm_start(self) -> tuple[str, ...]:
        """The studies that recommended its first configurations."""
        return self.spec.warm_start

    def warm_start_configurations(self) -> list[dict[str, Any]]:
        """The settings to try after the paper's, before any other."""
        if not self.warm_start_file.exists():
            return []
        remedy = "restore it, or delete it: settings that an earlier study recommends and that are not begun are lost"
        return read_json(self.warm_start_file, list[dict[str, Any]], remedy)

    @property
    def storage(self) -> str | None:
        """The URL of the database that keeps the trials; None where the journal does."""
        return self.spec.storage

    def begin(
        self,
        space: SearchSpace,
        plan: SplitPlan,
        spec: StudySpec | None = None,
        warm_start_configurations: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Make the folder of the study, or check that it was made of the very same things. Needs the lock.

        `spec`: the default if None. Of a study that is resumed, options that may change are kept as they are now; a
        specification that names no database and no earlier studies stays with those that the study has.
        `warm_start_configurations`: recommended by the studies of `spec.warm_start`; kept when the folder is made.
        """
        spec = spec or StudySpec()
        if self.exists():
            self.refuse_changes(space, plan, spec)
            self._restore(space, plan)
            if (resumed := self.record().resumed(spec)) != self.record():
                self._write_manifest(resumed)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.space_file, space.text.encode())
        write_plan(plan, self.splits_file)
        write_atomically(self.warm_start_file, json.dumps([*warm_start_configurations], indent=1).encode())
        # Last: a folder without it is not a study yet.
        self._write_manifest(new_record(space, plan, spec))

    def _restore(self, space: SearchSpace, plan: SplitPlan) -> None:
        """Write anew what the study is made of, where its file was damaged."""
        try:
            self.space()
        except BadSpace as error:
            logger.warning("%s; it is written anew", error)
            write_atomically(self.space_file, space.text.encode())
            self._write_manifest(self.record().with_text(space))
        try:
            read_plan(self.splits_file, *self.datasets())
        except BadSplit as error:
            logger.warning("%s; it is written anew", error)
            write_plan(plan, self.splits_file)
        try:
            read_record(parse_json(self.manifest_file, dict[str, Any]))
        except (Unreadable, FileNotFoundError) as error:
            logger.warning("%s: %s; it is restored from its copy", self.manifest_file, error)
            write_atomically(self.manifest_file, self.manifest_copy.read_bytes())
        self._copy_manifest()

    def _write_manifest(self, record: StudyRecord) -> None:
        write_atomically(self.manifest_file, json.dumps(record.as_dict(), indent=1).encode())
        self._copy_manifest()

    def _copy_manifest(self) -> None:
        content = self.manifest_file.read_bytes()
        if not self.manifest_copy.exists() or self.manifest_copy.read_bytes() != content:
            self.manifest_copy.parent.mkdir(exist_ok=True)
            write_atomically(self.manifest_copy, content)

    def refuse_changes(
        self, space: SearchSpace, plan: SplitPlan, spec: StudySpec, *, but: Collection[str] = ()
    ) -> None:
        """Raises `BadStudy`, key by key, where the study exists and was begun otherwise; keys in `but` may differ."""
        if not self.exists():
            return
        was = self.record()
        now = new_record(space, plan, was.resumed(spec).spec)
        changed = [key for key in changed_keys(was, now) if key not in but]
        if changed:
            raise BadStudy(self.name, [*self._changes(changed, was, now, space, plan), ADVICE])

    def _changes(
        self,
        changed: Sequence[str],
        was: StudyRecord,
        now: StudyRecord,
        space: SearchSpace,
        plan: SplitPlan,
    ) -> Iterator[str]:
        for key in changed:
            if key == "space":
                yield from space_changes(self.space(), space)
            elif key in ("datasets", "unseen"):
                yield from dataset_changes(key, getattr(was.made_of, key), getattr(now.made_of, key))
            elif key == "splits" and not {"datasets", "unseen", "seed"} & {*changed}:
                rest = (
                    f"; --splits {self.splits_file} goes on with it as it was begun"
                    if changed == ["splits"]
                    else ""
                )
                yield f"{split_problem(self.splits_file, plan)}{rest}"
            elif key == "splits":
                yield "splits: follows from what is said here of the others"
            else:
                yield change_of(was, now, key)

    def optuna_study(self) -> optuna.Study:
        """Open, or make, the Optuna study; in a database, which many may share, its name ends in the study's id."""
        storage, name = self._kept()
        with trouble_told():
            try:
                return optuna.load_study(storage=storage, study_name=name)
            except KeyError:
                directions = (self.secondary() if self.exists() else SecondaryGoals()).directions
                made = optuna.create_study(storage=storage, study_name=name, directions=directions)
                if self.exists():
                    self.name_values(made)
                return made

    def name_values(self, study: optuna.Study) -> None:
        """Optuna's dashboard calls objectives "Objective 0" otherwise."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([self.objective().label(), *self.secondary().names])

    def stored_trials(self) -> list[FrozenTrial]:
        """Every trial that the Optuna study has, or had before its journal was damaged. Who reads makes nothing."""
        if self.storage is None:
            return self._in_journal() if self.journal_damage() is None else self.trials_on_record()
        storage, name = self._kept()
        with trouble_told():
            try:
                return optuna.load_study(storage=storage, study_name=name).get_trials(deepcopy=False)
            except KeyError:
                return []

    def _in_journal(self) -> list[FrozenTrial]:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return read_journal(self.journal_file, self.name) if self.journal_file.exists() else []

    def journal_damage(self) -> str | None:
        """Why the journal is not what was written; None where it is, or where a database keeps the trials."""
        if self.storage is not None:
            return None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        on_record = self.ledger.trials.read()  # before the journal, which is written first
        return journal_damage(self.journal_file, self.name, on_record, self.ledger.num_fits)

    def trials_on_record(self) -> list[FrozenTrial]:
        """Every trial as the ledger has it, or, of studies of earlier versions, the last status. Raises `BadStudy`."""
        trials = self.ledger.trials.read() or self._of_status()
        if not trials:
            remedy = "restore it from a copy; or the same `orchestrator search` asks anew, and trains nothing twice"
            raise BadStudy(str(self.journal_file), f"{self.journal_damage()}; {remedy}")
        return trials

    def _of_status(self) -> list[FrozenTrial]:
        last = read_status(self.status_file)
        views = last.trials if last is not None else ()
        return of_status(views, self.space(), len(self.secondary().directions))

    def _kept(self) -> tuple[BaseStorage, str]:
        """Where the Optuna study is, and its name there."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if (url := self.storage) is None:
            return open_journal(self.journal_file), self.name
        return open_database(url), f"{self.name}-{self.study_id[:8]}"

    def repair(self) -> None:
        """Clear away what kill -9 leaves behind. Needs the lock.

        The journal's own lock, which would be waited for for half a minute, a last line that is half-written: what
        follows it could not be read, files that were never put in place, and what Ray kept of earlier runs, for no
        run goes on with it.
        """
        for path in [*self.folder.rglob("*.partial"), self.folder / "tune", self.folder / "train"]:
            if path.is_dir():
                shutil.rmtree(
                    path, ignore_errors=True
                )  # what outlives its study for a moment may still write there
            else:
                path.unlink(missing_ok=True)
        self.journal_file.with_name(f"{self.journal_file.name}.lock").unlink(missing_ok=True)
        (self.folder / "told.txt").unlink(
            missing_ok=True
        )  # of earlier versions, which nothing reads any more
        for path in (self.journal_file, self.race_file, self.ledger.cut_fits):
            if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
                with path.open("r+b") as file:
                    file.truncate(content.rfind(b"\n") + 1)

    def space(self) -> SearchSpace:
        """The space as it was stored, which was checked then. Raises `BadSpace` where its file is another by now."""
        made_of = self.record().made_of
        text = made_of.space_text
        try:
            space = checked_before(
                read_bounded(self.space_file, BadSpace, megabytes=1).decode(), self.space_file
            )
        except UnicodeDecodeError as error:
            found = f"found byte {error.object[error.start]:#04x}"
            raise BadSpace(str(self.space_file), f"expected text in UTF-8, {found}; {ANEW}") from error
        except BadSpace as error:
            *others, last = error.problems
            raise BadSpace(error.where, [*others, f"{last}; {ANEW}"]) from error
        is_same = space.digest == made_of.space if text is None else text_digest(space) == text
        if not is_same:
            raise BadSpace(str(self.space_file), f"is not what the study was made of; {ANEW}")
        return space

    def datasets(self) -> tuple[tuple[Dataset, ...], tuple[Dataset, ...]]:
        """The datasets that the study trains on, and those that it only tests on."""
        made_of = self.record().made_of
        return load_datasets(self.home, list(made_of.datasets)), load_datasets(
            self.home, list(made_of.unseen)
        )

    def plan(self) -> SplitPlan:
        try:
            parse_json(self.splits_file, dict[str, Any])
        except Unreadable as error:
            raise BadSplit(str(self.splits_file), f"{error}; {ANEW}") from error
        except FileNotFoundError:
            raise BadSplit(str(self.splits_file), f"is gone; {ANEW}") from None
        return read_plan(self.splits_file, *self.datasets())

    def group_of_case(self) -> dict[str, str]:
        """Case id -> group, merged with its twins, of all datasets: what an interval draws whole."""
        sources, unseen = self.datasets()
        return group_of_case((*sources, *unseen), self.plan().near_duplicates)

    def trials(self) -> list[StudyTrial]:
        """Every trial so far that has its parameters, by number."""
        space, plan, ledger = self.space(), self.plan(), self.ledger
        able = [
            t
            for t in self.stored_trials()
            if t.state != TrialState.WAITING and space.drawn(t.params) is not None
        ]
        looks = seen_folds_of(read_verdicts(self.race_file))
        return [read_trial(trial, space, plan, ledger, looks.get(trial.number)) for trial in able]

    def objective(self) -> Objective:
        """What the search makes as large as it can."""
        return objective_over(self.record().spec.objective, self.datasets()[0])

    def secondary(self) -> SecondaryGoals:
        """The objectives beside that one, and the limits."""
        spec = self.record().spec
        return secondary_goals(spec.objectives[1:], self.datasets()[0], spec.constraints, self.network_sizes)

    def values(self, standing: Iterable[tuple[StudyTrial, TrialScore]]) -> dict[int, tuple[float, ...]]:
        """What finished trials with their scores are worth in every objective, by number."""
        objective, secondary = self.objective(), self.secondary()
        return {
            trial.number: (
                objective(score),
                *secondary.values(trial.configuration, score, trial.inference_ms),
            )
            for trial, score in standing
        }

    def front(self) -> tuple[int, ...]:
        """The finished trials that none is better than in all objectives; none where there is one objective."""
        secondary = self.secondary()
        standing = self.ranked() if secondary.objectives else []
        found = self.values(pair for pair in standing if broken(pair[0], secondary) is None)
        return tuple(sorted(front(found, secondary.directions)))

    def contenders(self, metric: str = "dice") -> list[tuple[StudyTrial, TrialScore]]:
        """As `ranked`, those alone that exceed no limit."""
        secondary = self.secondary()
        return [pair for pair in self.ranked(metric) if broken(pair[0], secondary) is None]

    def ranked(self, metric: str = "dice") -> list[tuple[StudyTrial, TrialScore]]:
        """Finished trials with their scores, best first, by the study's objective."""
        return ranked(self.trials(), metric, self.objective(), self.secondary())

    def champion(self) -> Champion | None:
        """The champion whose network was scored on cases outside the search, if there is one yet."""
        if not self.champion_file.exists():
            return None
        return read_json(
            self.champion_file, Champion, "the same `orchestrator search` names the champion anew"
        )

    def choose_champion(self, champion: Champion) -> None:
        """Remember the champion."""
        write_atomically(self.champion_file, json.dumps(asdict(champion)).encode())

    def outside_scores(self, fit_id: str, masks: PostProcess) -> dict[str, dict[str, float]]:
        """Mean scores of one network on the hold-out cases ("test") and on unseen datasets, where it was scored."""
        return {
            name: {metric: float(values.mean()) for metric, values in scores.items()}
            for name, scores in self.outside_values(fit_id, masks).items()
        }

    def outside_values(self, fit_id: str, masks: PostProcess) -> dict[str, dict[str, np.ndarray]]:
        """As `outside_scores`, of every image, in the order of `outside_cases`."""
        outside = outside_cases(self.plan(), self.datasets()[1])
        return {
            name: scores_under(self.ledger.read_scores(fit_id, case_ids).histograms, masks)
            for name, case_ids in outside.items()
            if self.ledger.has_scores(fit_id, case_ids)
        }


def outside_cases(plan: SplitPlan, unseen: Sequence[Dataset]) -> dict[str, tuple[str, ...]]:
    """The cases that only champions are scored on: "test", the hold-out, and each unseen dataset by name.

    Unseen cases that the plan drops, for they have twins in training, are not among them.
    """
    test = {"test": plan.test} if plan.test else {}
    left_out = plan.left_out
    return test | {
        dataset.name: tuple(case.id for case in dataset.cases if case.id not in left_out)
        for dataset in unseen
    }


def read_trial(
    trial: FrozenTrial, space: SearchSpace, plan: SplitPlan, ledger: Ledger, look: SeenFolds | None = None
) -> StudyTrial:
    """Put together what Optuna, the ledger and the race know of a trial.

    A fold of a stopped trial that was cut may have been put on record a moment later: it is not one of its folds.
    """
    params = space.sample(FixedTrial(trial.params))
    configuration = space.configuration(params)
    fit_ids = [spec.fit_id for spec in fold_specs(configuration, plan)]
    state = STATES.get(trial.state, "open")
    folds = look.folds if look is not None and state == "stopped" else range(len(fit_ids))
    found = (ledger.find(fit_ids[fold]) for fold in folds)
    return StudyTrial(
        number=trial.number,
        state=state,
        searched=dict(trial.params),
        params=params,
        configuration=configuration,
        records=tuple(record for record in found if record is not None),
        num_folds=len(fit_ids),
        error=trial.user_attrs.get("error") or trial.user_attrs.get("stopped"),
        look=look or NOTHING_SEEN,
    )


def ranked(
    trials: Sequence[StudyTrial],
    metric: str = "dice",
    objective: Objective | None = None,
    secondary: SecondaryGoals | None = None,
) -> list[tuple[StudyTrial, TrialScore]]:
    """Finished trials with their scores, best first; a tie goes to the earlier one, who exceeds a limit comes last."""
    worth, limits = objective or Objective(), secondary or SecondaryGoals()
    scored = [(trial, score) for trial in trials if (score := trial.score(metric)) is not None]
    return sorted(
        scored,
        key=lambda pair: (
            broken(pair[0], limits) is not None,
            -worth(pair[1], metric),
            pair[0].number,
        ),
    )


def broken(trial: StudyTrial, secondary: SecondaryGoals) -> str | None:
    """In words, which limits a trial exceeds, if any."""
    return secondary.broken(trial.configuration, trial.inference_ms)


def finished_score(trial: StudyTrial) -> TrialScore:
    """The score of a trial that must be finished. Raises `BadStudy` if it is not."""
    score = trial.score()
    if score is None:
        raise BadStudy(
            f"trial {trial.number}", f"has {len(trial.records)} of {trial.num_folds} folds finished"
        )
    return score


def champion_fit(trial: StudyTrial) -> FitRecord:
    """The fold network that stands for a trial: the one of median Dice, so that the trial's score describes it.

    Of an even number of folds it is the lower of the two in the middle: it must not look better than the trial.
    """
    dice = finished_score(trial).fold_dice
    return trial.records[sorted(range(len(dice)), key=dice.__getitem__)[(len(dice) - 1) // 2]]


def list_studies(home: Path) -> list[StudyStore]:
    """Every study of a home, the one worked on last first. Those of outer folds count as their whole study's."""
    touched: dict[str, float] = {}
    studies = home / "studies"
    folders = {file.parent for file in studies.glob("*/study.json")}
    folders |= {file.parent.parent for file in studies.glob("*/ledger/study.json")}
    for folder in folders:
        name = whole_study(home, folder.name)
        touched[name] = max(touched.get(name, 0.0), _touched(folder))
    return [StudyStore(home, name) for name in sorted(touched, key=lambda name: -touched[name])]


def find_study(home: Path, name: str | None) -> StudyStore:
    """The study of that name, or the one worked on last. Raises `BadStudy` if there is none."""
    if name is not None:
        study = StudyStore(home, name)
        study.record()
        return study
    studies = list_studies(home)
    if not studies:
        raise BadStudy(str(home), "holds no study yet; `orchestrator search` makes one")
    return studies[0]


def whole_study(home: Path, name: str) -> str:
    """The name of the study that one of an outer fold belongs to; any other is its own."""
    whole, mark, number = name.rpartition(OUTER)
    return whole if mark and number.isdigit() and StudyStore(home, whole).exists() else name


def _touched(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.glob("optuna.journal")))
