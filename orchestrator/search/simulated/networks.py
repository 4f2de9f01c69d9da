"""A world in which the network is a choice: conditional parameters, and fits whose costs differ many times.

A configuration is a point of shared parameters, the network, and the parameters of every network, of which those that
its network does not have are nan. Networks differ in the Dice of their best configuration, in where that lies, and in
what a fit costs, which says nothing of how good they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from orchestrator.search.simulated.worlds import Instance, Point, World
from orchestrator.search.space.keys import NETWORK


@dataclass(frozen=True)
class NetworksWorld(World):
    """A `World` with several networks; its parameters are those that they share."""

    num_parameters: int = 2
    num_networks: int = 4
    num_own: int = 2  # parameters of each network alone
    worse: tuple[float, float] = (0.004, 0.04)  # Dice that the best of another network lacks
    apart: float = 0.1  # SD by which the best shared parameters differ between networks
    most_costly: float = 20.0  # times the cheapest; the others lie between, evenly by logarithm

    def draw(self, seed: int) -> NetworksInstance:
        return NetworksInstance(self, seed)


class NetworksInstance(Instance):
    """One such world, drawn by a seed; trials 0, 1, ... are the baselines of its networks."""

    def __init__(self, world: NetworksWorld, seed: int) -> None:
        super().__init__(world, seed)
        self.networks = world
        rng = np.random.default_rng([seed, 8])
        shape = (world.num_networks, world.num_parameters + world.num_own)
        shared = self.best + rng.normal(0, world.apart, (shape[0], world.num_parameters))
        own = rng.uniform(0.15, 0.85, (shape[0], world.num_own))
        self.bests = np.clip(np.concatenate([shared, own], axis=1), 0, 1)
        self.scales = rng.uniform(*world.scale, shape)
        self.lacking = rng.permutation([0.0, *rng.uniform(*world.worse, shape[0] - 1)])
        self.costs = rng.permutation(np.geomspace(1.0, world.most_costly, shape[0]))
        near = np.clip(self.bests + rng.normal(0, 0.25, shape), 0, 1)
        self.baselines = tuple(self._point(network, one) for network, one in enumerate(near))
        self.first = self.baselines[0]

    @property
    def space(self) -> list[BaseDistribution]:
        """The shared parameters, the network, and those of each network."""
        world = self.networks
        choice = CategoricalDistribution(tuple(f"network {n}" for n in range(world.num_networks)))
        own = [FloatDistribution(0, 1)] * (world.num_own * world.num_networks)
        return [*[FloatDistribution(0, 1)] * world.num_parameters, choice, *own]

    @property
    def names(self) -> list[str]:
        """The name of each parameter, in the order of a point."""
        world = self.networks
        shared = [f"x{place}" for place in range(world.num_parameters)]
        own = [f"{n}.y{place}" for n in range(world.num_networks) for place in range(world.num_own)]
        return [*shared, NETWORK, *own]

    def regret(self, point: Point) -> float:
        """Dice lost to the best point of the best network."""
        network, place = self._place(point)
        away = (place - self.bests[network]) / self.world.reach
        return float(self.lacking[network] + self.scales[network] @ away**2)

    def seconds(self, point: Point) -> float:
        """Mean duration of a fit, by network alone; 1 is that of the cheapest network."""
        return float(self.costs[self._place(point)[0]])

    def _place(self, point: Point) -> tuple[int, np.ndarray]:
        """The network, and its parameters: shared ones, then its own."""
        world = self.networks
        network = int(point[world.num_parameters])
        begin = world.num_parameters + 1 + network * world.num_own
        return network, np.array([*point[: world.num_parameters], *point[begin : begin + world.num_own]])

    def _point(self, network: int, place: np.ndarray) -> Point:
        world = self.networks
        own = np.full((world.num_networks, world.num_own), np.nan)
        own[network] = place[world.num_parameters :]
        return (*place[: world.num_parameters].tolist(), float(network), *own.flatten().tolist())
