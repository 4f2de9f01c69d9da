from __future__ import annotations

import pytest
import torch

from orchestrator import models
from orchestrator.models.emcad import Gate, MultiScale


def outputs(*, mutation: bool) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    network = models.build("emcad", encoder="test_resnet", mutation=mutation, pretrained=False).eval()
    with torch.no_grad():
        return network(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))


def test_the_four_maps_and_their_sum_are_trained():
    *maps, total = outputs(mutation=False)
    assert len(maps) == 4
    torch.testing.assert_close(total, sum(maps))


def test_mutation_trains_the_sums_of_all_fifteen_choices_of_maps():
    few, all_of_them = outputs(mutation=False), outputs(mutation=True)
    assert len(all_of_them) == 15
    torch.testing.assert_close(all_of_them[:4], few[:4])
    torch.testing.assert_close(all_of_them[4], few[0] + few[1])
    torch.testing.assert_close(all_of_them[-1], few[-1])


@pytest.mark.parametrize(("fill", "stays"), [(-100.0, False), (100.0, True)])
def test_a_gate_lets_the_encoders_map_through_or_not(fill, stays):
    gate = Gate(6).eval()
    torch.nn.init.constant_(gate.weigh[1].bias, fill)
    skip = torch.rand(1, 6, 4, 4)
    torch.testing.assert_close(gate(torch.rand(1, 6, 4, 4), skip), skip * stays)


def test_a_block_sees_as_far_as_its_largest_kernel_beyond_its_attention():
    block = MultiScale(4).eval()
    block.attend = torch.nn.Identity()
    x = torch.rand(1, 4, 9, 9, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x)[..., 4, 4].sum(), x)
    seen = gradient.abs().sum(dim=(0, 1)) > 0
    assert seen[2:7, 2:7].all()
    assert seen.sum() == 25
