"""Digest of the file with the initial weights of a network, which is a part of the names of its fits.

The file is one of the user's, or one of a package (models/packaged_weights.json), whose digest is the
published one, on machines with and without the package alike. Weights that are downloaded have no digest
here. Torch is not imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.common.errors import BadMachine

PACKAGES = Path(orchestrator.__file__).parent / "models" / "packaged_weights.json"
# Networks that begin with weights of packages, and their encoder by default.
ENCODERS = {"encoder_decoder": "tf_efficientnet_lite0", "emcad": "b2", "polyp_pvt": "pvt_v2_b2"}


def digest(network: str, params: Mapping[str, Any]) -> str | None:
    """SHA-256 of the file with the initial weights of a network; None without such a file or known digest.

    BadMachine: the user's file is gone.
    """
    if weights := params.get("weights"):
        try:
            return _sha256(weights, Path(weights).stat().st_mtime_ns)
        except FileNotFoundError:
            raise BadMachine(
                weights, "is gone; put it back: fits that start from it are identified by its contents"
            ) from None
    if network not in ENCODERS or not params.get("pretrained", True):
        return None
    return _packaged().get(str(params.get("encoder", ENCODERS[network])).removesuffix(".in1k"))


@lru_cache
def _sha256(path: str, mtime_ns: int) -> str:
    """Digest of a file, read again when it changes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _packaged() -> dict[str, str]:
    """Encoder -> digest of the file of its package."""
    return {name: entry["sha256"] for name, entry in json.loads(PACKAGES.read_text("utf-8")).items()}
