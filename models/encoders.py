"""Image encoders from timm, with weights that are random, downloaded, or read from a local file.

timm is imported when an encoder is built: that takes seconds, and most processes only list networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from orchestrator.common.names import hint
from orchestrator.models.blocks import conv_bn
from orchestrator.models.hub import without_waiting
from orchestrator.models.packaged_weights import in_timms_names

PYRAMID = (4, 8, 16, 32)


class Pyramid(nn.Module):
    """An encoder's maps at 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self, name: str, *, pretrained: bool, weights: str | None, **options: Any) -> None:
        super().__init__()
        self.body = timm_encoder(name, pretrained=pretrained, weights=weights, features_only=True, **options)
        reductions, channels = self.body.feature_info.reduction(), self.body.feature_info.channels()
        if not set(PYRAMID) <= set(reductions):
            raise ValueError(f"encoder {name!r} has maps at 1/{reductions}, needed are 1/{list(PYRAMID)}")
        self.picked = [reductions.index(reduction) for reduction in PYRAMID]
        self.channels = [channels[index] for index in self.picked]

    def forward(self, image: Tensor) -> list[Tensor]:
        """image (B, 3, H, W) -> four maps (B, channels[i], H / 4 ... H / 32, W / 4 ... W / 32)"""
        maps = self.body(image)
        return [maps[index] for index in self.picked]


