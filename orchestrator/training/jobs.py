"""Serialisation of jobs that trials send to lanes through the dispatcher, which does not parse them.

A job is plain data: JSON with the name of its type, and only types marked here are parsed. An attacker who reaches
the dispatcher could request another fit, but not run code on a worker, as with a pickle.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter

from orchestrator.common.stored_json import Unreadable, as_kind

Job = TypeVar("Job")
_KINDS: dict[str, type] = {}


def job_kind(kind: type[Job]) -> type[Job]:
    """Class decorator for dataclasses and pydantic models that lanes may receive as jobs."""
    _KINDS[kind.__name__] = kind
    return kind


def serialized(payload: Any) -> bytes:
    """A job as bytes: the dispatcher does not hold the object, for which it would have to import torch."""
    kind = type(payload)
    if _KINDS.get(kind.__name__) is not kind:
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} is not a kind of job")
    return json.dumps([kind.__name__, TypeAdapter(kind).dump_python(payload, mode="json")]).encode()


def deserialized(payload: bytes) -> Any:
    """The job in these bytes, for a lane. Raises `Unreadable` for anything but a job of a known kind."""
    try:
        name, fields = json.loads(payload)
        kind = _KINDS[name]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Unreadable(f"not a job of a known kind ({', '.join(sorted(_KINDS))})") from error
    return as_kind(fields, kind)
