"""Room in the cluster that a dead Train controller left taken.

A worker that dies while its group is about to start fails the controller before it knows the group as its own: the
group's place is not given back, and Ray keeps what an actor placed until the whole job ends, though the actor is dead
(Ray 2.60). A lane would wait for its own old place forever.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group

from orchestrator.common.private_api import private


def free_deserted() -> int:
    """Give back every place that an actor of this job took and that outlived it; return how many those were."""
    deserted = [place for place in _places() if _is_deserted(place)]
    for place in deserted:
        remove_placement_group(PlacementGroup(private("PlacementGroupID")(place.placement_group_id)))
    return len(deserted)


def _places() -> list[Any]:
    """Every placement group of the cluster. The public table does not name their creators."""
    accessor = private("ray_state")._connect_and_get_accessor()
    parse = private("PlacementGroupTableData").FromString
    return [parse(serialized) for serialized in accessor.get_placement_group_table()]


def _is_deserted(place: Any) -> bool:
    is_ours = place.creator_job_id.hex() == ray.get_runtime_context().get_job_id()
    by_driver = set(place.creator_actor_id) == {0xFF}  # nobody's id
    is_there = place.state != private("PlacementGroupTableData").REMOVED  # or still asked for
    return is_ours and is_there and place.creator_actor_dead and not by_driver and not place.is_detached
