"""The authors' checkpoints, of which this project has none: their names and shapes are spelled out here.

The digests of names and shapes, and the logits, were recorded from the authors' code at DengPingFan/PraNet 5393c5a,
plemeri/UACANet 5d54ecf and DebeshJha/ColonSegNet 7ee0d70, with the numbers that `wave` gives, in float64.
For PraNet and UACANet that code was typed off and condensed, and run outside this project.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from waves import wave, wave_image

from orchestrator import models
from orchestrator.models.published_weights import publish

Shapes = dict[str, tuple[int, ...]]

DIGESTS = {
    "colonsegnet": (208, "3888a6ec4b9d2e0a"),
    "pranet": (922, "c7d209763dedb783"),
    "uacanet_s": (1379, "bc0ba0508394abd3"),
    "uacanet_l": (1379, "dae5f84ed56fd7ac"),
}
# Of each map, from the first guess to the prediction: the mean, and the logit at row 21 and column 32.
LOGITS = {
    "colonsegnet": [(0.877849944, 0.783570094)],
    "pranet": [
        (0.289143039, 0.285533056),
        (1.17985019, 1.14901063),
        (1.13651047, 1.11835412),
        (1.27327288, 1.25019805),
    ],
    "uacanet_s": [
        (1.2140432, 1.09411023),
        (2.47095364, 2.4655336),
        (2.41240409, 2.43465381),
        (2.41315332, 2.44559867),
    ],
}
GAIN = {
    "colonsegnet": 8.0,
    "pranet": 4.0,
    "uacanet_s": 1.0,
}  # puts logits where a sigmoid still tells them apart


def unit(name: str, in_channels: int, channels: int, height: int = 1, width: int | None = None) -> Shapes:
    """A convolution and its BatchNorm, as both repositories name them."""
    shapes: Shapes = {f"{name}.conv.weight": (channels, in_channels, height, width or height)}
    for part in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"{name}.bn.{part}"] = (channels,)
    return shapes | {f"{name}.bn.num_batches_tracked": ()}


def res2net() -> Shapes:
    with torch.device("meta"):
        encoder = timm.create_model("res2net50d")
    return {f"resnet.{key}": tuple(value.shape) for key, value in encoder.state_dict().items()}


def pranet() -> Shapes:
    shapes = res2net()
    for level, deep in ((2, 512), (3, 1024), (4, 2048)):
        name = f"rfb{level}_1"
        shapes |= unit(f"{name}.branch0.0", deep, 32)
        for branch, reach in ((1, 3), (2, 5), (3, 7)):
            kernels = [(1, 1), (1, reach), (reach, 1), (3, 3)]
            for step, kernel in enumerate(kernels):
                shapes |= unit(f"{name}.branch{branch}.{step}", 32 if step else deep, 32, *kernel)
        shapes |= unit(f"{name}.conv_cat", 128, 32, 3) | unit(f"{name}.conv_res", deep, 32)
        wide, kernel, num = (256, 5, 5) if level == 4 else (64, 3, 4)
        shapes |= unit(f"ra{level}_conv1", deep, wide)
        for step in range(2, num):
            shapes |= unit(f"ra{level}_conv{step}", wide, wide, kernel)
        shapes |= unit(f"ra{level}_conv{num}", wide, 1, 1 if level == 4 else 3)
    for step in (1, 2, 3, 4):
        shapes |= unit(f"agg1.conv_upsample{step}", 32, 32, 3)
    for name, wide in (("conv_upsample5", 64), ("conv_concat2", 64), ("conv_concat3", 96), ("conv4", 96)):
        shapes |= unit(f"agg1.{name}", wide, wide, 3)
    return shapes | {"agg1.conv5.weight": (1, 96, 1, 1), "agg1.conv5.bias": (1,)}


def attention(name: str, channels: int) -> Shapes:
    shapes: Shapes = {}
    for axis in ("Hattn", "Wattn"):
        shapes |= {f"{name}.{axis}.gamma": (1,)}
        for part, to in (("query", channels // 8), ("key", channels // 8), ("value", channels)):
            shapes |= unit(f"{name}.{axis}.{part}_conv", channels, to)
    return shapes


def uacanet(c: int) -> Shapes:
    shapes = res2net() | attention("decoder", c) | unit("decoder.conv1", 3 * c, c, 3)
    for step in (2, 3, 4):
        shapes |= unit(f"decoder.conv{step}", c, c, 3)
    shapes |= {"decoder.conv5.conv.weight": (1, c, 3, 3)}
    for level, deep in ((2, 512), (3, 1024), (4, 2048)):
        name = f"context{level}"
        shapes |= unit(f"{name}.branch0", deep, c)
        for branch, reach in ((1, 3), (2, 5), (3, 7)):
            for step, kernel in enumerate([(1, 1), (1, reach), (reach, 1), (3, 3)]):
                shapes |= unit(f"{name}.branch{branch}.conv{step}", c if step else deep, c, *kernel)
            shapes |= attention(f"{name}.branch{branch}", c)
        shapes |= unit(f"{name}.conv_cat", 4 * c, c, 3) | unit(f"{name}.conv_res", deep, c)
        name = f"attention{level}"
        for part, kernel in (("query", 3), ("key", 1), ("value", 1)):
            shapes |= unit(f"{name}.conv_{part}.0", 2 * c, c, kernel)
            shapes |= unit(f"{name}.conv_{part}.1", c, c, kernel)
        shapes |= unit(f"{name}.conv_out1", c, c, 3) | unit(f"{name}.conv_out2", 3 * c, c, 3)
        shapes |= unit(f"{name}.conv_out3", c, c, 3) | unit(f"{name}.conv_out4", c, 1)
    return shapes


def normalized(conv: str, norm: str, in_channels: int, channels: int, kernel: int = 3) -> Shapes:
    """A convolution with bias and its BatchNorm, as ColonSegNet's repository names them."""
    shapes: Shapes = {f"{conv}.weight": (channels, in_channels, kernel, kernel), f"{conv}.bias": (channels,)}
    for part in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"{norm}.{part}"] = (channels,)
    return shapes | {f"{norm}.num_batches_tracked": ()}


