"""The number format of a fit, chosen for its device."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from orchestrator.common.errors import BadMachine


class Precision:
    """Autocast and loss scaling for a device: Volta has no bf16, and only fp16 needs a scaler."""

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "auto":
            native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            name = "fp32" if device.type == "cpu" else "bf16" if native else "fp16"
        if name == "fp16" and device.type == "cpu":
            raise BadMachine(
                "precision", "fp16 needs a GPU; on a CPU use precision = 'auto', 'fp32' or 'bf16'"
            )
        self.device_type = device.type
        self.dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    @property
    def on_tensor_cores(self) -> bool:
        """Whether convolutions use tensor cores: in half precision on GPUs that have them, in float32 since Ampere.

        They prefer channels last, and so does BatchNorm: half the time per step (tests/benchmarks/channels_last.py).
        """
        if self.device_type != "cuda":
            return False
        return self.dtype is not None or torch.cuda.get_device_capability() >= (8, 0)

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.dtype is not None)
