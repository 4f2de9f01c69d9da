"""Whether the networks of a search space can be built, and single values of a configuration changed by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from orchestrator import models
from orchestrator.common.errors import BadMachine, BadSpace
from orchestrator.common.user_documents import parse_toml, shown
from orchestrator.data.augmentation.library_pipelines import canonical
from orchestrator.data.augmentation.library_pipelines import problems as library_problems
from orchestrator.data.augmentation.names import is_of_library
from orchestrator.search.space.effects import without_effect
from orchestrator.search.space.keys import NETWORK, listed, not_known
from orchestrator.search.space.parameters import batch_refusal, owners, refusal, size_refusal, unknown_key
from orchestrator.search.space.scalars import is_whole
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.space.space_file import load_space
from orchestrator.search.space.tables import calling_for, existing, in_order, recipe_problems
from orchestrator.training.gradient_checkpointing import parts_of
from orchestrator.training.optimization.encoder import PretrainedEncoder
from orchestrator.training.recipe import ENCODER, NO_RESULT, OFF, Recipe

WITH_ENCODER = ("encoder_decoder", "pranet", "polyp_pvt")  # networks that train it
MOST_TRAINED = 5_000_000_000  # parameters: with gradients and an optimizer's two means they fill 80 GB


def buildable_space(file: Path, note: Callable[[str], None]) -> SearchSpace:
    """The search space in a file, whose networks can all be built; parameters without effect are noted.

    Raises `BadSpace`.
    """
    space = load_space(file)
    check_builds(space)
    for line in without_effect(space):
        note(line)
    return space


def trainable_space(file: Path, note: Callable[[str], None]) -> SearchSpace:
    """A space whose networks build, and whose first weights are here. Raises `BadSpace`, `BadMachine`."""
    space = buildable_space(file, note)
    check_weights(space)
    return space


def check_builds(space: SearchSpace) -> None:
    """Build the networks of a space, without memory, at the ends of their parameters. BadSpace: all refusals.

    Pipelines of albumentations are tried on frames of the smallest and the largest side. Takes seconds, so it is not
    part of `load_space`. Pretrained weights are neither looked for nor read.
    """
    variants: list[tuple[str, dict[str, Any], tuple[str, ...]]] = []
    for params in chain(*map(_network_variants, space.members)):
        values = {key: params[key] for key in models.params(params[NETWORK]) if key in params}
        variant = (params[NETWORK], values, _asked(params))
        variants += [variant] if variant not in variants else []
    refusals = (_build_refusal(*variant) for variant in variants)
    problems = list(dict.fromkeys(refusal for refusal in refusals if refusal))
    problems += dict.fromkeys(chain(*map(_augmentation_refusals, space.members)))
    if problems:
        raise BadSpace(space.where, problems)


def _augmentation_refusals(space: SearchSpace) -> list[str]:
    """Problems of the albumentations pipelines that trials of this space can have, a line each."""
    names, sizes = (
        space.search[key].extremes
        if key in space.search
        else [space.fixed.get(key, Recipe.model_fields[key].default)]
        for key in ("augmentation", "image_size")
    )
    return [
        f"augmentation: {problem}"
        for name in names
        if is_of_library(str(name))
        for problem in dict.fromkeys(chain(*(library_problems(str(name), int(size)) for size in sizes)))
    ]


def _asked(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of parameters of the recipe that only some networks support and that are not at their default."""
    keys = (*ENCODER, *NO_RESULT)
    defaults = {key: Recipe.model_fields[key].default for key in keys}
    return tuple(key for key in keys if params.get(key, defaults[key]) != defaults[key])


def _build_refusal(network: str, values: Mapping[str, Any], asked: Sequence[str]) -> str | None:
    """Why a network with these parameters cannot be built, pretrained weights left aside; None if it can."""
    offline = {
        key: value
        for key, value in (("pretrained", False), ("weights", None))
        if key in models.params(network)
    }
    try:
        built = models.build_without_values(network, **{**values, **offline})
    except (
        ValueError,
        TypeError,
        OverflowError,
    ) as error:  # the latter two: of torch, of sizes that nothing can have
        return f"{network}: {error}"
    if (too_large := _too_large(network, values, built)) is not None:
        return too_large
    return next((lack for key in asked if (lack := _lack(key, network, built))), None)


def _too_large(name: str, values: Mapping[str, Any], network: torch.nn.Module) -> str | None:
    """Why no GPU could train a network of this size; None if one could."""
    count = sum(one.numel() for one in network.parameters() if one.requires_grad)
    if count <= MOST_TRAINED:
        return None
    defaults = {key: one.default for key, one in models.params(name).items()}
    sizes = {key: one for key, one in values.items() if is_whole(one) and one != defaults[key]}
    given = ", ".join(f"{key} = {one:,}" for key, one in sizes.items()) or "these parameters"
    usual = ", ".join(f"{key} = {defaults[key]}" for key in sizes if defaults[key] is not None)
    return (
        f"{name}: with {given} it has {count / 1e9:,.1f} billion parameters to train, expected at most "
        f"{MOST_TRAINED / 1e9:.0f} billion, as weights, gradients and optimizer take 16 bytes for each"
        + (f"; by default {usual}" if usual else "")
    )


