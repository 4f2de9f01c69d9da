"""What every network must be able to do; each test meets all small variants."""

from __future__ import annotations

import io
from shutil import which

import onnxruntime
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch._inductor import config as inductor_config

from orchestrator import models
from orchestrator.models.polyp_pvt import PolypPVT
from orchestrator.models.pranet import PraNet
from orchestrator.models.uacanet import UACANet

# A compiler takes minutes for a larger network; that each is a graph that can be compiled is tested for all.
COMPILED = ("unet", "resunet_pp")


def images(num_images: int = 2, height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(num_images, 3, height, width, generator=torch.Generator().manual_seed(0))


def blobs(num_images: int, size: int) -> tuple[Tensor, Tensor]:
    """Bright ellipses at random places in noise: images (B, 3, S, S) and their masks (B, 1, S, S)."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    place = size * (0.3 + 0.4 * torch.rand(num_images, 2, 1, 1, generator=generator))
    radius = size * (0.12 + 0.12 * torch.rand(num_images, 2, 1, 1, generator=generator))
    inside = ((rows - place[:, 0]) / radius[:, 0]) ** 2 + ((columns - place[:, 1]) / radius[:, 1]) ** 2 < 1
    mask = inside[:, None].float()
    return 0.5 * torch.rand(num_images, 3, size, size, generator=generator) + 0.4 * mask, mask


@torch.no_grad()
def test_images_become_logits_of_their_size_in_either_mode(small):
    num_outputs = set()
    for training, *shape in ((True, 2, 64, 96), (False, 1, 64, 64), (False, 3, 64, 96)):
        outputs = small.train(training)(images(*shape))
        assert isinstance(outputs, tuple)
        assert {tuple(output.shape) for output in outputs} == {(shape[0], 1, *shape[1:])}
        if training:
            assert outputs[0].min() < 0 or outputs[0].max() > 1, "logits leave the range of probabilities"
        num_outputs.add(len(outputs))
    assert len(num_outputs) == 1, "the same in both modes"


def test_one_image_alone_trains_every_network_that_does_not_ask_for_more(small, registered, alone):
    if models.smallest_batch(registered) == 1 or alone:
        assert small(images(1))[0].isfinite().all()
    else:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            small(images(1))


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_every_parameter_that_is_trained_gets_a_finite_gradient(small):
    sum(output.square().mean() for output in small(images())).backward()
    without = [name for name, parameter in trained(small).items() if parameter.grad is None]
    assert not without
    assert all(parameter.grad.isfinite().all() for parameter in trained(small).values())


@torch.no_grad()
def test_evaluation_gives_the_same_numbers_twice_and_whatever_the_batch_is(small):
    small.eval()
    outputs = small(images())
    assert all(torch.equal(a, b) for a, b in zip(outputs, small(images()), strict=True))
    torch.testing.assert_close(outputs[0][1:], small(images()[1:])[0], rtol=1e-4, atol=1e-4)


def test_weights_written_and_read_back_give_the_same_output(small):
    small(images())  # moves the running statistics, which must travel too
    expected = small.eval()(images())[0]
    state = load(save(small.state_dict()))
    for module in small.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
            module.reset_parameters()
    assert not torch.equal(small(images())[0], expected)
    small.load_state_dict(state)
    assert torch.equal(small(images())[0], expected)


def test_an_image_of_another_size_is_refused_with_sizes_that_would_do(small):
    with pytest.raises(ValueError, match=r"multiples of \d+, got 68 x 64; use 64 x 64 or \d+ x 64"):
        small(images(2, 68, 64))


def test_an_image_smaller_than_the_stride_is_refused_with_the_smallest_that_would_do(small):
    with pytest.raises(ValueError, match=r"got 4 x 4; use (\d+) x \1"):
        small(images(2, 4, 4))


def test_autocast_to_bfloat16_gives_finite_outputs_and_gradients(small):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = small(images(2, 32, 32))
    sum(output.float().square().mean() for output in outputs).backward()
    assert all(output.isfinite().all() for output in outputs)
    assert all(parameter.grad.isfinite().all() for parameter in trained(small).values())


def test_channels_last_gives_the_same_output(small):
    small.eval()
    with torch.no_grad():
        expected = small(images())[0]
        found = small.to(memory_format=torch.channels_last)(images().to(memory_format=torch.channels_last))[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow  # an export takes seconds, that of msrf_net half a minute
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of torch 2.10's exporter
@pytest.mark.parametrize("small", models.names(), indirect=True)
def test_onnx_with_a_free_batch_size_agrees_with_torch(small):
    small.eval()
    program = torch.onnx.export(
        small,
        (images(2),),
        input_names=["image"],
        dynamo=True,
        optimize=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = small(images(3))[0]
    found = torch.from_numpy(session.run(None, {"image": images(3).numpy()})[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "small",
    [pytest.param(name, marks=() if name == "unet" else pytest.mark.slow) for name in models.names()],
    indirect=True,
)
def test_torch_compile_sees_a_network_as_one_graph(small):
    assert_compiled_agrees(small, "aot_eager")


@pytest.mark.slow
@pytest.mark.skipif(not (which("g++") or which("clang++")), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("small", COMPILED, indirect=True)
def test_compiled_code_agrees_with_torch(small):
    with inductor_config.patch(compile_threads=1):
        assert_compiled_agrees(small, "inductor")


def assert_compiled_agrees(network: nn.Module, backend: str) -> None:
    torch.compiler.reset()
    network.eval()
    with torch.no_grad():
        expected = network(images(2, 32, 32))
        found = torch.compile(network, backend=backend, fullgraph=True, dynamic=False)(images(2, 32, 32))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_four_blobs_are_learned_by_heart(small):
    # At an eighth, where these predict, 32 pixels would be a map of four by four, too coarse for a blob.
    image, mask = blobs(4, 64 if isinstance(small, (PolypPVT, PraNet, UACANet)) else 32)
    optimizer = torch.optim.Adam(small.parameters(), lr=1e-2)
    losses: list[float] = []
    dice = 0.0
    # Most need 5 to 40 steps; where BatchNorm ends a network, its scale must grow first, and that takes a hundred.
    while len(losses) < 150 and not (dice > 0.85 and losses[-1] < losses[0] / 4):
        outputs = small(image)
        loss = sum(nn.functional.binary_cross_entropy_with_logits(output, mask) for output in outputs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        found = outputs[0] > 0
        dice = (2 * (found * mask).sum() / (found.sum() + mask.sum())).item()
    assert dice > 0.85
    assert losses[-1] < losses[0] / 4
