"""The fits of a table: each row's network and recipe on each fold, from each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import models
from orchestrator.common.errors import BadMachine, BadSpace, Mistakes
from orchestrator.common.names import hint
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.protocols.checks import check_row
from orchestrator.protocols.protocol import PaperRow, PaperTable, Protocol, Scale
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space import shipped
from orchestrator.search.space.builds import why_no_weights
from orchestrator.search.space.space import Configuration, SearchSpace
from orchestrator.search.space.space_file import load_space
from orchestrator.training.recipe import FitSpec, Recipe

IMAGENET = "imagenet"  # in place of a file
AT_HALF = MaskChoice(threshold=0.5)


@dataclass(frozen=True)
class RowPlan:
    """A row of a table, ready to train."""

    name: str
    row: PaperRow
    configuration: Configuration
    specs: tuple[tuple[FitSpec, ...], ...]  # seed -> fold -> fit; () where a table trains nothing

    @property
    def fits(self) -> tuple[FitSpec, ...]:
        return tuple(spec for folds in self.specs for spec in folds)

    @property
    def starts_random(self) -> bool:
        """Whether the paper starts from pretrained weights, and these fits from random ones."""
        params = self.configuration.network_params
        wanted = self.row.imagenet or bool(self.row.starts_from)
        return wanted and not params.get("pretrained") and not params.get("weights")


@dataclass(frozen=True)
class Wishes:
    """Changes that the user makes to a protocol: its rows, further networks, weights, number of seeds."""

    only: tuple[str, ...] = ()  # rows; (): all
    also: tuple[str, ...] = ()  # shipped search spaces of networks beyond the paper
    weights: Mapping[str, str] | None = None  # row, or network -> file, or "imagenet"
    imagenet: bool | None = None  # None: as the scale says
    num_seeds: int = 1


def chosen_rows(protocol: Protocol, table: PaperTable, wishes: Wishes) -> dict[str, PaperRow]:
    """Rows by name: those of the table that are asked for, and further networks. `BadSpace` for others."""
    rows = protocol.rows_of(table)
    fitting = {name: row for name, row in rows.items() if _is_named(name, row, wishes.only)}
    unknown = [
        one for one in wishes.only if not any(_is_named(name, row, (one,)) for name, row in rows.items())
    ]
    spaces = shipped.names()
    if strange := [one for one in wishes.also if one not in spaces and not Path(one).is_file()]:
        near = hint(strange[0], spaces)
        raise BadSpace(
            "--also", f"no network is named {', '.join(strange)}; {near}known: {', '.join(spaces)}"
        )
    if unknown:
        raise BadSpace(
            "--only", f"no row is named {', '.join(unknown)}; {hint(unknown[0], rows)}rows: {', '.join(rows)}"
        )
    chosen = fitting if wishes.only else rows
    return {
        **chosen,
        **{f"{name} (beyond the paper)": PaperRow(space=name, is_beyond=True) for name in wishes.also},
    }


def _is_named(name: str, row: PaperRow, wanted: Sequence[str]) -> bool:
    spelled = {one.lower() for one in wanted}
    return name.lower() in spelled or row.space in spelled or row.space in wanted


def configure(protocol: Protocol, name: str, row: PaperRow, scale: Scale, wishes: Wishes) -> Configuration:
    """Network and recipe of a row at a scale. Raises `BadSpace` for values that are not valid together."""
    space = load_space(Path(row.space))
    check_row(protocol, name, row, scale, space)
    params = {**space.baseline_params(), **row_values(protocol, name, row, scale, wishes, space)}
    configuration = space.configuration({key: value for key, value in params.items() if value is not None})
    return replace(configuration, masks=configuration.masks if row.rule else AT_HALF)


def row_values(
    protocol: Protocol, name: str, row: PaperRow, scale: Scale, wishes: Wishes, space: SearchSpace
) -> dict[str, Any]:
    """Parameters of network and recipe that a row of a table sets, at one scale."""
    at_most = {"image_size": scale.image_size, "epochs": scale.epochs, "batch_size": scale.batch_size}
    defaults = {key: space.baseline_params().get(key, Recipe.model_fields[key].default) for key in at_most}
    recipe = {**defaults, **protocol.recipe, **row.recipe}
    recipe |= {key: min(recipe[key], most) for key, most in at_most.items() if most is not None}
    recipe |= scale.rows.get(name, {})
    if recipe.get("warmup_epochs", 0) >= recipe["epochs"]:
        recipe["warmup_epochs"] = 0
    return {**recipe, **row.params, **_weights(name, row, scale, wishes, space)}


def _weights(name: str, row: PaperRow, scale: Scale, wishes: Wishes, space: SearchSpace) -> dict[str, Any]:
    """Parameters for a network's initial weights: a given file, ImageNet if the paper has it, or random."""
    network = space.baseline_params()["network"]
    known = models.params(network)
    given = wishes.weights or {}
    file = given.get(name) or given.get(row.space) or given.get(network)
    if file == IMAGENET:
        if "pretrained" not in known:
            raise BadSpace("--weights", f"there are no ImageNet weights of {network}")
        return {"pretrained": True}
    if file is not None and "weights" not in known:
        raise BadSpace("--weights", f"{network} cannot start from a file of weights")
    imagenet = scale.imagenet if wishes.imagenet is None else wishes.imagenet
    found: dict[str, Any] = {}
    if "pretrained" in known:
        found["pretrained"] = (row.imagenet or row.is_beyond) and imagenet and file is None
    if file is not None:
        found["weights"] = str(Path(file).expanduser().absolute())
    return found


