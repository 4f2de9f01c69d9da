from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from orchestrator import models
from orchestrator.models.gmsrf_net import Chains, CrossScaleAttention, Exchange

SMALL: dict[str, Any] = {"growth_rate": 4, "num_modules": 1, "width": 8}


def small(**params: Any) -> nn.Module:
    return models.build("gmsrf_net", **{**SMALL, "encoder": "test_resnet", "pretrained": False, **params})


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """A whole classifier, as its weights are published."""
    return timm.create_model("test_resnet")


def relus_after_norm(network: nn.Module) -> int:
    """ReLUs after a BatchNorm, outside the encoder."""
    pairs = (
        pair
        for name, module in network.named_modules()
        if isinstance(module, nn.Sequential) and not name.startswith("encoder")
        for pair in zip(module, [*module][1:], strict=False)
    )
    return sum(isinstance(a, nn.BatchNorm2d) and isinstance(b, nn.ReLU) for a, b in pairs)


def test_the_paper_looks_from_a_quarter_on_and_the_code_at_full_resolution():
    image = torch.rand(1, 3, 64, 64)
    paper, code = small().encoder(image), small(variant="code").encoder(image)
    assert [x.shape[-1] for x in paper] == [16, 8, 4, 2]
    assert [x.shape[-1] for x in code] == [64, 32, 16, 8]


def test_code_variant_takes_multiples_of_eight():
    outputs = small(variant="code").eval()(torch.rand(1, 3, 40, 24))
    assert {tuple(output.shape) for output in outputs} == {(1, 1, 40, 24)}


def test_relu_stands_behind_batchnorm_only_where_asked_for():
    assert relus_after_norm(small()) == 0
    assert relus_after_norm(small(relu=True)) > 10


def test_relu_variant_gives_every_parameter_a_finite_gradient():
    network = small(relu=True)
    sum(output.square().mean() for output in network(torch.rand(2, 3, 64, 64))).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_every_scale_hears_from_the_three_others():
    growth = [4, 4, 8, 8]
    newest = [torch.rand(2, k, 32 // 2**i, 32 // 2**i) for i, k in enumerate(growth)]
    heard = Exchange(growth, 6)(newest)
    assert [tuple(x.shape) for x in heard] == [(2, 18, 32, 32), (2, 18, 16, 16), (2, 18, 8, 8), (2, 18, 4, 4)]


@pytest.mark.parametrize("finer", [False, True])
def test_grouped_chains_are_the_chains_one_by_one(finer):
    chains = Chains(4, 6, 3, finer=finer)
    x = torch.rand(1, 4, 16, 16)
    convolve = nn.functional.conv_transpose2d if finer else nn.functional.conv2d
    for target, arrived in enumerate(chains(x)):
        alone = x
        for number in range(target + 1):
            at = 6 * (target - number)
            weight = chains.steps[number].weight
            if not finer:
                weight = weight[at : at + 6]
            elif number == 0:
                weight = weight[:, at : at + 6]
            else:
                weight = weight[at : at + 6]
            alone = convolve(alone, weight, stride=2, padding=1).relu()
        torch.testing.assert_close(arrived, alone)


def written_out(module: nn.Module, scales: list[torch.Tensor]) -> list[torch.Tensor]:
    """A GMSRF module as its text says it: every fusion from scratch, nothing overwritten."""
    known = [[x, conv(x)] for conv, x in zip(module.first, scales, strict=True)]
    for layer in module.layers:
        heard = layer.exchange([maps[-1] for maps in known])
        for fuse, maps, others in zip(layer.fuse, known, heard, strict=True):
            mixed = fuse.mix[1](fuse.mix[0](torch.cat([*maps, others], dim=1)))
            mixed = fuse.select(mixed * (1 + fuse.attention.look(others)))
            maps.append(fuse.conv[1](fuse.conv[0](mixed)))
    return [x + maps[-1] for x, maps in zip(scales, known, strict=True)]


@pytest.mark.parametrize("training", [False, True])
def test_what_is_overwritten_was_not_needed_any_more(training):
    torch.manual_seed(0)
    module = small().exchanges[0].double().train(training)
    scales = [torch.rand(2, 8 * 2**i, 32 // 2**i, 32 // 2**i, dtype=torch.double) for i in range(4)]
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias)
            layer.momentum = 0.0  # so that both runs see the same statistics
            nn.init.uniform_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    expected = written_out(module, scales)
    kept = [x.clone() for x in scales]
    with torch.inference_mode():
        alone = module(scales)
    torch.testing.assert_close(alone, expected)
    torch.testing.assert_close(module(scales), expected)
    assert all(torch.equal(x, before) for x, before in zip(scales, kept, strict=True))


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_an_output_is_the_same_with_and_without_gradients(variant):
    network = small(variant=variant).eval()
    image = torch.rand(2, 3, 64, 64)
    expected = [output.detach() for output in network(image)]
    with torch.inference_mode():
        torch.testing.assert_close(list(network(image)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_encoder_weights_are_read_from_a_classifiers_file(tmp_path, resnet, variant, suffix):
    path = tmp_path / f"resnet{suffix}"
    if suffix == ".pth":
        torch.save(resnet.state_dict(), path)
    else:
        save_file(resnet.state_dict(), path)
    encoder = small(variant=variant, weights=str(path)).encoder
    stage4 = encoder.body.layer4 if variant == "paper" else encoder.stages[3]
    assert torch.equal(stage4[0].conv1.weight, resnet.layer4[0].conv1.weight)


def test_weights_of_another_encoder_are_refused(tmp_path, resnet):
    save_file(resnet.state_dict(), tmp_path / "resnet.safetensors")
    with pytest.raises(ValueError, match=r"lacks \d+ of \d+ tensors.*such as .*another encoder"):
        small(encoder="resnet18", weights=str(tmp_path / "resnet.safetensors"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_holds_no_tensors_is_refused(tmp_path: Path, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"cannot be read; expected \.safetensors"):
        small(weights=str(path))


def test_a_missing_weights_file_is_refused():
    with pytest.raises(ValueError, match=r"weights: no file at nowhere\.pth"):
        small(weights="nowhere.pth")


@pytest.mark.slow
def test_without_a_connection_pretrained_names_the_parameters_that_help(tmp_path):
    code = "from orchestrator import models; models.build('gmsrf_net', encoder='resnet18', pretrained=True)"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=False
    )
    assert "ConnectionError" in done.stderr
    assert "pretrained = false" in done.stderr
    assert "weights = PATH" in done.stderr


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"growth_rate": 0}, "growth_rate must be a positive integer, got 0"),
        ({"width": 12}, "width must be a positive multiple of 8, got 12"),
        ({"variant": "text"}, "variant must be 'paper' or 'code', got 'text'"),
        ({"encoder": "resnet5000"}, "no encoder named 'resnet5000'"),
        ({"encoder": "vit_tiny_patch16_224"}, "has maps at 1/.*needed are"),
        ({"encoder": "mobilenetv3_small_050", "variant": "code"}, "is not a ResNet"),
        ({"encoder": "resnet200", "pretrained": True}, "no ImageNet weights for 'resnet200'"),
    ],
)
def test_a_value_that_cannot_be_built_is_refused(params, message):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        small(**params)


def test_attention_is_one_convolution_that_trains_both_it_is_made_of():
    others = torch.rand(2, 12, 16, 16, dtype=torch.double)
    attention = CrossScaleAttention(12, 4).double()
    expected = torch.autograd.grad((1 + attention.look(others)).square().sum(), attention.parameters())
    found = torch.autograd.grad(attention(others).square().sum(), attention.parameters())
    torch.testing.assert_close(found, expected)
