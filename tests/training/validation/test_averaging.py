import pytest
import torch
from torch import Tensor, nn

from orchestrator.training.validation.test_time_averaging import averaged, logits_of_mean


class Ramp(nn.Module):
    """Says where the image is bright, more so to the upper left: flips matter."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        ramp = torch.linspace(2, -2, image.shape[-1])
        return self.gain * image[:, :1] + ramp + 2 * ramp[:, None], image


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_probabilities_of_networks_are_averaged(image: Tensor):
    networks = [Ramp(1.0), Ramp(-3.0), Ramp(7.0)]
    (found,) = averaged(networks)(image)
    expected = torch.stack([network(image)[0].sigmoid() for network in networks]).mean(0)
    torch.testing.assert_close(found.sigmoid(), expected)


def test_flips_look_at_an_image_in_four_ways_and_turn_back_what_they_see(image: Tensor):
    network = Ramp(5.0)
    (found,) = averaged([network], "flips")(image)
    looks = [
        network(image)[0],
        network(image.flip(2))[0].flip(2),
        network(image.flip(3))[0].flip(3),
        network(image.flip(2).flip(3))[0].flip(3).flip(2),
    ]
    torch.testing.assert_close(found.sigmoid(), torch.stack(looks).sigmoid().mean(0))
    assert (found - looks[0]).abs().max() > 0.1


def test_a_flipped_image_gives_the_flipped_map(image: Tensor):
    network = averaged([Ramp(5.0), Ramp(1.0)], "flips")
    torch.testing.assert_close(network(image.flip(3))[0].flip(3), network(image)[0])


def test_a_single_look_is_the_network_itself():
    network = Ramp(1.0)
    assert averaged([network]) is network


def test_the_mean_is_exact_where_probabilities_are_near_their_ends():
    logits = torch.tensor([[40.0, -40.0, 90.0], [40.0, -40.0, -90.0]])
    torch.testing.assert_close(logits_of_mean(logits), torch.tensor([40.0, -40.0, 0.0]))
