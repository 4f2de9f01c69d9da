"""What the script imports of Ray."""

import os
from typing import Any


def init(*words: Any, **options: Any) -> None:
    pass


def nodes() -> list[dict[str, bool]]:
    return [{"Alive": True}] * int(os.environ.get("STANDIN_NODES", "2"))
