"""Checkpoints that the authors of a network published, read into ours tensor for tensor.

A network's module calls `publish` once, with the names that the authors gave to its parts; nothing else is needed.
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
    """Say how published weights of a registered network are named.

    source: where the authors publish it, as "owner/repository".
    names: our module -> the authors' module, each as a dotted path; the longest one that a tensor's name starts with
        is replaced, and a tensor under none of them is named alike in both.
    unused: the authors' modules that no forward pass reaches; their tensors are left out.
    params: what the network is built with, so that it is wired as the weights were trained.
    """
    if network in _publications:
        raise ValueError(f"two publications of {network!r}")
    _publications[network] = _Publication(source, dict(names), tuple(unused), params)


def units(names: Mapping[str, str]) -> dict[str, str]:
    """The same for blocks that `conv_bn` made, where the authors' block has parts named conv and bn."""
    parts = {"0": "conv", "1": "bn"}
    return {f"{ours}.{i}": f"{theirs}.{part}" for ours, theirs in names.items() for i, part in parts.items()}


def load_published(name: str, path: str | Path) -> nn.Module:
    """Build a network with its authors' published weights, on the CPU, in evaluation mode.

    path: a torch file of named tensors and nothing else, in the authors' names, or the same as .safetensors.
    ValueError: a network without published weights, a file that cannot be read, or one that does not hold exactly
    the tensors of this network; then every tensor that is missing, not known, or of another shape is named.
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
        raise ValueError(
            f"{path} does not hold {name} as {publication.source} publishes it: {'; '.join(problems)}"
        )
    network.load_state_dict({theirs[key]: value for key, value in found.items()})
    return network.eval()


def _renamed(key: str, names: Mapping[str, str]) -> str:
    prefixes = [ours for ours in names if key.startswith(f"{ours}.")]
    if not prefixes:
        return key
    ours = max(prefixes, key=len)
    return names[ours] + key.removeprefix(ours)


def _as_1x1(value: Tensor, shape: torch.Size | None) -> Tensor:
    """A linear layer's weights as those of a 1x1 convolution, where one is wanted."""
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
