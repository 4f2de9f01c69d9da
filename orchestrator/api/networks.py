"""The networks, their size and cost, and their parameters for search spaces.

Building and counting all networks takes ten seconds of CPU time. models/facts.json holds the result, and is
read as long as the source of the networks is unchanged; `make network-facts` writes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.common.errors import python_errors

if TYPE_CHECKING:
    from torch import nn

SIDES = (256, 352)  # pixels: input sides in the papers
OUTLINE_DEPTH = 2
MODELS = Path(__file__).parents[1] / "models"


@python_errors()
def networks() -> dict[str, dict[str, Any]]:
    """Facts of every network by its name: paper, parameters, cost, its own parameters for search spaces.

    `gmac`: billions of multiply-accumulates for one image, by its side in pixels.

    >>> import orchestrator as po
    >>> po.networks()["unet"]["parameters"]
    31037633
    """
    try:
        stored = json.loads((MODELS / "facts.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        stored = {}
    if stored.get("source") == source_digest():
        return {facts["name"]: facts for facts in stored["networks"]}
    from orchestrator import models

    return {name: facts_of(name) for name in models.names()}


@python_errors()
def network(name: str) -> dict[str, Any]:
    """Facts of one network, with its `search_space`: the file that comes with it, or None. Raises `BadSpace`.

    >>> import orchestrator as po
    >>> po.network("unet")["search_space"].name
    'unet.toml'
    """
    from orchestrator.common.errors import BadSpace
    from orchestrator.common.names import hint
    from orchestrator.search.space.shipped import shipped_file

    known = networks()
    if name not in known:
        raise BadSpace(name, f"no network is named {name!r}; {hint(name, known)}known: {', '.join(known)}")
    return known[name] | {"search_space": shipped_file(name)}


def source_digest() -> str:
    """SHA-256 of the modules of the networks, names included."""
    digest = hashlib.sha256()
    for file in sorted(MODELS.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def facts_of(name: str) -> dict[str, Any]:
    """Size, cost and description of a network, counted on an instance that is built for it."""
    import inspect

    from orchestrator import models
    from orchestrator.models.cost import multiply_accumulates, on_meta, size

    network = on_meta(name)
    counted = size(network)
    return {
        "name": name,
        "paper": models.paper(name),
        "summary": models.summary(name),
        "parameters": counted.learnable,
        "trained": counted.trained,
        "with_statistics": counted.learnable + counted.statistics,
        **_print(models.published(name), models.published_in(name), counted.learnable, counted.statistics),
        "gmac": {str(side): multiply_accumulates(network, side, side) / 1e9 for side in SIDES},
        "text": inspect.getdoc(inspect.getmodule(type(network))) or models.summary(name),
        "stride": models.stride(name),
        "outline": _outline(network),
        "options": [
            {
                "name": one.name,
                "default": repr(one.default),
                "type": inspect.formatannotation(one.annotation).replace("typing.", ""),
            }
            for one in models.params(name).values()
        ],
    }


def _print(published: int | None, where: str | None, learnable: int, statistics: int) -> dict[str, Any]:
    """Published size of a network, where it is printed, and the difference of ours in percent.

    Papers do not say whether they count BatchNorm's statistics: the nearer of both counts is compared.
    """
    if published is None:
        return {"published": None, "published_in": None, "difference_percent": None}
    nearest = min((learnable, learnable + statistics), key=lambda count: abs(count - published))
    return {
        "published": published,
        "published_in": where,
        "difference_percent": round(100 * (nearest / published - 1), 2),
    }


def markdown_table(facts: Iterable[Mapping[str, Any]]) -> str:
    """Markdown table of networks: parameters here and in print, the difference, operations, sources."""
    lines = [
        "| network | parameters, M | in print, M | difference, % | printed in | GMAC at 256 px | source |",
        "|---|---:|---:|---:|---|---:|---|",
    ]
    for one in facts:
        known = one["published"] is not None
        printed = f"{one['published'] / 1e6:.2f}" if known else ""
        difference = f"{one['difference_percent']:+.2f}" if known else ""
        lines.append(
            f"| `{one['name']}` | {one['parameters'] / 1e6:.2f} | {printed} | {difference} | "
            f"{one['published_in'] or ''} | {one['gmac']['256']:.1f} | {one['paper']} |"
        )
    return "\n".join(lines)


def largest_difference(facts: Iterable[Mapping[str, Any]]) -> str:
    """Sentence on the two largest differences between sizes here and sizes in print."""
    known = [one for one in facts if one["published"] is not None]
    first, second = sorted(known, key=lambda one: -abs(one["difference_percent"]))[:2]
    return (
        f"{len(known)} sizes are published; the largest difference is {first['difference_percent']:+.2f} % "
        f"({first['name']}; {first['published_in']}), the next {second['difference_percent']:+.2f} % "
        f"({second['name']})."
    )


def _outline(network: nn.Module, depth: int = 0) -> list[tuple[int, str, str, int]]:
    """(indent, name, class, parameters) of a network's modules that have parameters, to depth OUTLINE_DEPTH."""
    lines = []
    for name, child in network.named_children():
        count = sum(parameter.numel() for parameter in child.parameters())
        if count:
            lines.append((depth, name, type(child).__name__, count))
            if depth + 1 < OUTLINE_DEPTH:
                lines += _outline(child, depth + 1)
    return lines


def write_facts() -> None:
    """Count all networks, and write the result to models/facts.json."""
    from orchestrator import models

    found = {"source": source_digest(), "networks": [facts_of(name) for name in models.names()]}
    (MODELS / "facts.json").write_text(f"{json.dumps(found, indent=1)}\n", "utf-8")
