"""Functions on inputs of fits: split datasets, draw augmented frames, check and combine search spaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.api.home import PathLike, as_names, cache_folder, home_folder
from orchestrator.common.errors import python_errors

if TYPE_CHECKING:
    from orchestrator.common.display import Display
    from orchestrator.results.data_split import DataSplit
    from orchestrator.results.views.augmentation_preview import Preview
    from orchestrator.search.space.space import SearchSpace


@python_errors()
def split(
    data: str | Sequence[str],
    *,
    splits: PathLike = "five-fold",
    unseen: str | Sequence[str] = (),
    holdout: float = 0.1,
    seed: int = 0,
    near_duplicates: bool = True,
    home: PathLike | None = None,
    cache: PathLike | None = None,
    display: Display | None = None,
) -> DataSplit:
    """Split datasets without a study; `write(file)` of the result makes a file for `splits` of studies and fits.

    `data`: names of datasets to train on; `unseen`: of those that only a champion is scored on. `splits`: "five-fold"
    and the others of `orchestrator data split --help`, or a split file. `holdout`: share of the cases, 0 to 0.5.
    Raises `BadData` for unknown datasets and `BadSplit` for what cannot be split so.

    >>> import orchestrator as po
    >>> drawn = po.split("drawn", splits="k-fold:2")
    >>> [fold.name for fold in drawn.plan.folds], drawn.write("splits.json").name
    (['fold 0', 'fold 1'], 'splits.json')
    """
    from orchestrator.common.display import Display
    from orchestrator.results.data_split import DataSplit
    from orchestrator.study.loading import DataChoice

    folder = home_folder(home)
    names, tests = as_names(data), as_names(unseen)
    choice = DataChoice(
        folder, names, tests, str(splits), holdout, seed, near_duplicates, cache_folder(cache, folder)
    )
    return DataSplit.of(choice, display or Display())


@python_errors()
def preview(
    name: str,
    out: PathLike = "preview.png",
    *,
    augmentation: str = "standard",
    size: int = 256,
    cases: int = 4,
    epoch: int = 1,
    seed: int = 0,
    home: PathLike | None = None,
) -> Preview:
    """Draw a sheet of augmented cases of a dataset, with the outlines of their masks, after the original frames.

    `out`: PNG file to write. `augmentation`: a pipeline by name, or "all". `size`: input side in pixels. `epoch`: whose
    augmentation is shown, the first being 1. Raises `BadData` for what is not known or cannot be written.

    >>> import orchestrator as po
    >>> po.preview("drawn", "sheet.png", size=32, cases=2).pipelines
    ('standard',)
    """
    from orchestrator.data.cases import load_dataset
    from orchestrator.results.views.augmentation_preview import checked_pipelines, draw_preview

    pipelines = checked_pipelines(augmentation, size, Path(out))
    found = load_dataset(home_folder(home), name)
    return draw_preview(found, pipelines, Path(out), size=size, num_cases=cases, epoch=epoch - 1, seed=seed)


@python_errors()
def check_space(space: PathLike, *, display: Display | None = None) -> SearchSpace:
    """A search space whose networks can all be built: a file, or the name of one that comes with the package.

    Parameters without effect are noted in `display`. Raises `BadSpace` with everything that is wrong.

    >>> import orchestrator as po
    >>> po.check_space("tiny.toml").baseline_params()["learning_rate"]
    0.001
    """
    from orchestrator.common.display import Display
    from orchestrator.search.space.builds import buildable_space

    return buildable_space(Path(space), (display or Display()).note)


@python_errors()
def combine_spaces(*spaces: PathLike) -> str:
    """The text of one search space of several, in which the network is a choice.

    What all say alike stands once; everything else stands in tables of its network, such as [unet.search]. Raises
    `BadSpace` for files that are not of one network each.

    >>> import orchestrator as po
    >>> po.combine_spaces("unet", "pranet").splitlines()[0]
    'network = { choice = ["unet", "pranet"] }'
    """
    from orchestrator.search.space.combine import combined

    return combined([Path(space) for space in spaces])


@python_errors()
def space_schema() -> dict[str, Any]:
    """The JSON Schema of search-space files, for editors.

    >>> import orchestrator as po
    >>> sorted(po.space_schema()["required"])
    ['network']
    """
    from orchestrator.search.space.schema import json_schema

    return json_schema()
