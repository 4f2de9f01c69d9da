"""Any sampler of Optuna or OptunaHub by name: `optuna:CmaEsSampler(popsize=8)`, `optunahub:auto_sampler.AutoSampler`.

A study shows its sampler every trial at its present score, in a study rebuilt for each draw, by a new object with a new
seed. What a sampler writes on the trial that it samples is stored with the trial and shown to it again, so that
generations of NSGA-II and CMA-ES go on. What it keeps in memory, or on the study, is lost: such samplers are refused.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, get_type_hints

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler
from pydantic import ConfigDict, TypeAdapter, ValidationError

from orchestrator.common.errors import BadStudy
from orchestrator.search.samplers.sampler_kind import OPTION, SamplerKind

UNUSABLE = {
    "BaseSampler": "it is abstract",
    "BaseGASampler": "it is abstract",
    "PartialFixedSampler": "[fixed] in the search-space file fixes parameters",
    "GridSampler": "its order is kept in memory; a space of `choice` parameters is tried completely by random",
    "QMCSampler": "its position in the sequence is kept on the study, which is rebuilt for each draw; use random",
}
READ_CONSTRAINTS = (TPESampler, GPSampler, NSGAIISampler, NSGAIIISampler)
PICKLES = (
    "CmaEsSampler keeps its optimizer pickled in the study's records, and unpickling runs code: resume a study only "
    "from a folder or database that you trust"
)
UNSEEDED = "{name} takes no seed: repeated or resumed, this study samples other configurations"
ANY_HUB = (
    "{name} is code that OptunaHub downloads and this search runs; what it keeps in memory between draws is lost, and "
    "what it writes on its trials is stored and shown to it again"
)


def external_sampler(text: str) -> SamplerKind:
    """The sampler of `optuna:CLASS(...)` or `optunahub:PACKAGE.CLASS(...)`. Raises `BadStudy`."""
    source, _, call = text.partition(":")
    name, given = _parsed(text, call)
    found = _of_optuna(name) if source == "optuna" else _of_hub(name)
    parameters = _parameters(found)
    _refuse_arguments(found, given, parameters)
    takes_seed = "seed" in parameters
    if "warn_independent_sampling" in parameters:  # once for every draw, otherwise
        given = {"warn_independent_sampling": False} | given

    def make(seed: int, num_objectives: int) -> BaseSampler:
        return found(**given, **({"seed": seed} if takes_seed else {}))

    remarks = [
        PICKLES * issubclass(found, CmaEsSampler),
        ANY_HUB.format(name=found.__name__) * (source == "optunahub"),
        UNSEEDED.format(name=found.__name__) * (not takes_seed and name != "BruteForceSampler"),
    ]
    return SamplerKind(
        make,
        reads_constraints=issubclass(found, READ_CONSTRAINTS),
        keeps_notes=True,
        remarks=tuple(filter(None, remarks)),
    )


def _parsed(text: str, call: str) -> tuple[str, dict[str, Any]]:
    """Dotted name and keyword arguments of `CLASS` or `CLASS(keyword=literal, ...)`."""
    try:
        node = ast.parse(call.strip(), mode="eval").body
        function, keywords = (node.func, node.keywords) if isinstance(node, ast.Call) else (node, [])
        if isinstance(node, ast.Call) and node.args:
            raise BadStudy(
                OPTION, f"{text}: arguments are given by name, as in NSGAIISampler(population_size=20)"
            )
        given = {str(one.arg): ast.literal_eval(one.value) for one in keywords if one.arg}
        if len(given) < len(keywords) or not isinstance(function, ast.Name | ast.Attribute):
            raise ValueError
        return ast.unparse(function), given
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        expected = "CLASS(keyword=value, ...) with numbers, texts, lists and dicts as values"
        raise BadStudy(OPTION, f"expected {text.partition(':')[0]}:{expected}; found {text}") from None


def _of_optuna(name: str) -> type[BaseSampler]:
    known = sorted(set(optuna.samplers.__all__) - UNUSABLE.keys() - {"nsgaii"})
    if name in UNUSABLE:
        raise BadStudy(OPTION, f"optuna:{name} cannot be used: {UNUSABLE[name]}; known: {', '.join(known)}")
    if name not in known:
        raise BadStudy(
            OPTION, f"Optuna {optuna.__version__} has no sampler {name!r}; known: {', '.join(known)}"
        )
    found: type[BaseSampler] = getattr(optuna.samplers, name)
    return found


def _of_hub(name: str) -> type[BaseSampler]:
    package, _, sampler = name.rpartition(".")
    if not package:
        raise BadStudy(
            OPTION, f"expected optunahub:PACKAGE.CLASS, as in auto_sampler.AutoSampler; found {name}"
        )
    try:
        hub = importlib.import_module("optunahub")
    except ImportError as missing:
        raise BadStudy(OPTION, f"optunahub is not installed ({missing}); pip install optunahub") from None
    try:
        module = hub.load_module(f"samplers/{package}")
        found = getattr(module, sampler)
    except Exception as failure:  # Git, GitHub, the package's own imports: each has errors of its own
        reason = f"{type(failure).__name__}: {failure}"
        raise BadStudy(OPTION, f"OptunaHub's samplers/{package} gave no {sampler}: {reason}") from failure
    if not (isinstance(found, type) and issubclass(found, BaseSampler)):
        raise BadStudy(OPTION, f"{name} of OptunaHub does not sample single configurations")
    return found


def _parameters(found: type[BaseSampler]) -> Mapping[str, inspect.Parameter]:
    named = inspect.signature(found).parameters
    return {name: one for name, one in named.items() if one.kind != inspect.Parameter.VAR_POSITIONAL}


def _refuse_arguments(
    found: type[BaseSampler], given: Mapping[str, Any], known: Mapping[str, inspect.Parameter]
) -> None:
    name, types = found.__name__, _types(found)
    anything = any(one.kind == inspect.Parameter.VAR_KEYWORD for one in known.values())
    needed = [n for n, one in known.items() if one.default is one.empty and one.kind != one.VAR_KEYWORD]
    problems = []
    for argument, value in given.items():
        if argument == "seed":
            problems.append(f"{name}: set the seed with --seed")
        elif argument not in known and not anything:
            near = difflib.get_close_matches(argument, known, 1)
            hint = (
                f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted({*known} - {'seed'}))}"
            )
            problems.append(f"{name} has no argument {argument!r}{hint}")
        elif argument in types and not _is_of(value, types[argument]):
            kind = inspect.formatannotation(types[argument])
            problems.append(f"{name}: {argument} is of type {kind}, found {value!r}")
    problems += [f"{name} needs the argument {n!r}" for n in needed if n not in given and n != "seed"]
    if problems:
        raise BadStudy(OPTION, problems)


def _types(found: type[BaseSampler]) -> dict[str, Any]:
    """Argument -> its type; without annotations that use names imported for type checkers alone."""
    own, types = inspect.unwrap(found.__init__), dict[str, Any]()
    for name, annotation in own.__annotations__.items():
        with suppress(NameError):
            types |= get_type_hints(SimpleNamespace(__annotations__={name: annotation}), own.__globals__)
    return types


def _is_of(value: Any, kind: Any) -> bool:
    try:
        TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True
