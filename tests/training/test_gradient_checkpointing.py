from pathlib import Path

import pytest
import torch
from drawn import drawn_cases, drawn_fit, learned, train
from torch import Tensor, nn

from orchestrator import models
from orchestrator.common.errors import BadSpace, FitFailed
from orchestrator.search.space.builds import check_builds
from orchestrator.search.space.space_file import load_space
from orchestrator.training.gradient_checkpointing import computed_again, parts_of

SMALL = {
    "unet_pp": {"base_channels": 4, "dropout": 0.5},  # whose blocks read lists that grow later
    "resunet_pp": {"base_channels": 8},
    "pranet": {"encoder": "test_resnet", "pretrained": False, "width": 16},
}


def step(network: nn.Module, parts: list[nn.Module]) -> dict[str, Tensor]:
    """Gradients, and buffers as a training step leaves them."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 64, 64, generator=generator)
    torch.manual_seed(1)
    with computed_again(parts):
        outputs = network(image)
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    gradients = {name: one.grad for name, one in network.named_parameters() if one.grad is not None}
    return gradients | {name: value.clone() for name, value in network.named_buffers()}


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    return models.build(name, **SMALL[name])


@pytest.mark.parametrize("name", SMALL)
def test_gradients_and_statistics_are_the_same_to_the_last_bit(name):
    plain, network = step(small(name), []), small(name)
    again = step(network, parts_of(network))
    assert plain.keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in plain.items())


@pytest.mark.parametrize("name", ["attention_unet", "colonsegnet", "resunet", "unet", "unet_mediaeval"])
def test_networks_have_parts_that_do_not_lie_in_each_other(name):
    with torch.device("meta"):
        parts = parts_of(models.build(name))
    inside = {id(module) for part in parts for module in part.modules() if module is not part}
    assert len(parts) > 1 and not inside & {id(part) for part in parts}


def test_the_forward_pass_keeps_less_than_half():
    def kept(network: nn.Module, parts: list[nn.Module]) -> int:
        storages: dict[int, int] = {}

        def pack(value: Tensor) -> Tensor:
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value), computed_again(parts):
            outputs = network(torch.rand(2, 3, 64, 64))  # noqa: F841  # holds the graph
            inputs = [one for part in parts for one in recorded.get(id(part), [])]
        storages.update({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in inputs})
        return sum(storages.values())

    recorded: dict[int, list[Tensor]] = {}
    network = models.build("unet", base_channels=8)
    parts = parts_of(network)
    for part in parts:
        part.register_forward_pre_hook(lambda part, args: recorded.__setitem__(id(part), list(args)))
    assert kept(network, parts) < kept(network, []) / 2


def test_a_fit_is_the_same_with_and_without_and_has_the_same_name(tmp_path):
    cases = drawn_cases(tmp_path / "home")
    plain, again = (drawn_fit(cases, epochs=2, gradient_checkpointing=on) for on in (False, True))
    one, other = train(plain, cases, tmp_path / "plain"), train(again, cases, tmp_path / "again")
    assert learned(one) == learned(other) and plain.fit_id == again.fit_id
    assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


def test_modules_have_their_own_forward_again_after_the_pass():
    network = small("resunet_pp")
    parts = parts_of(network)
    with computed_again(parts):
        assert all("forward" in vars(part) for part in parts)
    assert not any("forward" in vars(part) for part in parts)


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x * 2
        y = self.part(x)
        x += 1
        return x + y


def test_an_input_that_is_changed_later_is_refused_and_not_computed_from():
    network = InPlace()
    with computed_again([network.part]):
        out = network(torch.rand(1, 3, 4, 4))
    with pytest.raises(
        (FitFailed, RuntimeError), match=r"was changed in place|modified by an inplace operation"
    ):
        out.sum().backward()


OWN = """
from torch import nn
from orchestrator.models import register

@register(stride=1)
def flat():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.only = nn.Conv2d(3, 1, 1)
        def forward(self, image):
            return (self.only(image),)
    return Flat()
"""


def test_a_network_without_such_parts_is_refused(tmp_path: Path):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "mine.toml").write_text('network = "mine:flat"\n[fixed]\ngradient_checkpointing = true\n')
    with pytest.raises(
        BadSpace, match=r"gradient_checkpointing: mine:flat.* has no modules of several layers"
    ):
        check_builds(load_space(tmp_path / "mine.toml"))
