"""The text of a search space whose fits take seconds: a U-Net of 4 channels at 32 pixels, one searched parameter."""

from __future__ import annotations


def tiny_space(epochs: int = 2, batch_size: int = 8) -> str:
    return f"""
network = "unet"
[search]
learning_rate = {{ log_uniform = [1e-3, 1e-2] }}
[fixed]
base_channels = 4
image_size = 32
epochs = {epochs}
batch_size = {batch_size}
[baseline]
learning_rate = 5e-3
"""
