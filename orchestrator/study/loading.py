"""The datasets of a study and their split, loaded and checked as `data`, `unseen` and `splits` ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.common.display import Display
from orchestrator.common.errors import BadSplit, Mistakes
from orchestrator.common.names import nearest
from orchestrator.data.cache.intact import refuse_changed
from orchestrator.data.cases import Dataset, known_names, load_datasets
from orchestrator.data.near_duplicates.find import find_near_duplicates
from orchestrator.data.splits.plan import looked_for_near_duplicates, make_plan, refuse_options
from orchestrator.data.splits.split_plan import SplitPlan


@dataclass(frozen=True)
class DataChoice:
    """Choice of datasets, and how they are split."""

    home: Path
    data: Sequence[str]
    unseen: Sequence[str] = ()
    splits: str = "five-fold"
    holdout: float = 0.1
    seed: int = 0
    near_duplicates: bool = True
    cache: Path | None = None  # None: HOME/cache

    def refuse(self) -> None:
        """Raise the errors of datasets and split that are found at once, the split's also if a dataset is misspelt."""
        names, known = [*self.data, *self.unseen], {*known_names(self.home)}
        mistakes = Mistakes()
        with mistakes.noted():
            datasets = load_datasets(self.home, names)
        with mistakes.noted():
            if not mistakes.found:
                self._plan(datasets)
            else:
                refuse_options(self.splits, self.holdout)
                if not known.issuperset(names):
                    self._refuse_split([nearest(name, known) for name in names])
        mistakes.raise_all()

    def _refuse_split(self, meant: Sequence[str | None]) -> None:
        """Raise the errors of the split for the datasets that were meant; nothing if one of them is not known."""
        names = [name for name in meant if name is not None]
        if len({*names}) < len(meant):
            return
        try:
            self._plan(load_datasets(self.home, names))
        except BadSplit as error:
            problems = [f"with {', '.join(names)}: {problem}" for problem in error.problems]
            raise BadSplit(error.where, problems) from None

    def load(
        self, display: Display, *, fold: int = 0, check: Callable[[SplitPlan], None] | None = None
    ) -> tuple[tuple[Dataset, ...], tuple[Dataset, ...], SplitPlan]:
        """The datasets to train on, those to test on, and the split of the former. `fold` must be one of it.

        `check` may refuse a plan that has the name, the datasets and the seed, before near-duplicates are looked for.
        """
        datasets = self.load_unchanged(display)
        plan = self._plan(datasets)  # refuses at once what it can
        if fold >= len(plan.folds):
            raise BadSplit("--fold", f"needs a number below {len(plan.folds)}, found {fold}")
        is_audited = self.near_duplicates and not looked_for_near_duplicates(self.splits)
        if check:
            check(replace(plan, near_duplicates=()) if is_audited else plan)
        if is_audited:
            plan = self._plan(datasets, near_duplicate_pairs(datasets, self.cache_folder, display))
        if self.near_duplicates:
            display.note(_near_duplicate_line(plan))
        return datasets[: len(self.data)], datasets[len(self.data) :], plan

    @property
    def cache_folder(self) -> Path:
        """Folder of decoded images."""
        return self.cache or self.home / "cache"

    def load_unchanged(self, display: Display) -> tuple[Dataset, ...]:
        """All datasets, in order. Raises `BadData` where files are not those that were imported."""
        datasets = load_datasets(self.home, [*self.data, *self.unseen])
        with display.bar("checking files") as on_progress:
            refuse_changed(datasets, self.cache_folder, on_progress)
        return datasets

    def _plan(
        self, datasets: Sequence[Dataset], pairs: tuple[tuple[str, str], ...] | None = None
    ) -> SplitPlan:
        sources, tests = datasets[: len(self.data)], datasets[len(self.data) :]
        return make_plan(
            self.splits,
            sources,
            seed=self.seed,
            holdout=self.holdout,
            unseen=tests,
            near_duplicates=pairs,
        )


def near_duplicate_pairs(
    datasets: Sequence[Dataset], cache: Path, display: Display
) -> tuple[tuple[str, str], ...]:
    """Pairs of case ids whose images are near-duplicates."""
    with display.bar("near-duplicates") as on_progress:
        skip = "; --no-near-duplicates skips it"
        return find_near_duplicates(datasets, cache, on_progress, display.note, skip).pairs


def _near_duplicate_line(plan: SplitPlan) -> str:
    """Sentence on near-duplicates of a split: how many, and how many unseen cases are dropped for them."""
    if plan.num_near_duplicates is None:
        return (
            "near-duplicates: not searched for when this file was written, and it is used as it is; "
            "split again to search for them"
        )
    dropped = plan.num_unseen_near_duplicates
    return (
        f"near-duplicates: {plan.num_near_duplicates}, kept together; {dropped} unseen cases dropped for them"
    )
