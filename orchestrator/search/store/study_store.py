"""A study on disk: its folder, inputs and trials. Read by every command."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from orchestrator.common.errors import BadSpace, BadSplit, BadStudy
from orchestrator.common.files import write_atomically
from orchestrator.common.names import hint
from orchestrator.common.network_files import keep_networks
from orchestrator.common.stored_json import Unreadable, parse_json, read_json
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_file import write_plan
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.goals.goals import SecondaryGoals
from orchestrator.search.goals.objective import Objective
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.store.optuna_storage import explained_errors, open_database, open_journal
from orchestrator.search.store.snapshot import Standing, StudySnapshot
from orchestrator.search.store.study_changes import (
    ADVICE,
    change_of,
    changed_keys,
    dataset_changes,
    space_changes,
    split_kind_problem,
    split_problem,
)
from orchestrator.search.store.study_folder import StudyFolder
from orchestrator.search.store.study_record import StudyRecord, new_record, read_record
from orchestrator.search.store.trials import Champion, StudyTrial
from orchestrator.search.study_spec import StudySpec

logger = logging.getLogger(__name__)
OUTER = ".outer-"  # between the name of a study and the number of an outer fold's


@dataclass(frozen=True)
class StudyStore(StudyFolder):
    """A study on disk: its folder, inputs and trials."""

    def refuse_unknown(self) -> None:
        """Raises `BadStudy` where there is no such study, with the names of those that there are."""
        if not self.exists():
            known = [study.name for study in list_studies(self.home)]
            raise BadStudy(
                str(self.home),
                f"no study is named {self.name!r}; {hint(self.name, known)}known: {', '.join(known) or 'none yet'}",
            )

    def record(self) -> StudyRecord:
        """Content of `study.json`: inputs of the study, options of its last run. `BadStudy` if none."""
        self.refuse_unknown()
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
        """Identifier that distinguishes this study from an earlier one of the same name."""
        return self.record().made_of.id

    @property
    def spec(self) -> StudySpec:
        """Specification of the study's last run; the default before there is one."""
        return self.record().spec if self.exists() else StudySpec()

    @property
    def warm_start(self) -> tuple[str, ...]:
        """Names of the studies that recommended the first configurations of this one."""
        return self.spec.warm_start

    def warm_start_configurations(self) -> list[dict[str, Any]]:
        """The configurations to try after the baseline, before any other."""
        if not self.warm_start_file.exists():
            return []
        remedy = (
            "restore it, or delete it: configurations of an earlier study that were not begun are then lost"
        )
        result: list[dict[str, Any]] = read_json(self.warm_start_file, list[dict[str, Any]], remedy)
        return result

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
        keep_networks(space.networks, self.home)
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
        """Write the search space and the split again, where their files were damaged."""
        try:
            self.space()
        except BadSpace as error:
            logger.warning("%s; it is written again", error)
            write_atomically(self.space_file, space.text.encode())
            self._write_manifest(self.record().with_text(space))
        try:
            self.plan()
        except BadSplit as error:
            logger.warning("%s; it is written again", error)
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
        self, space: SearchSpace, plan: SplitPlan, spec: StudySpec, *, is_audited: bool = True
    ) -> None:
        """Raises `BadStudy`, key by key, where the study exists and was begun otherwise.

        `is_audited`: near-duplicates were looked for; before that only the kind of the split is compared.
        """
        if not self.exists():
            return
        was = self.record()
        now = new_record(space, plan, was.resumed(spec).spec)
        changed = changed_keys(was, now)
        split_change = None
        if "splits" in changed:
            compare = split_problem if is_audited else split_kind_problem
            split_change = compare(self.splits_file, plan)
        if split_change is None:
            changed = [key for key in changed if key != "splits"]
        if changed:
            *first, last = self._changes(changed, was, now, space, split_change)
            raise BadStudy(self.name, [*first, f"{last}; {ADVICE}"])

    def _changes(
        self,
        changed: Sequence[str],
        was: StudyRecord,
        now: StudyRecord,
        space: SearchSpace,
        split_change: str | None,
    ) -> Iterator[str]:
        for key in changed:
            if key == "space":
                yield from space_changes(self.space(), space)
            elif key in ("datasets", "unseen"):
                yield from dataset_changes(key, getattr(was.made_of, key), getattr(now.made_of, key))
            elif key == "splits" and not {"datasets", "unseen", "seed"} & {*changed}:
                rest = (
                    f"; --splits {self.splits_file} continues the study as it was begun"
                    if changed == ["splits"]
                    else ""
                )
                yield f"{split_change}{rest}"
            elif key == "splits":
                yield "splits: follows from the other changes in this list"
            else:
                yield change_of(was, now, key)

    def optuna_study(self) -> optuna.Study:
        """Open, or make, the Optuna study; in a database, which many may share, its name ends in the study's id."""
        storage, name = self._kept()
        with explained_errors():
            try:
                return optuna.load_study(storage=storage, study_name=name)
            except KeyError:
                directions = (self.secondary() if self.exists() else SecondaryGoals()).directions
                made = optuna.create_study(storage=storage, study_name=name, directions=directions)
                if self.exists():
                    self.name_values(made)
                return made

    def name_values(self, study: optuna.Study) -> None:
        """Name the study's objectives in Optuna: its dashboard calls them "Objective 0" otherwise."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([self.objective().label(), *self.secondary().names])

    def _kept(self) -> tuple[BaseStorage, str]:
        """Storage of the Optuna study, and its name there."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if (url := self.storage) is None:
            return open_journal(self.journal_file), self.name
        return open_database(url), self.name_in_database(self.study_id)

    def name_in_database(self, study_id: str) -> str:
        """Name of the Optuna study, in a database that many may share."""
        return f"{self.name}-{study_id[:8]}"

    def snapshot(self) -> StudySnapshot:
        """The study as it stands now. Each method below takes one of its own: take one for several questions."""
        return StudySnapshot(self)

    def space(self) -> SearchSpace:
        """The search space. Raises `BadSpace`."""
        return self.snapshot().space

    def datasets(self) -> tuple[tuple[Dataset, ...], tuple[Dataset, ...]]:
        """The datasets that the study trains on, and those that it only tests on."""
        now = self.snapshot()
        return now.datasets, now.unseen

    def plan(self) -> SplitPlan:
        """The split. Raises `BadSplit`."""
        return self.snapshot().plan

    def group_of_case(self) -> dict[str, str]:
        """Case id -> group, near-duplicates merged, of all datasets."""
        return self.snapshot().group_of_case

    def trials(self) -> list[StudyTrial]:
        """Every trial so far that has its parameters, by number."""
        return self.snapshot().trials

    def stored_trials(self) -> list[FrozenTrial]:
        """Every trial that the Optuna study has, or had before its journal was damaged."""
        return self.snapshot().stored_trials

    def objective(self) -> Objective:
        """The objective that the search maximises."""
        return self.snapshot().objective

    def secondary(self) -> SecondaryGoals:
        """The objectives after the first one, and the constraints."""
        return self.snapshot().secondary

    def front(self) -> tuple[int, ...]:
        """The Pareto front of several objectives, by number."""
        return self.snapshot().front

    def ranked(self, metric: str = "dice") -> Standing:
        """Finished trials with their scores, best first, by the study's objective."""
        return self.snapshot().ranked(metric)

    def feasible(self, metric: str = "dice") -> Standing:
        """The trials of `ranked` that meet all constraints."""
        return self.snapshot().feasible(metric)

    def champion(self) -> Champion | None:
        """The champion whose network was scored on cases outside the search, if there is one yet."""
        return self.snapshot().champion

    def outside_scores(self, fit_id: str, masks: PostProcess) -> dict[str, dict[str, float]]:
        """Mean scores of one network on the hold-out cases ("test") and on unseen datasets, where it was scored."""
        return self.snapshot().outside_scores(fit_id, masks)

    def choose_champion(self, champion: Champion) -> None:
        """Remember the champion."""
        write_atomically(self.champion_file, json.dumps(asdict(champion)).encode())


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
        study.refuse_unknown()
        return study
    studies = list_studies(home)
    if not studies:
        raise BadStudy(str(home), "holds no study yet; `orchestrator search` makes one")
    return studies[0]


def whole_study(home: Path, name: str) -> str:
    """Name of the study that the study of an outer fold belongs to; any other name is returned as it is."""
    whole, mark, number = name.rpartition(OUTER)
    return whole if mark and number.isdigit() and StudyStore(home, whole).exists() else name


def _touched(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.glob("optuna.journal")))
