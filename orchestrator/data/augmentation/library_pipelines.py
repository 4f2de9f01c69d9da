"""Pipelines of albumentations that a user writes: a list of transforms, or a `Compose` saved as JSON or YAML.

`augmentation = "albumentations:[HorizontalFlip(p=0.5), OneOf([GaussNoise(), ISONoise()], p=0.3)]"` names transforms
with literal arguments; `"file:pipeline.json"` is a file of `albumentations.save` next to the search-space file. Either
is replaced by its own content, as `albumentations:{...}`, when a search-space file is read: that content is part of the
name of a fit, the path is not, and no machine of a cluster needs the file.
"""

from __future__ import annotations

import ast
import json
import os
import random
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from orchestrator.common.errors import BadSpace
from orchestrator.common.user_documents import parse_json, read_bounded, shown
from orchestrator.data.augmentation.names import FILE, PREFIX, is_of_library

# Else albumentations asks the package index for its newest version, and waits where there is no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

NUM_TRIES = 6  # frames that a pipeline is tried on, each with a seed of its own


def canonical(name: str, folder: Path) -> str:
    """`albumentations:{...}` for a list of transforms, or for a file in `folder`; another name as it is.

    Raises `BadSpace` where the file cannot be read, ValueError where albumentations cannot build a pipeline.
    """
    if isinstance(name, str) and name.startswith(FILE):
        content = _of_file(folder / name.removeprefix(FILE))
        made = _loaded(content)
        if unknown := [*_unknown(content["transform"], _library().to_dict(made)["transform"])]:
            raise ValueError(f"albumentations does not know {', '.join(unknown)}")
    elif name.startswith(PREFIX) and not is_of_library(name):
        made = _parsed(name.removeprefix(PREFIX))
    else:
        return name
    return f"{PREFIX}{json.dumps(_library().to_dict(made)['transform'], sort_keys=True)}"


def build(name: str) -> Any:
    """The transform of `albumentations:{...}`. Raises ValueError where albumentations cannot build it."""
    return _loaded({"transform": parse_json(name.removeprefix(PREFIX).encode())})


@lru_cache(maxsize=64)
def problems(name: str, image_size: int) -> tuple[str, ...]:
    """Problems of a pipeline on frames (S, S, 3) and masks (S, S), with all probabilities 1 and with its own.

    It has to return uint8 images with three channels, masks of 0 and 1 of the same height and width, and the same
    result for the same seed. Transforms that fail alone are named.
    """
    try:
        whole = parse_json(name.removeprefix(PREFIX).encode())
        found = [_problem(one, image_size) for one in (_always(whole), whole)]
        if any(found):
            found = [_problem(one, image_size) for one in _leaves(_always(whole))] + found[:1]
    except ValueError as refused:
        return (str(refused),)
    return next(((problem,) for problem in found if problem), ())


def _library() -> ModuleType:
    import albumentations  # takes nearly two seconds

    library: ModuleType = albumentations
    return library


def _of_file(path: Path) -> dict[str, Any]:
    import yaml  # takes a tenth of a second

    data = read_bounded(path, BadSpace, megabytes=1)
    try:
        content = parse_json(data) if path.suffix == ".json" else yaml.safe_load(data)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise BadSpace(str(path), f"expected JSON (.json) or YAML, found something else: {error}") from error
    if not isinstance(content, dict) or "transform" not in content:
        raise BadSpace(str(path), f"expected what albumentations.save writes, found {shown(content)}")
    return content


