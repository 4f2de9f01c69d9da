"""Tables of the papers: the list of all, and published and measured numbers side by side."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from orchestrator.api.home import PathLike, as_names, cache_folder, home_folder
from orchestrator.common.errors import python_errors

if TYPE_CHECKING:
    from orchestrator.common.display import Display
    from orchestrator.protocols.reproduction import ReproductionRequest
    from orchestrator.ray_cluster.machine import Machine
    from orchestrator.search.choices import DeviceName

ScaleName = Literal["smoke", "small", "full"]


@python_errors()
def papers(paper: str | None = None) -> dict[str, Any]:
    """Name -> title, citation and tables, of all papers whose tables can be reproduced, or of one.

    >>> import orchestrator as po
    >>> list(po.papers("gmsrf")["gmsrf"]["tables"])
    ['I', 'II']
    """
    from orchestrator.protocols.listing import papers_dict
    from orchestrator.protocols.protocol import load_protocol, names

    return papers_dict([load_protocol(name) for name in ((paper,) if paper else names())])


@python_errors()
def reproduce(
    paper: str,
    table: str | None = None,
    *,
    scale: ScaleName = "smoke",
    data: Mapping[str, str] | None = None,
    only: str | Sequence[str] = (),
    also: str | Sequence[str] = (),
    seeds: int = 1,
    weights: Mapping[str, str] | None = None,
    imagenet: bool | None = None,
    whole_groups: bool = False,
    tuned: bool = False,
    trials: int | None = None,
    dry_run: bool = False,
    out: PathLike = "RESULTS.md",
    fits_per_gpu: int = 1,
    lanes: int | None = None,
    address: str = "auto",
    device: DeviceName = "auto",
    home: PathLike | None = None,
    cache: PathLike | None = None,
    display: Display | None = None,
    command: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Run tables of a paper as it describes them, and return them by key, as they stand in the JSON file next to `out`.

    `paper`: of `papers`, or a file. `table`: None for all of the paper. `scale`: "smoke" (minutes on two cores, does
    every row run), "small" (minutes on a GPU, which network is ahead), "full" (the paper's sizes, images and epochs).
    `data`: the paper's name of a dataset -> its name in this home. `only`: rows, or networks; `also`: further
    networks. `seeds`: fits of every row. `weights`: network or row -> file, or "imagenet". `imagenet`: whether to start
    from weights of ImageNet where the paper does; None: with "full". `whole_groups`: keep videos, patients and
    near-duplicates on one side of the split. `tuned`: search parameters of every row too, with `trials` each.
    `dry_run`: return what would be run. `command`: how to run it again, for the file of results.

    Results that exist already are not made again. A row whose fit failed has its `error`. Raises one
    `UserError` with all that is wrong, before anything is trained.

    >>> import orchestrator as po
    >>> po.reproduce("gmsrf", "I", only="vnet", dry_run=True)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    orchestrator.common.errors.Several: ...
    """
    from orchestrator.common.display import Display
    from orchestrator.common.errors import BadData
    from orchestrator.doctor.quick import checked_machine
    from orchestrator.protocols.fits import Wishes, check_weights
    from orchestrator.protocols.outcome.views import plan_dict
    from orchestrator.protocols.reproduction import (
        ReproductionRequest,
        plan_tables,
        planned_lines,
        run_planned,
    )
    from orchestrator.protocols.work import Places
    from orchestrator.ray_cluster.machine import Machine

    if trials is not None and not tuned:
        raise BadData("--trials", "is the number of trials of a search, which only --tuned runs: add --tuned")
    if scale not in get_args(ScaleName):
        raise BadData("--scale", f"expected {', '.join(get_args(ScaleName))}, found {scale!r}")
    folder, shown = home_folder(home), display or Display()
    places, target = Places(folder, cache_folder(cache, folder)), Path(out).expanduser().absolute()
    wishes = Wishes(as_names(only), as_names(also), dict(weights or {}), imagenet, seeds)
    asked = ReproductionRequest(paper, table, scale, wishes, dict(data or {}), whole_groups, target)
    plans = plan_tables(asked, places, shown)
    for plan in plans:
        for line in planned_lines(plan, places, device):
            shown.note(line)
    budget = (trials or plans[0].scale.trials) if tuned else None
    if budget is not None:
        shown.note(f"then the parameters of every row are searched: {budget} trials each, on the same folds")
    if dry_run:
        return {plan.key: plan_dict(plan) for plan in plans}
    check_weights([row for plan in plans for row in plan.rows])
    given = Machine(address, device, 1, lanes, fits_per_gpu)
    machine = checked_machine(given, places.home, places.cache, shown.note)
    words = command or _command(asked, tuned=tuned, trials=trials, machine=given)
    return {
        plan.key: run_planned(plan, places, machine, shown, budget=budget, out=target, command=words)
        for plan in plans
    }


def _command(asked: ReproductionRequest, *, tuned: bool, trials: int | None, machine: Machine) -> str:
    """Command line that makes the same tables again."""
    wishes, words = (
        asked.wishes,
        ["orchestrator", "reproduce", asked.paper, *([asked.table] if asked.table else [])],
    )
    given: dict[str, object] = {
        "scale": asked.scale,
        "data": [f"{name}={own}" for name, own in asked.data.items()],
        "only": wishes.only,
        "also": wishes.also,
        "seeds": wishes.num_seeds,
        "weights": [f"{name}={file}" for name, file in (wishes.weights or {}).items()],
        "trials": trials,
        "out": asked.out,
        "lanes": machine.num_lanes,
        "fits-per-gpu": machine.fits_per_gpu,
        "device": machine.device,
    }
    for name, value in given.items():
        several = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        words += [word for one in several for word in (f"--{name}", str(one))]
    flags = {"whole-groups": asked.whole_groups, "tuned": tuned, "imagenet": wishes.imagenet is True}
    words += [f"--{name}" for name, is_set in flags.items() if is_set]
    words += ["--random"] * (wishes.imagenet is False)
    return shlex.join(words)