def plan_rows(
    protocol: Protocol, table: PaperTable, scale: Scale, wishes: Wishes, split: SplitPlan | None
) -> tuple[RowPlan, ...]:
    """Plan of every row with its fits. Raises the mistakes of all rows as one error."""
    plans, mistakes = [], Mistakes()
    for name, row in chosen_rows(protocol, table, wishes).items():
        with mistakes.noted():
            configuration = configure(protocol, name, row, scale, wishes)
            specs = () if split is None else _specs(configuration, split, wishes.num_seeds)
            plans.append(RowPlan(name, row, configuration, specs))
    mistakes.raise_all()
    return tuple(plans)


def refuse_unused_weights(rows: Sequence[RowPlan], wishes: Wishes) -> None:
    """Raise `BadSpace` for weights of rows or networks that are not run, and so would have no effect."""
    used = {name for row in rows for name in (row.name, row.row.space, row.configuration.network)}
    if unused := [name for name in wishes.weights or {} if name not in used]:
        known = ", ".join(dict.fromkeys(row.name for row in rows))
        raise BadSpace("--weights", f"no row that is run is named {', '.join(unused)}; rows: {known}")


def check_weights(rows: Sequence[RowPlan]) -> None:
    """Download or read the initial weights of all rows. `BadMachine` names all that are not available."""
    problems, seen = [], []
    for row in rows:
        network, params = row.configuration.network, row.configuration.network_params
        if not (params.get("pretrained") or params.get("weights")) or (network, params) in seen:
            continue
        seen.append((network, params))
        if (problem := why_no_weights(network, params)) is not None:
            problems.append(f"{row.name}: {problem}; use --random, or --weights '{row.name}=FILE', instead")
    if problems:
        raise BadMachine("--weights", problems)


def _specs(configuration: Configuration, split: SplitPlan, num_seeds: int) -> tuple[tuple[FitSpec, ...], ...]:
    recipe = configuration.recipe
    seeded = (
        replace(configuration, recipe=recipe.model_copy(update={"seed": seed}), masks=AT_HALF)
        for seed in range(num_seeds)
    )
    return tuple(fold_specs(one, split) for one in seeded)