def _loaded(content: dict[str, Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of arguments that it wrote itself, too
            return _library().from_dict(content)
    except Exception as refused:  # from pydantic, the registry of transforms, or a transform's own checks
        raise ValueError(f"albumentations cannot build it: {_short(refused)}") from refused


def _unknown(given: dict[str, Any], made: dict[str, Any]) -> Iterator[str]:
    """Arguments in a file, such as `HorizontalFlip.q`, that the transforms built from it do not have."""
    name = str(given.get("__class_fullname__"))
    yield from (f"{name}.{argument}" for argument in given if argument not in made)
    for one, other in zip(given.get("transforms", []), made.get("transforms", []), strict=False):
        yield from _unknown(one, other)


def _parsed(text: str) -> Any:
    """The transform of `[Name(argument=literal), ...]`, composed; compositions may stand among them."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, MemoryError, RecursionError, ValueError):
        raise ValueError(f"expected [Transform(argument=value), ...], found {shown(text)}") from None
    if not isinstance(node, ast.List):
        raise ValueError(f"expected a list, [Transform(argument=value), ...], found {shown(text)}")
    return _library().Compose([_made(one) for one in node.elts])


def _made(node: ast.expr) -> Any:
    library = _library()
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError(f"expected Transform(argument=value), found {shown(ast.unparse(node))}")
    kind = getattr(library, node.func.id, None)
    if not isinstance(kind, type) or not issubclass(kind, library.BasicTransform | library.BaseCompose):
        raise ValueError(f"albumentations {library.__version__} has no transform {node.func.id}")
    inner = [[_made(one) for one in each.elts] for each in node.args if isinstance(each, ast.List)]
    if len(inner) < len(node.args) or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError(f"{node.func.id}: arguments are given by name, as in HorizontalFlip(p=0.5)")
    try:
        given = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of an argument that does not exist
            return kind(*inner, **given)
    except Exception as refused:  # from pydantic, or a transform's own checks
        raise ValueError(f"{node.func.id}: {_short(refused)}") from refused


def _leaves(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The transforms of a pipeline, without the compositions that contain them."""
    if "transforms" not in content:
        yield content
    for one in content.get("transforms", []):
        yield from _leaves(one)


def _always(content: dict[str, Any]) -> dict[str, Any]:
    """A pipeline with every probability set to 1."""
    inner = [_always(one) for one in content.get("transforms", [])]
    return {**content, "p": 1.0} | ({"transforms": inner} if "transforms" in content else {})


def _problem(content: dict[str, Any], image_size: int) -> str | None:
    """Reason why a transform cannot augment frames of this size; None if it can."""
    name = str(content.get("__class_fullname__"))
    transform = _loaded({"transform": content})
    rng = np.random.default_rng(0)
    for seed in range(NUM_TRIES):
        image = rng.integers(256, size=(image_size, image_size, 3), dtype=np.uint8)
        mask = (np.hypot(*np.mgrid[:image_size, :image_size]) < image_size / (1 + seed)).astype(np.uint8)
        try:
            one, other = (_applied(transform, image, mask, seed) for _ in range(2))
        except Exception as refused:  # whatever a transform raises on a frame, it cannot be used
            return f"{name} fails on frames of {image_size} pixels with masks: {_short(refused)}"
        if (problem := _wrong(*one)) is not None:
            return f"{name} {problem}"
        if not all(map(np.array_equal, one, other)):
            return f"{name} gives other results for the same seed"
    return None


def _applied(transform: Any, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[Any, Any]:
    composed = _library().Compose([transform])
    composed.set_random_state(np.random.default_rng(seed), random.Random(seed))
    changed = composed(image=image.copy(), mask=mask.copy())
    return changed["image"], changed["mask"]


def _wrong(image: Any, mask: Any) -> str | None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        return f"makes images of {kind}; expected uint8: leave it out, networks normalise their own input"
    if image.ndim != 3 or image.shape[2] != 3 or mask.shape != image.shape[:2]:
        return f"makes an image {image.shape} and a mask {mask.shape}; expected (H, W, 3) and (H, W)"
    if mask.max(initial=0) > 1:
        return f"makes masks with values up to {mask.max()}; expected 0 and 1 (look at fill_mask)"
    return None


def _short(error: Exception) -> str:
    """An error in one line; for an error of pydantic, its fields and messages."""
    if hasattr(error, "errors"):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return " ".join(f"{type(error).__name__}: {error}".split())