def dilate(stage: nn.Module, dilation: int, *, keep_size: bool = False) -> None:
    """Widen the 3x3 convolutions of a ResNet's stage, in place, all blocks alike; keep_size undoes its stride."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.dilation = module.padding = (dilation, dilation)
        if keep_size and isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
        if keep_size and isinstance(module, nn.AvgPool2d):
            if module.kernel_size == module.stride:  # average pooling before a shortcut's 1x1
                module.kernel_size = 1
            module.stride = 1


class FullResolution(nn.Module):
    """The four stages of a ResNet after a new stem that keeps the size: maps at 1/1, 1/2, 1/4 and 1/8."""

    def __init__(self, name: str, *, pretrained: bool, weights: str | None) -> None:
        super().__init__()
        body = timm_encoder(name, pretrained=pretrained, weights=weights, num_classes=0)
        if not all(hasattr(body, f"layer{stage}") for stage in (1, 2, 3, 4)):
            raise ValueError(f"encoder {name!r} is not a ResNet; use resnet50 or res2net50d")
        stem, *self.channels = (info["num_chs"] for info in body.feature_info)
        self.stem = conv_bn(3, stem)
        self.stages = nn.ModuleList([body.layer1, body.layer2, body.layer3, body.layer4])

    def forward(self, image: Tensor) -> list[Tensor]:
        """image (B, 3, H, W) -> four maps (B, channels[i], H ... H / 8, W ... W / 8)"""
        x = self.stem(image)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def mark_encoder(encoder: nn.Module) -> None:
    """Say that these modules are what a network begins with, trained on other images before or not."""
    for module in encoder.modules():
        module.is_encoder = True  # type: ignore[assignment]


def encoder_parts(network: nn.Module) -> tuple[str, ...]:
    """Names of the modules of a network that are its encoder, such as one from timm; empty where it has none."""
    return tuple(name for name, module in network.named_modules() if getattr(module, "is_encoder", False))


def timm_encoder(name: str, *, pretrained: bool, weights: str | None, **options: Any) -> Any:
    """A network of timm with its ImageNet weights, those of a file (which have priority), or random ones.

    It is marked as an encoder, so that recipes can train it at a rate of its own.
    ValueError: an invalid name or file. ConnectionError: a failed download.
    """
    import timm

    check_name(name)
    if weights is not None:
        encoder = timm.create_model(name, **options)
        load_encoder(encoder, Path(weights), name)
        mark_encoder(encoder)
        return encoder
    if pretrained and not timm.is_model_pretrained(name):  # timm would silently use random weights
        raise ValueError(f"timm has no ImageNet weights for {name!r}; use pretrained = false for random ones")
    with downloading(name):
        encoder = timm.create_model(name, pretrained=pretrained, **options)
    mark_encoder(encoder)
    return encoder


def check_name(name: str) -> None:
    """Raise ValueError for a name that timm does not have, with the nearest one that it has."""
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(name):
        near = hint(architecture, timm.list_models())
        raise ValueError(
            f"timm has no encoder named {name!r}; {near}it has resnet50 and res2net50d, for example"
        )
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        known = f"expected one of {', '.join(tags)}" if tags else "it has none"
        raise ValueError(f"timm has no weights {tag!r} of {architecture!r}; {known}")


@contextmanager
def downloading(name: str) -> Iterator[None]:
    """Context that turns a failed download into a ConnectionError that names the two parameters that help."""
    try:
        with without_waiting():
            yield
    except OSError as error:
        raise ConnectionError(
            f"the ImageNet weights of {name!r} could not be downloaded ({error}); "
            "use pretrained = false for random weights, or weights = PATH for those of a local file"
        ) from error


def load_encoder(encoder: nn.Module, path: Path, name: str | None = None) -> None:
    """Load ImageNet weights in timm's or torchvision's names, or SAM2's; what the file holds besides is ignored.

    name: timm's, for files of packages, which have names of their own.
    """
    state = read_tensors(path)
    if name is not None:
        state = in_timms_names(state, name, path)
    wanted = encoder.state_dict()
    # Without its classifier an encoder joins the first two levels of some names: stages.0 becomes stages_0; or it lies
    # in another module.
    state = {_as_in(wanted, key): value for key, value in state.items()}
    for key in wanted.keys() - state.keys():
        if key.endswith("num_batches_tracked"):  # older files lack this count, which is not used here
            state[key] = wanted[key]
    lacking = [key for key, value in wanted.items() if key not in state or state[key].shape != value.shape]
    if lacking:
        raise ValueError(
            f"weights: {path} lacks {len(lacking)} of {len(wanted)} tensors, or has them in other shapes, "
            f"such as {', '.join(lacking[:3])}; it seems to belong to another encoder"
        )
    encoder.load_state_dict({key: state[key] for key in wanted})


SAM2 = "image_encoder.trunk."  # where the encoder lies in files of SAM2's authors
SAM2_NAMES = {SAM2: "", "mlp.layers.0": "mlp.fc1", "mlp.layers.1": "mlp.fc2"}


def _as_in(wanted: Mapping[str, Tensor], key: str) -> str:
    if key.startswith(SAM2):
        for theirs, timms in SAM2_NAMES.items():
            key = key.replace(theirs, timms)
    ways = (key, key.replace(".", "_", 1), f"model.{key}", f"body.{key}")
    return next((way for way in ways if way in wanted), key)


WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "params")  # of training scripts
DATA_PARALLEL = "module."  # prefix of all names in a network saved with DataParallel


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file, or of a torch file of named tensors, on the CPU; ValueError for other files.

    A torch file may be a training script's checkpoint with tensors under one of WRAPPERS, next to epoch and
    optimizer; and all names may begin with DATA_PARALLEL.
    """
    expected = "expected .safetensors, or a torch file of named tensors, alone or under one of " + ", ".join(
        WRAPPERS
    )
    if not path.is_file():
        raise ValueError(f"weights: no file at {path}; {expected}")
    try:
        state = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except (SafetensorError, UnpicklingError) as error:
        raise ValueError(f"weights: {path} cannot be read; {expected}") from error
    if isinstance(state, dict) and not _are_tensors(state):
        held = [name for name in WRAPPERS if _are_tensors(state.get(name))]
        state = state[held[0]] if len(held) == 1 else state
    if not _are_tensors(state):
        keys = f": {', '.join(map(str, state))[:200]}" if isinstance(state, dict) else ""
        raise ValueError(f"weights: {path} has other content{keys}; {expected}")
    if all(name.startswith(DATA_PARALLEL) for name in state):
        state = {name.removeprefix(DATA_PARALLEL): value for name, value in state.items()}
    return state


def _are_tensors(state: object) -> bool:
    return (
        isinstance(state, dict) and bool(state) and all(isinstance(value, Tensor) for value in state.values())
    )
