"""A bundle on a GPU: its weights in PyTorch, in the place of ONNX Runtime, which we install for CPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.common.errors import BadBundle, BadMachine
from orchestrator.results.export.bundle import ExportedModel, MemberNetwork

if TYPE_CHECKING:
    import torch
    from torch import nn

Wanted = Literal["auto", "cpu", "cuda"]
DRIVER = Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/dxg")  # the last one: WSL


def on_device(bundle: ExportedModel, wanted: Wanted) -> tuple[ExportedModel, str]:
    """The bundle on a device, and its name. auto: a GPU if there is one. `BadMachine`: cuda without a GPU."""
    if wanted == "cpu" or (wanted == "auto" and not any(path.exists() for path in DRIVER)):
        return bundle, "the CPU (ONNX Runtime)"
    import torch

    if torch.cuda.is_available():
        session: Any = TorchSession(network_of(bundle), torch.device("cuda"))
        return replace(bundle, session=session), f"{torch.cuda.get_device_name()} (PyTorch)"
    if wanted == "cuda":
        raise BadMachine(
            "--device cuda", "expected a GPU that PyTorch can use, found none; leave --device out"
        )
    return bundle, "the CPU (ONNX Runtime)"


class TorchSession:
    """Replacement for a session of ONNX Runtime, with the one method that a bundle calls."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self.device = network.to(device).eval(), device

    def run(
        self, names: Sequence[str], feeds: Mapping[str, NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """The logits of one batch of images."""
        import torch

        with torch.inference_mode():
            logits = self.network(torch.from_numpy(feeds["image"]).to(self.device))[0]
        return [logits.float().cpu().numpy()]


def network_of(bundle: ExportedModel) -> nn.Module:
    """The network of a bundle, or the mean of several. `BadBundle`: this version has no such network."""
    from safetensors.torch import load_file

    from orchestrator.training.validation.test_time_averaging import averaged

    config = bundle.config
    alike = [
        MemberNetwork(network=config.network, network_params=config.network_params, share=1)
    ] * config.members
    members = config.networks or alike
    weights = load_file(bundle.folder / "model.safetensors")
    networks = []
    for number, member in enumerate(members):
        prefix = f"{number}." if len(members) > 1 else ""
        own = {name.removeprefix(prefix): one for name, one in weights.items() if name.startswith(prefix)}
        networks.append(_rebuilt(bundle, member, own))
    return averaged(networks, config.tta, [member.share for member in config.networks] or None)


def _rebuilt(bundle: ExportedModel, member: MemberNetwork, weights: Mapping[str, Any]) -> nn.Module:
    from orchestrator.search.fit_jobs import rebuilt

    try:
        return rebuilt(member.network, member.network_params, dict(weights))
    except (ValueError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise BadBundle(
            str(bundle.folder),
            f"its network is not one of this version: {reason}; use --device cpu to run it anyway",
        ) from error
