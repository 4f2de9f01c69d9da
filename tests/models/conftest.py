from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from orchestrator import models

GMSRF_NET: dict[str, Any] = {
    "growth_rate": 4,
    "num_modules": 1,
    "width": 8,
    "encoder": "test_resnet",
    "pretrained": False,
}
PRANET: dict[str, Any] = {"width": 8, "encoder": "test_resnet", "pretrained": False}
ENCODER_DECODER: dict[str, Any] = {"encoder": "test_resnet", "width": 64, "pretrained": False}
DINO: dict[str, Any] = {"encoder": "test_vit", "width": 16, "pretrained": False}
ON_RESNET: dict[str, Any] = {"encoder": "test_resnet", "pretrained": False}
HRNET: dict[str, Any] = {"encoder": "hrnet_w18_small", "pretrained": False}

# Every network, small enough for a CPU; one with switches stands here once for each way it can be wired.
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "attention_unet": ("attention_unet", {"base_channels": 8}),
    "attention_unet-code": ("attention_unet", {"base_channels": 8, "variant": "code"}),
    "colonsegnet": ("colonsegnet", {"base_channels": 8}),
    "deeplabv3p_mobilenet": ("deeplabv3p_mobilenet", {"width": 16, "pretrained": False}),
    "deeplabv3p_xception": (
        "deeplabv3p_xception",
        {"encoder": "test_resnet", "width": 16, "pretrained": False},
    ),
    "encoder_decoder": ("encoder_decoder", ENCODER_DECODER),
    "encoder_decoder-deeplabv3plus": ("encoder_decoder", {**ENCODER_DECODER, "decoder": "deeplabv3plus"}),
    "encoder_decoder-fpn": ("encoder_decoder", {**ENCODER_DECODER, "decoder": "fpn"}),
    "encoder_decoder-manet": ("encoder_decoder", {**ENCODER_DECODER, "decoder": "manet"}),
    "encoder_decoder-segformer": ("encoder_decoder", {**ENCODER_DECODER, "decoder": "segformer"}),
    "encoder_decoder-upernet": ("encoder_decoder", {**ENCODER_DECODER, "decoder": "upernet"}),
    "dino_decoder": ("dino_decoder", DINO),
    "dino_decoder-full": ("dino_decoder", {**DINO, "adaptation": "full"}),
    "dino_decoder-lora": ("dino_decoder", {**DINO, "adaptation": "lora"}),
    "emcad": ("emcad", ON_RESNET),
    "gmsrf_net": ("gmsrf_net", GMSRF_NET),
    "gmsrf_net-code": ("gmsrf_net", {**GMSRF_NET, "variant": "code"}),
    "hrnet_w18_small_v2": ("hrnet_w18_small_v2", HRNET),
    "hrnet_w48": ("hrnet_w48", HRNET),
    "msrf_net": ("msrf_net", {"base_channels": 8, "growth_rate": 4}),
    "msrf_net-code": ("msrf_net", {"base_channels": 8, "growth_rate": 4, "variant": "code"}),
    "msrf_net-script": ("msrf_net", {"base_channels": 8, "growth_rate": 4, "variant": "script"}),
    "nnunet_resenc": ("nnunet_resenc", {"width": 4}),
    "nnunet_resenc-L": ("nnunet_resenc", {"width": 4, "size": "L"}),
    "polyp_pvt": ("polyp_pvt", {"width": 8, **ON_RESNET}),
    "pranet": ("pranet", PRANET),
    "pranet-decoder-only": ("pranet", {**PRANET, "parts": "BP"}),
    "pranet-reverse-only": ("pranet", {**PRANET, "parts": "BR"}),
    "resunet": ("resunet", {"base_channels": 8}),
    "resunet-code": ("resunet", {"base_channels": 4, "variant": "code"}),
    "resunet_mod": ("resunet_mod", {"base_channels": 4}),
    "resunet_pp": ("resunet_pp", {"base_channels": 8}),
    "resunet_pp-five": ("resunet_pp", {"base_channels": 8, "pyramid": "five"}),
    "resunet_pp_daspp": ("resunet_pp_daspp", {"base_channels": 8}),
    "resunet_pp_daspp_relu": ("resunet_pp_daspp_relu", {"base_channels": 8}),
    "resunet_pp_sepconv": ("resunet_pp_sepconv", {"base_channels": 8}),
    "sam2_unet": ("sam2_unet", {"encoder": "test_hieradet", "width": 8, "pretrained": False}),
    "uacanet_l": ("uacanet_l", PRANET),
    "uacanet_s": ("uacanet_s", PRANET),
    "uacanet_s-code": ("uacanet_s", {**PRANET, "variant": "code"}),
    "unet": ("unet", {"base_channels": 8}),
    "unet_mediaeval": ("unet_mediaeval", {"base_channels": 8}),
    "unet_pp": ("unet_pp", {"base_channels": 8, "dropout": 0.1}),
    "unet_pp-port": ("unet_pp", {"base_channels": 8, "variant": "port", "deep_supervision": False}),
}

# Wirings that one image trains, of networks that ask for two for the sake of their others.
ALONE = {"encoder_decoder", "encoder_decoder-fpn", "encoder_decoder-manet", "encoder_decoder-segformer"}
# Small, the same network as another one; or deep: a step takes ten times that of others.
SLOW = {
    "hrnet_w48",
    "msrf_net-script",
    "nnunet_resenc",
    "nnunet_resenc-L",
    "resunet_pp_daspp",
    "uacanet_l",
}

# To learn four images takes seconds each: the others are slow. That gradients are finite is tested for all.
QUICK_TO_LEARN = {"unet", "resunet_pp", "pranet", "encoder_decoder", "deeplabv3p_mobilenet"}
LEARNING = re.compile(r"test_four_blobs_are_learned_by_heart\[(.+)\]")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (learning := LEARNING.fullmatch(item.name)) and learning[1] not in QUICK_TO_LEARN:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def small_hiera() -> None:
    """A small encoder of SAM2's kind in timm's registry, `test_hieradet`."""
    from timm.models import build_model_with_cfg, register_model
    from timm.models.hieradet_sam2 import HieraDet

    def test_hieradet(pretrained: bool = False, **options: Any) -> nn.Module:
        small = {
            "embed_dim": 16,
            "stages": (1, 1, 2, 1),
            "global_att_blocks": (3,),
            "window_spec": (8, 4, 4, 2),
        }
        features = {"out_indices": options.pop("out_indices", 4), "feature_cls": "getter"}
        return build_model_with_cfg(
            HieraDet, "test_hieradet", pretrained, feature_cfg=features, **small | options
        )

    register_model(test_hieradet)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Layers this small lose more by waiting for a second thread than they gain."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def small_variants() -> set[str]:
    """The registered names that have a small variant."""
    return {name for name, _ in SMALL.values()}


@pytest.fixture
def registered(request: pytest.FixtureRequest, small: nn.Module) -> str:
    """The name under which the network of `small` is registered."""
    return SMALL[request.node.callspec.params["small"]][0]


@pytest.fixture
def alone(request: pytest.FixtureRequest) -> bool:
    """Whether one image trains the wiring of `small`, though its network asks for more."""
    return request.node.callspec.params["small"] in ALONE


@pytest.fixture(params=[pytest.param(key, marks=pytest.mark.slow if key in SLOW else ()) for key in SMALL])
def small(request: pytest.FixtureRequest) -> nn.Module:
    """A new small network, in training mode, with the same weights every time."""
    torch.manual_seed(0)
    name, params = SMALL[request.param]
    return models.build(name, **params)