def _lack(key: str, name: str, network: torch.nn.Module) -> str | None:
    """Why this parameter of the recipe must be at its default for this network; None if it need not."""
    if key in ENCODER and not models.encoder_parts(network):
        return (
            f"{key}: {name} has no encoder with weights of its own; expected {OFF[key]:g} for it, in [search] by a "
            f"condition on network, or a network that has one and trains it, such as {listed(WITH_ENCODER)}"
        )
    if key in ENCODER and not _trains_encoder(network):
        return (
            f"{key}: the encoder of {name} is frozen with these parameters, so this has no effect; expected "
            f"{OFF[key]:g} for it"
        )
    if key in NO_RESULT and not parts_of(network):
        return f"{key}: {name} has no modules of several layers that could be recomputed; expected false"
    return None


def _trains_encoder(network: torch.nn.Module) -> bool:
    """Whether any parameter of the encoder requires a gradient."""
    plain = Recipe.model_validate({})
    return bool(PretrainedEncoder(network, models.encoder_parts(network), plain).parameters)


def _network_variants(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Baseline of each network, then with each extreme of the parameters that concern its build."""
    for network in space.networks:
        base = {**space.baseline_params(), **space.baseline_params(network)}
        yield existing(space, base)
        for name in in_order(space.search):
            if name in {*models.params(network), *ENCODER, *NO_RESULT}:
                for value in space.search[name].extremes:
                    yield existing(space, {**base, **calling_for(space, name, value), NETWORK: network})


def check_weights(space: SearchSpace) -> None:
    """Fetch or read the weights that networks of this space start from. BadMachine where they cannot be had.

    Done once before a study, so that no trial finds out; costs nothing where networks start at random.
    """
    variants = chain(*map(_network_variants, space.members))
    begun = [params for params in variants if _begun(params)]
    problems = []
    started = {(one[NETWORK], one.get("encoder"), one.get("weights")): one for one in reversed(begun)}
    for params in started.values():
        file = params.get("weights")
        if file and not Path(file).is_absolute():
            problems.append(
                f"weights: expected an absolute path, because fits run in folders of their own, found {file}; use "
                f"{Path(file).absolute()}"
            )
            continue
        configuration = space.configuration(params)
        if (problem := why_no_weights(configuration.network, configuration.network_params)) is not None:
            problems.append(f"{configuration.network}: {problem}")
    if problems:
        raise BadMachine(space.where, problems)


def why_no_weights(network: str, params: Mapping[str, Any]) -> str | None:
    """Why the weights that a network starts from cannot be fetched or read; None if they can."""
    try:
        models.build(network, **params)
    except (OSError, ValueError) as error:  # a failed download is an OSError, too
        return str(error)
    return None


def _begun(params: Mapping[str, Any]) -> bool:
    """Whether a network of these parameters, the rest at their defaults, does not start at random."""
    known = models.params(params[NETWORK])
    return any(params.get(key, known[key].default) for key in ("pretrained", "weights") if key in known)


def override(
    params: Mapping[str, Any], assignments: Sequence[str] | Mapping[str, Any], space: SearchSpace
) -> dict[str, Any]:
    """Flat params changed by `key=value` texts, or by values. In texts they are TOML, or a bare word.

    Raises `BadSpace` with all problems.

    Values need not lie in their distributions. Searched parameters that no longer exist are dropped, and
    those that a change brings in keep their defaults. Where networks have tables of their own, another network
    comes with its own baseline.
    """
    problems: list[str] = []
    changes = _assigned(assignments, problems)
    network = changes.get(NETWORK, params[NETWORK])
    if network not in space.networks:
        raise BadSpace("--set", [*problems, not_known(network, space.networks, "network of this space")])
    if space.own:
        params = params if network == params[NETWORK] else space.baseline_params(network)
        space = space.of(network)
    for key, value in changes.items():
        known = key == NETWORK or owners(key, [network])
        problem = refusal(key, value, [network]) if known else unknown_key(key, [network])
        problems += [f"{key}: {problem}"] if problem else []
    changed = {**existing(space, {**params, **changes}), **changes}
    problems = problems or _refused_together(changed, changes)
    if problems:
        raise BadSpace("--set", problems)
    return changed


def _assigned(assignments: Sequence[str] | Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for assignment in assignments:
        try:
            key, value = (
                (assignment, assignments[assignment])
                if isinstance(assignments, Mapping)
                else _parsed(assignment)
            )
            changes[key] = canonical(value, Path.cwd()) if key == "augmentation" else value
        except ValueError as error:
            problems.append(str(error))
    return changes


def _parsed(assignment: str) -> tuple[str, Any]:
    key, _, value = (part.strip() for part in assignment.partition("="))
    if not key or not value:
        raise ValueError(f"expected key=value, found {assignment!r}")
    return key, _value(value)


def _refused_together(params: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    """Problems of values that are each valid alone; builds the network if `changes` concern it."""
    network = params[NETWORK]
    size, batch = (
        refusal_of([params.get(key, Recipe.model_fields[key].default)], network)
        for key, refusal_of in (("image_size", size_refusal), ("batch_size", batch_refusal))
    )
    own = {key: params[key] for key in models.params(network) if key in params}
    is_touched = bool({*own, *ENCODER, *NO_RESULT} & changes.keys())
    refused = _build_refusal(network, own, _asked(params)) if is_touched else None
    return [
        *([f"image_size: {size}"] if size else []),
        *([f"batch_size: {batch}"] if batch else []),
        *recipe_problems(params, "recipe"),
        *([refused] if refused else []),
    ]


def _value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        if re.fullmatch(r"[A-Za-z_][\w./-]*", text):
            return text
        raise ValueError(f"expected a value as in TOML or a bare word, found {shown(text)}") from None
