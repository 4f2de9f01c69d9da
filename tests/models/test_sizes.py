"""Sizes that are published, or were counted in published code, met exactly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orchestrator import models
from orchestrator.models.cost import on_meta, size


def num_learnable(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def num_statistics(network: nn.Module) -> int:
    """Running means and variances: Keras counts them among the parameters of a network."""
    running = ("running_mean", "running_var")
    return sum(buffer.numel() for name, buffer in network.named_buffers() if name.endswith(running))


@pytest.mark.parametrize(("base_channels", "learnable"), [(64, 31_037_633), (32, 7_763_041)])
def test_unet_has_the_published_size(base_channels, learnable):
    with torch.device("meta"):
        assert num_learnable(models.build("unet", base_channels=base_channels)) == learnable


@pytest.mark.parametrize(
    ("name", "params", "learnable", "in_keras"),
    [
        ("resunet", {}, 8_223_809, 8_233_025),
        ("resunet_mod", {}, 8_223_809, 8_233_025),
        ("resunet", {"variant": "code"}, 1_048_953, 1_054_849),
        ("resunet_pp", {}, 4_062_993, 4_070_385),
        ("resunet_pp", {"base_channels": 32}, 16_228_001, 16_242_785),
        ("resunet_pp", {"pyramid": "five"}, 4_363_329, 4_371_265),
        ("resunet_pp_sepconv", {}, 3_039_329, 3_047_265),
        ("resunet_pp_daspp", {}, 5_017_313, 5_024_705),
        ("resunet_pp_daspp_relu", {}, 5_017_313, 5_024_705),
        ("unet_mediaeval", {}, 3_585_027, 3_588_997),
        ("unet_pp", {"deep_supervision": False}, 9_042_177, 9_042_177),
        ("msrf_net", {"variant": "code"}, 18_592_397, 18_595_607),
        ("msrf_net", {"variant": "script"}, 24_594_070, 24_597_278),
        ("msrf_net", {}, 20_406_789, 20_410_111),
    ],
)
def test_networks_of_keras_have_the_sizes_that_it_counts(name, params, learnable, in_keras):
    with torch.device("meta"):
        network = models.build(name, **params)
    assert num_learnable(network) == learnable
    assert learnable + num_statistics(network) == in_keras


def test_what_resunets_paper_prints_is_the_weight_of_its_conv3_alone():
    with torch.device("meta"):
        network = models.build("resunet")
    kernels = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert sum(kernel.numel() for kernel in kernels if kernel.shape[-1] == 3) == 7_780_032


@pytest.mark.parametrize(
    ("name", "params", "learnable"),
    [
        ("attention_unet", {}, 8_024_645),
        ("attention_unet", {"variant": "code"}, 7_851_773),
        ("unet_pp", {}, 9_042_276),
        ("unet_pp", {"variant": "port"}, 9_163_428),
        ("unet_pp", {"variant": "port", "deep_supervision": False}, 9_163_329),
        ("deeplabv3p_mobilenet", {"pretrained": False}, 4_378_513),
        ("deeplabv3p_xception", {"pretrained": False}, 41_036_865),
        ("deeplabv3p_xception", {"pretrained": False, "encoder": "xception71"}, 43_459_289),
        ("hrnet_w18_small_v2", {"pretrained": False}, 3_934_701),
        ("hrnet_w48", {"pretrained": False}, 65_846_401),
    ],
)
def test_a_network_has_the_size_that_was_counted_in_published_code(name, params, learnable):
    with torch.device("meta"):
        assert num_learnable(models.build(name, **params)) == learnable


def test_colonsegnet_has_the_published_size():
    with torch.device("meta"):
        assert num_learnable(models.build("colonsegnet")) == 5_014_049


def test_gmsrf_net_as_the_authors_wired_it_has_the_size_that_their_forward_pass_reaches():
    with torch.device("meta"):
        assert num_learnable(on_meta("gmsrf_net", variant="code")) == 47_043_853


def test_gmsrf_net_of_the_paper_is_resnet50_and_two_modules_of_the_same_size():
    with torch.device("meta"):
        network = on_meta("gmsrf_net")
    assert num_learnable(network.encoder) == 23_508_032
    assert [num_learnable(module) for module in network.exchanges] == [5_431_680] * 2
    assert num_learnable(network) == 46_909_444


def test_a_larger_growth_rate_is_a_larger_network():
    with torch.device("meta"):
        sizes = [
            num_learnable(on_meta("gmsrf_net", growth_rate=k, encoder="test_resnet")) for k in (8, 16, 32)
        ]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("name", "params", "printed"),
    [
        ("polyp_pvt", {}, 25_110_000),
        ("emcad", {}, 26_760_000),
        ("emcad", {"encoder": "b0"}, 3_920_000),
    ],
)
def test_networks_on_pvt_have_the_printed_size(name, params, printed):
    with torch.device("meta"):
        assert num_learnable(models.build(name, **params, pretrained=False)) == pytest.approx(
            printed, rel=1e-3
        )


@pytest.mark.slow
def test_sam2_unet_has_the_printed_size_of_its_encoder_and_trains_a_fiftieth_of_it():
    network = on_meta("sam2_unet")
    assert num_learnable(network.encoder) == pytest.approx(214e6, rel=1e-2)
    assert (size(network).learnable, size(network).trained) == (216_419_043, 4_269_747)


@pytest.mark.parametrize(
    ("encoder", "adaptation", "trained"),
    [
        ("vit_small_patch14_dinov2", "frozen", 1_195_841),
        ("vit_small_patch14_dinov2", "lora", 1_417_025),
        ("vit_small_patch14_dinov2", "full", 23_252_033),
        ("vit_small_patch16_dinov3", "lora", 1_417_025),
    ],
)
def test_of_a_dino_transformer_the_decoder_and_what_is_adapted_is_trained(encoder, adaptation, trained):
    assert size(on_meta("dino_decoder", encoder=encoder, adaptation=adaptation)).trained == trained


@pytest.mark.parametrize(
    ("name", "params", "learnable"),
    [
        ("pranet", {}, 30_498_319),
        ("pranet", {"parts": "BR"}, 29_360_879),
        ("pranet", {"parts": "BP"}, 24_808_841),
        ("uacanet_s", {}, 24_855_874),
        ("uacanet_s", {"variant": "code"}, 24_855_874),
        ("uacanet_l", {}, 67_108_994),
        ("uacanet_l", {"variant": "code"}, 67_108_994),
    ],
)
def test_networks_on_res2net_have_the_authors_size_less_the_classifier(name, params, learnable):
    with torch.device("meta"):
        assert num_learnable(models.build(name, **params, pretrained=False)) == learnable
