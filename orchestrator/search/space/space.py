"""A search space: from a TOML file, checked as a whole, to draws by Optuna and to the configurations of a trial.

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

What holds for one of several networks alone is in tables of its own, in place of what the shared ones say:

    [unet.search]
    base_channels = { choice = [16, 32, 64] }
    [gmsrf_net.fixed]
    batch_size = 4
    [unet.baseline]                       # every network has a baseline: they are the first trials
    base_channels = 32

A parameter with `when` exists only where others have one of the values named. Threshold and reference area are swept
after training, or drawn like any other parameter, or fixed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import BaseTrial, FixedTrial

from orchestrator.common.errors import BadSpace
from orchestrator.common.user_documents import parse_toml
from orchestrator.scoring.histograms import snap
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.search.space.keys import AREA, MASKS, NETWORK, RECIPE, THRESHOLD, may_be, plain
from orchestrator.search.space.scalars import shown_number
from orchestrator.search.space.tables import Tables, existing, in_order, recipe_problems
from orchestrator.search.space.toml_file import read_tables
from orchestrator.training.recipe import Recipe


@dataclass(frozen=True)
class Configuration:
    """One trial, ready to train: its network, the recipe, and how masks are made of probabilities."""

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
        """The path of the file, for error messages."""
        return str(self.path or "search space")

    @property
    def log_scaled(self) -> frozenset[str]:
        """Searched parameters, by plain names, that every network that has them draws by their logarithm."""
        others = {plain(name) for name, dist in self.search.items() if not dist.is_by_log}
        return frozenset(map(plain, self.search)) - others

    def at_range_ends(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Texts on searched params at an end of their range, where a wider range might hold better values.

        Left out are ends beyond which a recipe allows no values, as of a weight decay of 0.
        """
        found = []
        for name, value in self.stored(params).items():
            dist = self.search[name]
            end = dist.end_at(value)
            if end is not None and may_be(plain(name), dist.beyond(end)):
                found.append(f"{plain(name)} {shown_number(value)} at the {end} end of {dist}")
        return tuple(found)

    @property
    def digest(self) -> str:
        """Twenty hex digits of a hash of the file's meaning, without comments, order and layout."""
        search = {key: {"kind": dist.kind, **dist.model_dump()} for key, dist in self.search.items()}
        meaning: list[Any] = [search, dict(self.fixed), dict(self.baseline), self.sweeps]
        if self.own:  # the searched ones are in `search` already
            rest = {name: [one.fixed, one.baseline, one.sweeps] for name, one in self.own.items()}
            meaning.append(rest)
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:20]

    def sample(self, trial: BaseTrial) -> dict[str, Any]:
        """Draw flat params, the fixed ones included; a parameter comes after those it depends on.

        The trial has stored names ("unet.learning_rate"), the flat params plain ones.
        """
        params = self._begun(self.fixed)
        for name in in_order(self.search):
            if self.search[name].exists(params):
                params[plain(name)] = self.search[name].draw(trial, name)
                params = self._begun(params) if name == NETWORK else params
        return params

    def _begun(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All fixed params of the network where it is known and has tables of its own; else these params."""
        return self.fixed_of(params[NETWORK]) if params.get(NETWORK) in self.own else dict(params)

    def drawn(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """Flat params from those a trial has drawn; None where some are missing, after a kill meanwhile."""
        try:
            return self.sample(FixedTrial(dict(params)))
        except ValueError:
            return None

    def exact(self, searched: Mapping[str, Any]) -> dict[str, Any]:
        """Searched parameters as they are written, so that equal configurations are equal: see `Distribution.exact`."""
        return {name: self.search[name].exact(value) for name, value in searched.items()}

    def stored(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The searched ones of flat params, by stored names."""
        found, known = {}, self._begun(params)
        for name in in_order(self.search):
            if plain(name) in params and self.search[name].exists({**known, **params}):
                found[name] = params[plain(name)]
        return found

    def baseline_params(self, network: str | None = None) -> dict[str, Any]:
        """Flat params of a network's baseline, the fixed ones included; by default of trial 0's: what `sample` returns.

        A searched parameter of which the file gives no baseline is missing.
        """
        if len(self.networks) == 1 and not self.own:
            return {**self.fixed, **self.baseline}
        network = network or self.fixed.get(NETWORK) or self.baseline[NETWORK]
        return existing(self.member(network), {**self.fixed_of(network), **self.baseline_of(network)})

    @property
    def baselines(self) -> tuple[dict[str, Any], ...]:
        """Searched parameters, by stored names, of the first trials: the baseline of every network.

        The first one is of the network that [baseline] names, or else `network` first; those that lack a value, as
        files without tables for single networks may have them, are left out.
        """
        if len(self.networks) == 1 and not self.own:
            return (self.baseline,)
        first = self.baseline.get(NETWORK)
        found = []
        for network in sorted(self.networks, key=lambda name: name != first):
            searched = self.stored(self.baseline_params(network))
            if self.drawn(searched) is not None:
                found.append(searched)
        return tuple(found)

    @property
    def num_searched(self) -> int:
        """Largest number of searched parameters of a trial."""
        return max(len(one.search) for one in self.members)

    def shown(self, searched: Mapping[str, Any]) -> dict[str, Any]:
        """Searched parameters by their plain names, as results show them."""
        return {plain(name): value for name, value in searched.items()}

    @property
    def members(self) -> tuple[SearchSpace, ...]:
        """Spaces of one network each, by plain names, where networks have tables of their own; else this one."""
        return tuple(map(self.of, self.networks)) if self.own else (self,)

    def of(self, network: str) -> SearchSpace:
        """The search space of one of the networks, with its parameters by plain names."""
        one = self.member(network)
        return SearchSpace(
            one.networks,
            one.search,
            one.fixed,
            one.baseline,
            self._sweeps_of(network),
            self.text,
            self.path,
        )

    def _sweeps_of(self, network: str) -> dict[str, tuple[float, float]]:
        own = self.own_of(network)
        return {key: ends for key, ends in self.sweeps.items() if key not in own.keys} | own.sweeps

    def configuration(self, params: Mapping[str, Any]) -> Configuration:
        """The configuration that flat params set. BadSpace where they make no valid recipe together."""
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
        given, sweeps = {key: params[key] for key in MASKS if key in params}, self._sweeps_of(params[NETWORK])
        for level in {THRESHOLD, "white_level"} & given.keys():
            given[level] = snap(given[level])
        if THRESHOLD in sweeps:
            given["thresholds"] = sweeps[THRESHOLD]
        if AREA in sweeps:
            given = {AREA: None, "areas": sweeps[AREA]} | given
        return MaskChoice(**given)


def checked_before(text: str, path: Path) -> SearchSpace:
    """The search space of a text that was checked when it was stored: no network is looked up.

    Raises `BadSpace` where the text is no search space at all. Whether it is the text that was stored is
    checked by the caller, who knows its digest.
    """
    problems: list[str] = []
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise BadSpace(str(path), f"expected TOML, found something else: {error}") from error
    tables, sweeps = read_tables(document, problems, None)
    if problems:
        raise BadSpace(str(path), problems)
    return space_of(tables, sweeps, text, path)


def space_of(
    tables: Tables, sweeps: dict[str, tuple[float, float]], text: str, path: Path | None
) -> SearchSpace:
    """The search space of tables without problems."""
    parts = (tables.networks, tables.search, tables.fixed, tables.baseline)
    return SearchSpace(*parts, sweeps, text, path, own=tables.own)
