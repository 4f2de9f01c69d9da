"""A search space: from a TOML file, checked as a whole, to draws by Optuna and to the settings of a trial.

    network = "gmsrf_net"                 # or { choice = ["unet", "resunet_pp"] }
    [search]
    learning_rate = { log_uniform = [1e-5, 1e-2] }
    image_size    = { int = [224, 352], step = 32 }          # also log = true
    clip_norm     = { uniform = [0.5, 2.0] }                 # also step = 0.5
    growth_rate   = { choice = [8, 16, 32], when = { network = "gmsrf_net" } }
    threshold     = { sweep = [0.05, 0.95] }                 # this is what holds where a file says nothing
    [fixed]
    epochs = 60
    [baseline]                            # always trial 0: the paper's value of everything that is searched
    learning_rate = 1e-4

A parameter with `when` exists only where others have one of the values named. Threshold and reference area are swept
after training, or drawn like any other parameter, or fixed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from optuna.trial import BaseTrial, FixedTrial

from orchestrator import models
from orchestrator.common.errors import BadMachine, BadSpace
from orchestrator.common.user_documents import parse_toml, read_bounded, shown
from orchestrator.scoring.histograms import snap
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.search.space import shipped
from orchestrator.search.space.checks import (
    Tables,
    calling_for,
    existing,
    find_problems,
    in_order,
    recipe_problems,
)
from orchestrator.search.space.parameters import (
    AREA,
    MASKS,
    NETWORK,
    RECIPE,
    THRESHOLD,
    batch_refusal,
    not_known,
    owners,
    refusal,
    size_refusal,
    unknown_key,
)
from orchestrator.search.space.shipped import find_space_file
from orchestrator.search.space.toml_file import read_tables
from orchestrator.training.recipe import Recipe


@dataclass(frozen=True)
class Configuration:
    """One trial, ready to train: what to build, how to train it, and how to make a mask of its output."""

    network: str
    network_params: dict[str, Any]
    recipe: Recipe
    masks: MaskChoice


@dataclass(frozen=True)
class SearchSpace(Tables):
    """A checked search space. Flat params name everything a file does: `network`, searched and fixed keys."""

    sweeps: dict[str, tuple[float, float]]  # of what validation cases choose
    text: str
    path: Path | None = None

    @property
    def where(self) -> str:
        """What an error message names."""
        return str(self.path or "search space")

    @property
    def digest(self) -> str:
        """Twenty hex digits of what the file means; comments, order and layout have no part in them."""
        search = {key: {"kind": dist.kind, **dist.model_dump()} for key, dist in self.search.items()}
        meaning = [search, dict(self.fixed), dict(self.baseline), self.sweeps]
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:20]

    def sample(self, trial: BaseTrial) -> dict[str, Any]:
        """Draw flat params, the fixed ones included; a parameter comes after those it depends on."""
        params: dict[str, Any] = dict(self.fixed)
        for name in in_order(self.search):
            if self.search[name].exists(params):
                params[name] = self.search[name].draw(trial, name)
        return params

    def drawn(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """Flat params of those a trial has drawn; None where some are missing, for it was killed while it drew them."""
        try:
            return self.sample(FixedTrial(dict(params)))
        except ValueError:
            return None

    def exact(self, searched: Mapping[str, Any]) -> dict[str, Any]:
        """Searched parameters as they are written, so that equal settings are equal: see `Distribution.exact`."""
        return {name: self.search[name].exact(value) for name, value in searched.items()}

    def baseline_params(self) -> dict[str, Any]:
        """Flat params of the baseline, the fixed ones included: what `sample` returns for trial 0."""
        return {**self.fixed, **self.baseline}

    def configuration(self, params: Mapping[str, Any]) -> Configuration:
        """Sort flat params into what they set. BadSpace where they make no recipe together."""
        problems = recipe_problems(params, "recipe")
        if problems:
            raise BadSpace(self.where, problems)
        own = {k: v for k, v in params.items() if k not in RECIPE and k not in (NETWORK, *MASKS)}
        return Configuration(
            network=params[NETWORK],
            network_params=own,
            recipe=Recipe(**{key: value for key, value in params.items() if key in RECIPE}),
            masks=self._masks(params),
        )

    def _masks(self, params: Mapping[str, Any]) -> MaskChoice:
        given = {key: params[key] for key in MASKS if key in params}
        for level in {THRESHOLD, "white_level"} & given.keys():
            given[level] = snap(given[level])
        if THRESHOLD in self.sweeps:
            given["thresholds"] = self.sweeps[THRESHOLD]
        if AREA in self.sweeps:
            given = {AREA: None, "areas": self.sweeps[AREA]} | given
        return MaskChoice(**given)


LARGEST = 2**53  # larger integers are no exact floats


def load_space(given: Path) -> SearchSpace:
    """A file, or the shipped one of that name, checked. Raises `BadSpace` with every problem in it."""
    path = find_space_file(given)
    if not path.is_file():
        near = sorted(file.name for file in path.parent.glob("*.toml"))
        raise BadSpace(
            str(path),
            f"expected a TOML file, found none; {path.parent} holds: {', '.join(near) or 'none'}; "
            f"names of files that come with the program: {', '.join(shipped.names())}",
        )
    try:
        text = read_bounded(path, BadSpace, megabytes=1).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSpace(
            str(path), f"expected text in UTF-8, found byte {error.object[error.start]:#04x}"
        ) from error
    return parse_space(text, path)


def parse_space(text: str, path: Path | None = None) -> SearchSpace:
    """Check the text of a file. BadSpace with every problem in it."""
    where = str(path or "search space")
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise BadSpace(where, f"expected TOML, found otherwise: {error}") from error
    if problems := [*_too_large(document)]:
        raise BadSpace(where, problems)
    tables, sweeps = read_tables(document, problems)
    problems = find_problems(tables, problems)
    if problems:
        raise BadSpace(where, problems)
    return SearchSpace(tables.networks, tables.search, tables.fixed, tables.baseline, sweeps, text, path)


def _too_large(value: Any, key: str = "") -> Iterator[str]:
    """Integers that no parameter can have, and that would break the checks of others."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _too_large(one, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for one in value:
            yield from _too_large(one, key)
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield f"{key}: expected an integer of at most {LARGEST:,}, found one of {len(str(abs(value)))} digits"


