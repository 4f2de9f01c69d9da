"""Jobs as text: what trials hand to lanes through the dispatcher, which reads none of it.

A job is plain data: JSON under the name of its type, and only types that are marked here are read back. So whoever
could reach the dispatcher might ask for another fit, but could not make a worker run code by a job, as a pickle would.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter

from orchestrator.common.stored_json import Unreadable, as_kind

Job = TypeVar("Job")
_KINDS: dict[str, type] = {}


def job_kind(kind: type[Job]) -> type[Job]:
    """Mark a dataclass, or a pydantic model, as something that a lane can be asked to do."""
    _KINDS[kind.__name__] = kind
    return kind


def sealed(payload: Any) -> bytes:
    """A job as the dispatcher gets it: to hold the job itself it would have to import torch, and stop for seconds."""
    kind = type(payload)
    if _KINDS.get(kind.__name__) is not kind:
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} is no kind of job")
    return json.dumps([kind.__name__, TypeAdapter(kind).dump_python(payload, mode="json")]).encode()


def opened(payload: bytes) -> Any:
    """In a lane, the job that was sealed. Raises `Unreadable` for what is no job of a known kind."""
    try:
        name, fields = json.loads(payload)
        kind = _KINDS[name]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Unreadable(f"no job of a known kind ({', '.join(sorted(_KINDS))})") from error
    return as_kind(fields, kind)
