"""How large the network of a configuration is: counted once, and kept in a file of the study.

Counting builds the network on torch's meta device, which takes seconds and most of a gigabyte. Commands that read the
study later find the numbers in the file and need no torch. A file that does not read is counted again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.common.files import write_atomically
from orchestrator.common.stored_json import Unreadable, parse_json
from orchestrator.search.space.space import Configuration
from orchestrator.training.recipe import FIT_VERSION

if TYPE_CHECKING:
    from torch import nn


class NetworkSizes:
    """Parameters and multiply-accumulates, counted once per network and image size; in `file` if given."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.known: dict[str, int] | None = None  # read at the first question

    def num_parameters(self, configuration: Configuration) -> int:
        """Number of the network's parameters, frozen ones included."""
        return self._find(_key(configuration), configuration, _num_parameters)

    def num_trained(self, configuration: Configuration) -> int:
        """Number of the network's parameters that are not frozen."""
        return self._find(f"{_key(configuration)} trained", configuration, _num_trained)

    def num_macs(self, configuration: Configuration) -> int:
        """Multiply-accumulates of one forward pass of one image."""
        size = configuration.recipe.image_size
        return self._find(f"{_key(configuration)} at {size}", configuration, _num_macs)

    def _find(self, key: str, configuration: Configuration, count: Callable[[Configuration], int]) -> int:
        if self.known is None:
            self.known = self._read()
        if key not in self.known:
            self.known[key] = count(configuration)
            self._write()
        return self.known[key]

    def _read(self) -> dict[str, int]:
        """Numbers in the file; empty if it is missing, damaged, or of another version of the networks."""
        if self.file is None:
            return {}
        with suppress(Unreadable, OSError):
            found = parse_json(self.file, dict[str, dict[str, int]])
            return dict(found.get(str(FIT_VERSION), {}))
        return {}

    def _write(self) -> None:
        if self.file is not None:
            with suppress(OSError):  # a study may be read where nothing can be written
                self.file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self.file, json.dumps({str(FIT_VERSION): self.known}, indent=1).encode())


IN_MEMORY = NetworkSizes()


def _key(configuration: Configuration) -> str:
    """Key of a network in the file: name and parameters without initial weights, which change no size."""
    shape = {key: value for key, value in configuration.network_params.items() if key != "weights"}
    return f"{configuration.network} {json.dumps(shape, sort_keys=True)}"


# The only ways from a study that is read to torch: taken where a size is asked for that was never counted.


def _num_parameters(configuration: Configuration) -> int:
    from orchestrator.models.cost import size

    return size(_on_meta(configuration)).learnable


def _num_trained(configuration: Configuration) -> int:
    from orchestrator.models.cost import size

    return size(_on_meta(configuration)).trained


def _num_macs(configuration: Configuration) -> int:
    from orchestrator.models.cost import multiply_accumulates

    image_size = configuration.recipe.image_size
    return multiply_accumulates(_on_meta(configuration), image_size, image_size)


def _on_meta(configuration: Configuration) -> nn.Module:
    from orchestrator.models.cost import on_meta

    shape = {key: value for key, value in configuration.network_params.items() if key != "weights"}
    return on_meta(configuration.network, **shape)