def check_builds(space: SearchSpace) -> None:
    """Build the networks of a space, without memory, at the ends of their parameters. BadSpace: all refusals.

    Takes seconds, so it is not part of `load_space`. Pretrained weights are neither looked for nor read.
    """
    variants: list[tuple[str, dict[str, Any]]] = []
    for params in _network_variants(space):
        variant = (
            params[NETWORK],
            {key: params[key] for key in models.params(params[NETWORK]) if key in params},
        )
        variants += [variant] if variant not in variants else []
    refusals = (_build_refusal(network, values) for network, values in variants)
    problems = list(dict.fromkeys(refusal for refusal in refusals if refusal))
    if problems:
        raise BadSpace(space.where, problems)


def _build_refusal(network: str, values: Mapping[str, Any]) -> str | None:
    """What the network has against these values of its parameters, pretrained weights left aside."""
    offline = {
        key: value
        for key, value in (("pretrained", False), ("weights", None))
        if key in models.params(network)
    }
    try:
        with torch.device("meta"):
            models.build(network, **{**values, **offline})
    except (
        ValueError,
        TypeError,
        OverflowError,
    ) as error:  # the latter two: of torch, of sizes that nothing can have
        return f"{network}: {error}"
    return None


def _network_variants(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """The baseline of every network, and it again with each extreme of each of the network's parameters."""
    for network in space.networks:
        base = {**space.baseline_params(), NETWORK: network}
        yield existing(space, base)
        for name in in_order(space.search):
            if name in models.params(network):
                for value in space.search[name].extremes:
                    yield existing(space, {**base, **calling_for(space, name, value), NETWORK: network})


def check_weights(space: SearchSpace) -> None:
    """Fetch or read the weights that networks of this space start from. BadMachine where they cannot be had.

    Done once before a study, so that no trial finds out; costs nothing where networks start at random.
    """
    begun = [
        params for params in _network_variants(space) if params.get("pretrained") or params.get("weights")
    ]
    problems = []
    for params in {(one[NETWORK], one.get("weights")): one for one in reversed(begun)}.values():
        file = params.get("weights")
        if file and not Path(file).is_absolute():
            problems.append(
                f"weights: expected an absolute path, for fits run in folders of their own, found {file}; "
                f"{Path(file).absolute()} would do"
            )
            continue
        configuration = space.configuration(params)
        try:
            models.build(configuration.network, **configuration.network_params)
        except (ConnectionError, OSError, ValueError) as error:
            problems.append(f"{configuration.network}: {error}")
    if problems:
        raise BadMachine(space.where, problems)


def override(params: Mapping[str, Any], assignments: Sequence[str], space: SearchSpace) -> dict[str, Any]:
    """Flat params changed by `key=value` texts. Values are TOML, or a bare word. BadSpace: all problems.

    Values need not lie in their distributions. Searched parameters that no longer exist are dropped, and
    those that a change brings in keep their defaults.
    """
    problems: list[str] = []
    changes = _assigned(assignments, problems)
    network = changes.get(NETWORK, params[NETWORK])
    if network not in space.networks:
        raise BadSpace("--set", [*problems, not_known(network, space.networks, "network of this space")])
    for key, value in changes.items():
        known = key == NETWORK or owners(key, [network])
        problem = refusal(key, value, [network]) if known else unknown_key(key, [network])
        problems += [f"{key}: {problem}"] if problem else []
    changed = {**existing(space, {**params, **changes}), **changes}
    problems = problems or _refused_together(changed, changes)
    if problems:
        raise BadSpace("--set", problems)
    return changed


def _assigned(assignments: Sequence[str], problems: list[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for assignment in assignments:
        key, _, value = (part.strip() for part in assignment.partition("="))
        try:
            if not key or not value:
                raise ValueError(f"expected key=value, found {assignment!r}")
            changes[key] = _value(value)
        except ValueError as error:
            problems.append(str(error))
    return changes


def _refused_together(params: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    """What is wrong with values that are fine one by one; a network is built where its parameters changed."""
    network = params[NETWORK]
    size, batch = (
        refusal_of([params.get(key, Recipe.model_fields[key].default)], network)
        for key, refusal_of in (("image_size", size_refusal), ("batch_size", batch_refusal))
    )
    own = {key: params[key] for key in models.params(network) if key in params}
    refused = _build_refusal(network, own) if own.keys() & changes.keys() else None
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
