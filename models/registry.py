"""The registry of networks: each builder registers itself where it is defined.

A network of the user's own is named `module:function` and registers itself in the same way; see `own_network`.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import torch
from torch import nn

from orchestrator.common.network_files import NetworkFile, find, given

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class _Entry:
    builder: Callable[..., nn.Module]
    stride: int
    paper: str
    published: int | None
    published_in: str
    smallest_batch: int


_entries: dict[str, _Entry] = {}
_own: dict[str, _Entry] = {}  # module:function#digest -> a network of the user's own


def register(
    *,
    stride: int,
    paper: str = "",
    published: int | None = None,
    published_in: str = "its paper",
    smallest_batch: int = 1,
) -> Callable[[Builder], Builder]:
    """Register a builder under its function name; `stride` is what H and W must be multiples of.

    `paper` is where the network was proposed, `published` its published number of parameters, `published_in` where that
    stands, and `smallest_batch` the fewest images for training. The builder takes keyword-only parameters that all have
    defaults; anything else is a TypeError.
    """

    def add(builder: Builder) -> Builder:
        name = builder.__name__
        entries = _own if _loading else _entries
        key = f"{_loading[-1].module}:{name}#{_loading[-1].digest}" if _loading else name
        if key in entries:
            raise ValueError(f"two networks are named {name!r}")
        for parameter in inspect.signature(builder).parameters.values():
            if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty:
                raise TypeError(f"{name}: {parameter.name!r} must be keyword-only and have a default")
        entries[key] = _Entry(builder, stride, paper, published, published_in, smallest_batch)
        return builder

    return add


def own_network(name: str, folder: Path | None = None) -> NetworkFile:
    """The file of a network of the user's own, `module:function`, once it was run and has registered the network.

    `folder`: where the file is looked for first; default: the current folder. ValueError: there is no such
    file, or what it defines is no network.
    """
    file = given(name, folder or Path())
    _registered(file)
    return file


def _registered(file: NetworkFile) -> _Entry:
    if file.name not in _own:
        _run(file)
    if file.name not in _own:
        raise ValueError(
            f"{file.path} registers no network {file.function!r}; "
            "expected @orchestrator.models.register(stride=...) above that function"
        )
    return _own[file.name]


_loading: list[NetworkFile] = []  # files that are being run, the innermost last


def _run(file: NetworkFile) -> None:
    spec = importlib.util.spec_from_file_location(f"own_network_{file.module}_{file.digest}", file.path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _loading.append(file)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{file.path} fails when it is run: {type(error).__name__}: {error}") from error
    finally:
        _loading.pop()


def names() -> tuple[str, ...]:
    """All networks that come with the program, sorted by name."""
    return tuple(sorted(_entries))


def build(name: str, /, **values: Any) -> nn.Module:
    """A new network with random (or, optionally, pretrained) weights, in training mode.

    It maps images (B, 3, H, W), RGB in [0, 1], to a tuple of logits (B, 1, H, W): the prediction, then side
    outputs. ValueError for an unknown name, unknown parameters, and invalid values.
    """
    known = params(name)
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ValueError(f"{name} has no parameter {_listed(unknown)}; known: {', '.join(known) or 'none'}")
    values = {key: os.fspath(one) if isinstance(one, Path) else one for key, one in values.items()}
    if wrong := [*_of_wrong_type(known, values)]:
        raise ValueError("; ".join(wrong))
    return _entry(name).builder(**values)


def build_without_values(name: str, /, **values: Any) -> nn.Module:
    """The same network on torch's meta device, with shapes and no memory. Raises as `build` does."""
    if torch.__version__ < "2.10":
        from torch import _dynamo  # noqa: F401  # 2.8 cannot import it on the meta device, and timm has it imported
    with torch.device("meta"):
        return build(name, **values)


WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "text", NoneType: "none"}


def _of_wrong_type(known: Mapping[str, inspect.Parameter], values: Mapping[str, Any]) -> Iterator[str]:
    """A text for each value of a wrong type; types that a space file cannot hold are left alone."""
    for key, value in values.items():
        types = _types(known[key].annotation)
        if types <= WORDS.keys() and not any(_is_a(value, one) for one in types):
            words = " or ".join(WORDS[one] for one in WORDS if one in types)
            yield f"{key} must be {words}, got {value!r}"


def _types(annotation: Any) -> set[Any]:
    if get_origin(annotation) is Literal:
        return {type(value) for value in get_args(annotation)}
    if get_origin(annotation) in (Union, UnionType):
        return {one for part in get_args(annotation) for one in _types(part)}
    return {NoneType if annotation is None else annotation}


def _is_a(value: object, kind: type) -> bool:
    """Whether a value is of a type: an integer is a number too, and a truth value is neither."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def params(name: str) -> dict[str, inspect.Parameter]:
    """The parameters of a network by name, each with its default and its type as an object, not as text."""
    return dict(inspect.signature(_entry(name).builder, eval_str=True).parameters)


def stride(name: str) -> int:
    """Number of pixels of which H and W of an image must be multiples."""
    return _entry(name).stride


def smallest_batch(name: str) -> int:
    """Fewest images at a time in training: 2 if BatchNorm follows global pooling."""
    return _entry(name).smallest_batch


def paper(name: str) -> str:
    """Publication that proposed the network."""
    return _entry(name).paper


def published(name: str) -> int | None:
    """The published number of parameters, with or without BatchNorm's statistics; None if there is none."""
    return _entry(name).published


def published_in(name: str) -> str | None:
    """Source of the published number of parameters; None if there is none."""
    return _entry(name).published_in if _entry(name).published is not None else None


def summary(name: str) -> str:
    """One line on the network."""
    return (inspect.getdoc(_entry(name).builder) or name).splitlines()[0]


def _entry(name: str) -> _Entry:
    if ":" in name:
        return _own[name] if name in _own else _registered(find(name))
    if name not in _entries:
        raise ValueError(f"no network is named {name!r}; known: {', '.join(names())}")
    return _entries[name]


def _listed(keys: list[str]) -> str:
    return ", ".join(repr(key) for key in keys)
