"""Cluster resources still held by a dead Train controller.

If a worker dies just before its group starts, the controller fails before it owns the group: the placement group is
not released, and Ray keeps the placement groups of a dead actor until the job ends (Ray 2.60). A lane would wait for
the resources of its own earlier start forever.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group

from orchestrator.common.private_api import member, private


def release_orphaned() -> int:
    """Release every placement group of this job whose actor is dead; return their number."""
    orphaned = [group for group in _placement_groups() if _is_orphaned(group)]
    for group in orphaned:
        remove_placement_group(PlacementGroup(private("PlacementGroupID")(group.placement_group_id)))
    return len(orphaned)


def _placement_groups() -> list[Any]:
    """All placement groups of the cluster; the public table lacks their creators."""
    accessor = member(private("ray_state"), "_connect_and_get_accessor")()
    parse = private("PlacementGroupTableData").FromString
    return [parse(serialized) for serialized in accessor.get_placement_group_table()]


def _is_orphaned(group: Any) -> bool:
    is_ours = group.creator_job_id.hex() == ray.get_runtime_context().get_job_id()
    by_driver = set(group.creator_actor_id) == {0xFF}  # the nil id
    is_there = group.state != private("PlacementGroupTableData").REMOVED  # or still pending
    return is_ours and is_there and group.creator_actor_dead and not by_driver and not group.is_detached
