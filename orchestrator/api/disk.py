"""Disk space of a home: what can be freed without loss, and what is cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.api.home import PathLike, cache_folder, home_folder
from orchestrator.common.errors import python_errors

if TYPE_CHECKING:
    from orchestrator.data.cache.prune import CacheEntry, PruneResult
    from orchestrator.study.housekeeping import Freeable


@dataclass(frozen=True)
class PrunedCache:
    """Result of `prune_cache`: pruned entries, and deleted computed scores that no study finds any more."""

    cache: PruneResult
    scores: tuple[Freeable, ...]


@python_errors()
def freeable(*, home: PathLike | None = None, cache: PathLike | None = None) -> list[Freeable]:
    """Files that can be deleted, as they are made again when needed; largest first, `remove()` frees them.

    Caches of removed datasets, checkpoints of ended studies, old folders of Ray, computed scores; records, weights and
    datasets stay.

    >>> import orchestrator as po
    >>> sum(one.num_bytes for one in po.freeable()) >= 0
    True
    """
    from orchestrator.study.housekeeping import freeable as found_in

    folder = home_folder(home)
    return found_in(folder, cache_folder(cache, folder))


@python_errors()
def cached(*, home: PathLike | None = None, cache: PathLike | None = None) -> tuple[CacheEntry, ...]:
    """Cached images and near-duplicates, in the order in which they would be pruned.

    >>> import orchestrator as po
    >>> {entry.dataset for entry in po.cached()}
    {'drawn'}
    """
    from orchestrator.data.cache.prune import cache_entries
    from orchestrator.data.cases import list_datasets

    folder = home_folder(home)
    return cache_entries(cache_folder(cache, folder), list_datasets(folder))


@python_errors()
def prune_cache(
    *, max_gb: float | None = None, home: PathLike | None = None, cache: PathLike | None = None
) -> PrunedCache:
    """Remove what is cached and no dataset needs, and leftovers of killed builds; files in use are always kept.

    `max_gb`: remove further entries, least recently used first, until so many GB are left.

    >>> import orchestrator as po
    >>> {entry.dataset for entry in po.prune_cache().cache.kept}
    {'drawn'}
    """
    from orchestrator.data.cache.prune import prune
    from orchestrator.data.cases import list_datasets
    from orchestrator.study.housekeeping import prune_derived

    folder = home_folder(home)
    most = None if max_gb is None else round(max_gb * 1e9)
    pruned = prune(cache_folder(cache, folder), list_datasets(folder), most)
    return PrunedCache(pruned, tuple(prune_derived(folder)))
