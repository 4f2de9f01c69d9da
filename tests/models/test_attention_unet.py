"""The brain-MRI network's checkpoint, of which this project has none, is spelled out by names and shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from waves import wave

from orchestrator import models

Shapes = dict[str, tuple[int, ...]]


def brain_mri() -> Shapes:
    """Names and shapes as mateuszbuda/brain-segmentation-pytorch has them, 3 channels in, 32 features."""
    shapes: Shapes = {}
    widths = [32, 64, 128, 256]
    blocks = [
        (f"encoder{n}.enc{n}", i, o) for n, (i, o) in enumerate(zip([3, *widths], widths, strict=False), 1)
    ]
    blocks += [("bottleneck.bottleneck", 256, 512)]
    blocks += [(f"decoder{n}.dec{n}", 2 * width, width) for n, width in enumerate(widths, 1)]
    for name, i, o in blocks:
        for number, into in ((1, i), (2, o)):
            shapes[f"{name}conv{number}.weight"] = (o, into, 3, 3)
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{name}norm{number}.{part}"] = (o,)
            shapes[f"{name}norm{number}.num_batches_tracked"] = ()
    for n, width in enumerate(widths, 1):
        shapes |= {f"upconv{n}.weight": (2 * width, width, 2, 2), f"upconv{n}.bias": (width,)}
    return shapes | {"conv.weight": (1, 32, 1, 1), "conv.bias": (1,)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    state = {key: wave(key, shape, 2.0) for key, shape in brain_mri().items()}
    path = tmp_path_factory.mktemp("brain") / "unet.pt"
    torch.save(state, path)
    return path, state


def test_the_published_file_has_118_tensors_and_fills_the_u_net(checkpoint):
    path, state = checkpoint
    network = models.load_published("unet", path)
    assert len(state) == 118 == len(network.state_dict())
    found = network.state_dict()
    assert torch.equal(found["encoder.4.1.0.weight"], state["bottleneck.bottleneckconv2.weight"])
    assert torch.equal(found["decoder.0.convs.0.1.running_var"], state["decoder4.dec4norm1.running_var"])
    assert torch.equal(found["decoder.3.up.weight"], state["upconv1.weight"])
    assert torch.equal(found["head.bias"], state["conv.bias"])


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_the_published_file_fills_all_but_the_gates(checkpoint, variant):
    path, _ = checkpoint
    network = models.build("attention_unet", weights=str(path), variant=variant)
    expected = models.load_published("unet", path).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in network.unet.state_dict().items())
    assert network.training


def test_only_the_papers_concatenation_has_the_order_that_the_file_was_trained_with(checkpoint):
    """With gates that let all pass, the paper's wiring is the pretrained network, and the code's is not."""
    path, _ = checkpoint
    image = torch.rand(1, 3, 32, 32)
    reference = models.load_published("unet", path)
    for variant, same in (("paper", True), ("code", False)):
        network = models.build("attention_unet", weights=str(path), variant=variant).eval()
        pixels = 2 * image - 1 if variant == "paper" else network.normalize(image)
        for gate in network.gates:
            gate.forward = lambda skip, _: skip
        with torch.no_grad():
            assert torch.allclose(network(image)[0], reference(pixels)[0], rtol=1e-4, atol=1e-5) is same


def test_weights_need_the_width_of_the_brain_mri_network():
    with pytest.raises(ValueError, match="need base_channels = 32, got 16"):
        models.build("attention_unet", base_channels=16, weights="unet.pt")