def colonsegnet() -> Shapes:
    shapes: Shapes = {}
    residuals = {"r1": (192, 128), "r2": (256, 128), "r3": (128, 64), "r4": (96, 32)}
    for name, i, o in (("e1", 3, 64), ("e2", 64, 256)):
        residuals |= {f"{name}.residual_block1": (i, o), f"{name}.residual_block2": (o, o)}
        shapes |= normalized(f"{name}.strided_conv.conv", f"{name}.strided_conv.bn", o, o)
    for name, (i, o) in residuals.items():
        for number, deep, kernel in ((1, i, 3), (2, o, 3), (3, i, 1)):
            shapes |= normalized(f"{name}.conv{number}", f"{name}.bn{number}", deep, o, kernel)
        shapes |= {f"{name}.se.fc.0.weight": (o // 16, o), f"{name}.se.fc.2.weight": (o, o // 16)}
    for name, i, o in (("t1", 256, 128), ("t2", 256, 128), ("t3", 128, 64), ("t4", 64, 32)):
        shapes |= {f"{name}.weight": (i, o, 4, 4), f"{name}.bias": (o,)}
    return shapes | {"output.weight": (1, 32, 1, 1), "output.bias": (1,)}


SHAPES = {
    "colonsegnet": colonsegnet,
    "pranet": pranet,
    "uacanet_s": lambda: uacanet(32),
    "uacanet_l": lambda: uacanet(256),
}


def digest(shapes: Shapes) -> str:
    lines = "\n".join(f"{key} {tuple(shape)}" for key, shape in sorted(shapes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def empty(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors of these shapes that need no room."""
    return {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "published.pth"


@pytest.mark.parametrize("name", DIGESTS)
def test_the_lists_of_this_file_are_those_of_the_authors_code(name):
    shapes = SHAPES[name]()
    assert (len(shapes), digest(shapes)) == DIGESTS[name]


@pytest.mark.parametrize("name", SHAPES)
def test_a_published_file_loads_tensor_for_tensor_without_its_classifier(name, path):
    state = empty(SHAPES[name]())
    torch.save(state, path)
    network = models.load_published(name, path)
    assert not network.training
    assert not any(parameter.any() for parameter in network.parameters())
    assert len(network.state_dict()) == len([key for key in state if not key.startswith("resnet.fc.")])


@pytest.mark.parametrize("name", LOGITS)
def test_published_weights_give_the_logits_that_the_authors_code_gives(name, path):
    torch.save({key: wave(key, shape, GAIN[name]) for key, shape in SHAPES[name]().items()}, path)
    with torch.no_grad():
        outputs = models.load_published(name, path).double()(wave_image())
    found = [(logits.mean().item(), logits[0, 0, 21, 32].item()) for logits in reversed(outputs)]
    for pair, expected in zip(found, LOGITS[name], strict=True):
        assert pair == pytest.approx(expected, rel=1e-5)


def test_every_difference_to_the_published_tensors_is_named(path):
    state = empty(pranet())
    state["rfb2_1.conv_res.conv.weight"] = torch.zeros(32, 512, 3, 3)
    state["agg1.conv5.bias"] = torch.zeros(2)
    state["agg1.conv6.bias"] = state.pop("agg1.conv_upsample1.bn.bias")
    state["ra4_conv6.conv.weight"] = state.pop("ra4_conv5.conv.weight")
    torch.save(state, path)
    with pytest.raises(ValueError, match="pranet as published in DengPingFan/PraNet") as caught:
        models.load_published("pranet", path)
    message = str(caught.value)
    assert "2 missing: agg1.conv_upsample1.bn.bias, ra4_conv5.conv.weight;" in message
    assert "2 not known: agg1.conv6.bias, ra4_conv6.conv.weight;" in message
    assert "2 of another shape: " in message
    assert "agg1.conv5.bias (2,) instead of (1,)" in message
    assert "rfb2_1.conv_res.conv.weight (32, 512, 3, 3) instead of (32, 512, 1, 1)" in message


def test_a_file_of_another_network_is_refused_in_one_line(path):
    torch.save({"encoder1.enc1conv1.weight": torch.zeros(32, 3, 3, 3)}, path)
    with pytest.raises(
        ValueError, match=r"none of the 920 tensors, but 1 others, such as encoder1\.enc1conv1"
    ):
        models.load_published("pranet", path)


def test_the_larger_uacanets_file_is_refused_by_the_smaller(path):
    torch.save(empty(uacanet(256)), path)
    with pytest.raises(
        ValueError, match=r"of another shape: .*decoder\.conv2\.conv\.weight \(256, 256, 3, 3\)"
    ):
        models.load_published("uacanet_s", path)


def test_a_published_file_may_be_safetensors(tmp_path):
    state = {key: value.clone() for key, value in empty(pranet()).items()}
    save_file(state, tmp_path / "published.safetensors")
    assert not models.load_published(
        "pranet", tmp_path / "published.safetensors"
    ).encoder.body.bn1.weight.any()


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
def test_a_checkpoint_of_a_training_script_is_read_as_data_parallel_wrote_it(path, wrapper):
    state = {f"module.{key}": value.clone() for key, value in empty(pranet()).items()}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3, "optimizer": {"lr": 0.1}}, path)
    assert not models.load_published("pranet", path).encoder.body.bn1.weight.any()


def test_a_checkpoint_without_named_tensors_is_refused_with_what_it_holds(path):
    torch.save({"epoch": 3, "loss": 0.5}, path)
    with pytest.raises(
        ValueError, match=r"has other content: epoch, loss; expected .* under one of state_dict"
    ):
        models.load_published("pranet", path)


def test_a_file_with_code_in_it_is_not_run(path):
    torch.save({"model": torch.nn.Linear(1, 1)}, path)
    with pytest.raises(ValueError, match="cannot be read"):
        models.load_published("pranet", path)


def test_a_network_without_published_weights_is_refused_with_those_that_have_some():
    with pytest.raises(ValueError, match=r"of 'gmsrf_net'; known: .*pranet, uacanet_l, uacanet_s"):
        models.load_published("gmsrf_net", "any.pth")


def test_weights_of_a_network_are_published_once():
    with pytest.raises(ValueError, match="two publications of 'pranet'"):
        publish("pranet", source="x/y", names={})
