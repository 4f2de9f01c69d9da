"""`orchestrator plan`: what a study will cost on some hardware, before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
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
from orchestrator.cli.console.printing import bar, note, out, print_json, show_table

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from orchestrator.data.cases import Dataset
    from orchestrator.data.splits.split_file import SplitPlan
    from orchestrator.search.forecast.plan import Forecast
    from orchestrator.search.forecast.speed import Speed
    from orchestrator.search.space.space import Configuration, SearchSpace
    from orchestrator.study.loading import DataChoice


@study_options(trials=40, race="paired", rescore=3, nested=None, seed=0)
def plan(
    file: SpaceFile,
    data: Data,
    gpus: Annotated[
        int, typer.Option(min=1, help="Devices that the study will have, like the one this runs on.")
    ],
    given: Mapping[str, Any],
    price: Annotated[
        float | None, typer.Option(min=0, callback=finite, help="Of one device for an hour.")
    ] = None,
    failures: Annotated[
        float, typer.Option(min=0, callback=finite, help="Worker deaths per lane and hour.")
    ] = 0.0,
    sampled: Annotated[int, typer.Option(min=0, help="Configurations to time besides the paper's.")] = 4,
    unseen: Unseen = None,
    splits: Splits = "five-fold",
    holdout: Holdout = 0.1,
    device: Device = "auto",
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Time a few steps here, then forecast fits, GPU-hours, hours and cost of a search for every width."""
    import torch

    from orchestrator.cli.doctor import refuse_what_would_fail
    from orchestrator.cli.fit import device_here
    from orchestrator.common.errors import Mistakes
    from orchestrator.search.store.study_record import specification
    from orchestrator.study.loading import DataChoice

    home, seed, trials = home.expanduser().resolve(), given["seed"], given["trials"]
    choice, mistakes = DataChoice(home, data, unseen or [], splits, holdout, seed, False, cache), Mistakes()
    with mistakes.noted():
        specification(given)
    with mistakes.noted():
        space = trainable_space(file)
    with mistakes.noted():
        choice.refuse()
    with mistakes.noted():
        chosen = torch.device(device_here(device))
    with mistakes.noted():
        refuse_what_would_fail(home, cache, device, gpus=[0])
    mistakes.raise_all()
    split, rows, seconds = _forecasts(space, choice, chosen, given, gpus, sampled, failures)
    where = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else "CPU"
    if as_json:
        fits = [asdict(one) | {"race": rule, "cost": _cost(one, price)} for rule, one in rows]
        print_json(
            {"device": where, "gpus": gpus, "trials": trials, "forecasts": fits, "fit_seconds": seconds}
        )
        return
    show_table(_table(rows, price, f"{trials} configurations on {gpus} x {where}, {split.name}"))
    best = min((one for rule, one in rows if rule == given["race"]), key=lambda one: one.hours)
    out.print(
        f"soonest with --workers-per-fit {best.width}: {best.num_lanes} lanes. Epochs are counted in full, for "
        "patience cannot be foreseen; exchange of gradients is computed, not measured.",
        highlight=False,
    )
    if len(seconds) > 1:
        times = ", ".join(f"{network} {value / 60:.3g}" for network, value in seconds.items())
        out.print(f"minutes of a fit of each network's baseline, on one device: {times}", highlight=False)


def trainable_space(file: Path) -> SearchSpace:
    """A search space whose networks can be built, with the weights that they begin with. Raises `BadSpace`."""
    from orchestrator.search.space.builds import check_builds, check_weights
    from orchestrator.search.space.effects import without_effect
    from orchestrator.search.space.space_file import load_space

    space = load_space(file)
    check_builds(space)
    check_weights(space)
    for line in without_effect(space):
        note(line)
    return space


def _forecasts(
    space: SearchSpace,
    choice: DataChoice,
    device: torch.device,
    given: Mapping[str, Any],
    gpus: int,
    sampled: int,
    failures: float,
) -> tuple[SplitPlan, list[tuple[str, Forecast]], dict[str, float]]:
    """The split; for no race and the one that is given, a forecast for every width; and seconds of a fit of each
    network's baseline on one device."""
    from orchestrator.cli.data.splits import load_split
    from orchestrator.search.forecast.plan import forecast, seconds_of_fits, some_configurations, world_of
    from orchestrator.search.forecast.width import possible_widths
    from orchestrator.search.records.trial_score import fold_specs
    from orchestrator.study.checks import batch_sizes

    sources, _, split = load_split(choice)
    widths = possible_widths(batch_sizes(space), gpus)
    configurations = some_configurations(space, sampled, given["seed"])
    speeds = _speeds(configurations, split, sources, choice.cache_folder, device, widths)
    specs = [fold_specs(configuration, split)[0] for configuration in configurations]
    rows = []
    for rule in dict.fromkeys(("none", given["race"])):
        for width in widths:
            found = forecast(
                seconds_of_fits(speeds, specs, width),
                width=width,
                num_lanes=gpus // width,
                num_trials=given["trials"],
                race=rule,
                world=world_of(split, space.num_searched),
                rescore=given["rescore"],
                nested=given["nested"] or 0,
                num_epochs=configurations[0].recipe.epochs,
                failures_per_hour=failures,
            )
            rows.append((rule, found))
    alone = zip(configurations, seconds_of_fits(speeds, specs, 1), strict=True)
    seconds: dict[str, float] = {}
    for configuration, value in alone:
        seconds.setdefault(configuration.network, value)
    return split, rows, seconds


def _speeds(
    configurations: Sequence[Configuration],
    split: SplitPlan,
    sources: Sequence[Dataset],
    cache: Path,
    device: torch.device,
    widths: Sequence[int],
) -> list[Speed]:
    """How fast each configuration trains on this device; the first with the batches of every width."""
    from orchestrator.data.cache.frames import cached_cases
    from orchestrator.search.forecast.speed import measure
    from orchestrator.training.process import configure_process

    configure_process()
    speeds: list[Speed] = []
    with bar("timing") as on_progress:
        for done, configuration in enumerate(configurations, start=1):
            cases = cached_cases(sources, configuration.recipe.image_size, cache)
            shares = sorted({configuration.recipe.batch_size // width for width in widths})
            speeds.append(measure(configuration, split, cases, device, shares if done == 1 else shares[-1:]))
            on_progress(done, len(configurations))
    return speeds


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
