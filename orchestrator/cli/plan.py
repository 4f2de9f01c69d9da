"""`orchestrator plan`: what a study will cost on some hardware, before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.options import (
    DEFAULT_HOME,
    AsJson,
    Cache,
    Data,
    Device,
    Holdout,
    Home,
    SpaceFile,
    Splits,
    Unseen,
    finite,
    study_options,
)
from orchestrator.common.display import counted
from orchestrator.search.study_spec import PLANNED_TRIALS
from orchestrator.terminal.live import CONSOLE
from orchestrator.terminal.printing import out, print_json, show_table

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.search.forecast.plan import Forecast


@study_options(trials=PLANNED_TRIALS, race="paired", rescore=3, nested=None, seed=0)
def plan(
    file: SpaceFile,
    data: Data,
    gpus: Annotated[
        int, typer.Option(min=1, help="Number of devices that the study will have, each like the one here.")
    ],
    given: Mapping[str, Any],
    price: Annotated[
        float | None, typer.Option(min=0, callback=finite, help="Price per device-hour.")
    ] = None,
    failures: Annotated[
        float, typer.Option(min=0, callback=finite, help="Worker deaths per lane and hour.")
    ] = 0.0,
    sampled: Annotated[int, typer.Option(min=0, help="Configurations to time besides the baselines.")] = 4,
    unseen: Unseen = None,
    splits: Splits = "five-fold",
    holdout: Holdout = 0.1,
    device: Device = "auto",
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Time a few steps here, then forecast fits, GPU-hours, hours and cost of a search for every width."""
    from orchestrator.api.study import Study

    study = Study(
        file,
        data,
        unseen=unseen or (),
        splits=splits,
        holdout=holdout,
        near_duplicates=False,
        home=home,
        cache=cache,
        address="local",
        device=device,
        progress=CONSOLE,
        **given,
    )
    found, trials = study.plan(gpus, sampled=sampled, failures=failures), given["trials"]
    if as_json:
        fits = [asdict(one) | {"race": rule, "cost": _cost(one, price)} for rule, one in found.rows]
        where = {"device": found.device, "gpus": gpus, "trials": trials}
        print_json(where | {"forecasts": fits, "fit_seconds": dict(found.fit_seconds)})
        return
    title = f"{trials} configurations on {gpus} x {found.device}, {found.split.name}"
    show_table(_table(found.rows, price, title))
    best = found.soonest
    out.print(
        f"finishes soonest with --workers-per-fit {best.width}: {counted(best.num_lanes, 'lane')}. All epochs are "
        "counted, as early stopping cannot be foreseen; the exchange of gradients is computed, not measured.",
        highlight=False,
    )
    if len(found.fit_seconds) > 1:
        times = ", ".join(f"{network} {value / 60:.3g}" for network, value in found.fit_seconds.items())
        out.print(f"minutes of a fit of each network's baseline, on one device: {times}", highlight=False)


def _cost(one: Forecast, price: float | None) -> float | None:
    return None if price is None else round(price * one.gpu_hours, 2)


def _table(rows: Sequence[tuple[str, Forecast]], price: float | None, title: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("race")
    for head in ("width", "lanes", "fits", "GPU-hours", "hours", "range"):
        table.add_column(head, justify="right")
    if price is not None:
        table.add_column("cost", justify="right")
    for rule, one in rows:
        low, high = one.hours_range
        cells = [
            str(one.width),
            str(one.num_lanes),
            str(one.fits),
            f"{one.gpu_hours:.3g}",
            f"{one.hours:.3g}",
        ]
        cells.append(f"{low:.3g} to {high:.3g}")
        table.add_row(rule, *cells, *([f"{_cost(one, price):,.2f}"] if price is not None else []))
    return table
