"""Names that the augmentation of a recipe may have; whoever reads a study loads no image library for them.

A pipeline of ours has a name of `NAMES` and its steps in `pipelines.py`; a pipeline of albumentations is named by its
content, `albumentations:{...}`.
"""

from __future__ import annotations

from orchestrator.common.user_documents import shown

BY_STRENGTH = "rand_augment"  # the pipeline whose magnitudes follow one number
STRENGTH = 0.5  # of it, where a recipe gives none
NAMES = (
    "none",
    "flips",
    "standard",
    "gmsrf_net",
    "resunet_pp",
    "resunet_pp_code",
    "att_unet",
    "uacanet",
    "colonsegnet",
    BY_STRENGTH,
)
PREFIX, FILE = "albumentations:", "file:"


def is_of_library(name: str) -> bool:
    """Whether an augmentation is a pipeline of albumentations, by its content."""
    return name.startswith(f"{PREFIX}{{")


def name_problem(name: object) -> str | None:
    """Reason why a recipe cannot name this augmentation; None if it can."""
    if isinstance(name, str) and (name in NAMES or is_of_library(name)):
        return None
    return (
        f"expected {', '.join(NAMES)}, or a pipeline of albumentations, '{PREFIX}[HorizontalFlip(p=0.5), ...]' or "
        f"'{FILE}NAME.json', which a search-space file is to name; found {shown(name)}"
    )
