"""Checkpoints published by a network's authors, loaded tensor by tensor.

A network's module calls `publish` once, with the authors' names of its parts; nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.models.encoders import read_tensors
from orchestrator.models.registry import build


@dataclass(frozen=True)
class _Publication:
    source: str
    names: Mapping[str, str]
    unused: tuple[str, ...]
    params: Mapping[str, Any]


_publications: dict[str, _Publication] = {}


def publish(
    network: str, *, source: str, names: Mapping[str, str], unused: Collection[str] = (), **params: Any
) -> None:
    """Declare the names in published weights of a registered network.

    source: the authors' repository, as "owner/repository".
    names: our module -> the authors' module, each as a dotted path; the longest one that a tensor's name starts with
        is replaced, and a tensor under none of them is named alike in both.
    unused: the authors' modules that no forward pass uses; their tensors are ignored.
    params: parameters of the network with the wiring of the trained weights.
    """
    if network in _publications:
        raise ValueError(f"two publications of {network!r}")
    _publications[network] = _Publication(source, dict(names), tuple(unused), params)


def units(names: Mapping[str, str]) -> dict[str, str]:
    """The same for blocks of `conv_bn`, where the authors' block has parts named conv and bn."""
    parts = {"0": "conv", "1": "bn"}
    return {f"{ours}.{i}": f"{theirs}.{part}" for ours, theirs in names.items() for i, part in parts.items()}


def load_published(name: str, path: str | Path) -> nn.Module:
    """A network with its authors' published weights, on the CPU, in evaluation mode.

    path: a torch file of named tensors only, in the authors' names, or the same as .safetensors.
    ValueError: a network without published weights, an unreadable file, or one that does not have exactly the tensors
    of this network; the message lists every tensor that is missing, unknown, or of another shape.
    """
    if name not in _publications:
        raise ValueError(
            f"no published weights are known of {name!r}; known: {', '.join(sorted(_publications))}"
        )
    publication = _publications[name]
    found = {
        key: value
        for key, value in read_tensors(Path(path)).items()
        if not any(key.startswith(f"{module}.") for module in publication.unused)
    }
    network = build(name, **publication.params)
    ours = network.state_dict()
    theirs = {_renamed(key, publication.names): key for key in ours}
    wanted = {key: ours[our].shape for key, our in theirs.items()}
    found = {key: _as_1x1(value, wanted.get(key)) for key, value in found.items()}
    problems = _problems(wanted, found)
    if problems:
        raise ValueError(f"{path} is not {name} as published in {publication.source}: {'; '.join(problems)}")
    network.load_state_dict({theirs[key]: value for key, value in found.items()})
    return network.eval()


def _renamed(key: str, names: Mapping[str, str]) -> str:
    prefixes = [ours for ours in names if key.startswith(f"{ours}.")]
    if not prefixes:
        return key
    ours = max(prefixes, key=len)
    return names[ours] + key.removeprefix(ours)


def _as_1x1(value: Tensor, shape: torch.Size | None) -> Tensor:
    """A linear layer's weights as those of a 1x1 convolution, where one is needed."""
    return value[..., None, None] if shape == (*value.shape, 1, 1) else value


def _problems(wanted: Mapping[str, Any], found: Mapping[str, Tensor]) -> list[str]:
    if not wanted.keys() & found.keys():
        first = f", such as {next(iter(found))}" if found else ""
        return [f"it has none of the {len(wanted)} tensors, but {len(found)} others{first}"]
    missing = sorted(wanted.keys() - found.keys())
    unknown = sorted(found.keys() - wanted.keys())
    misshaped = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(shape)}"
        for key, shape in wanted.items()
        if key in found and found[key].shape != shape
    ]
    labelled = (("missing", missing), ("not known", unknown), ("of another shape", misshaped))
    return [f"{len(keys)} {label}: {', '.join(keys)}" for label, keys in labelled if keys]
