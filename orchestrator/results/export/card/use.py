"""Sections on use: how to run the model, and what it would take to make it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.results.export.card.facts import Making, ModelFacts
from orchestrator.training.recipe import Recipe

HOW_MADE = "## How it was made"


def use(model: ModelFacts) -> str:
    """Section on how to predict masks, with the orchestrator and without."""
    return f"""\
## How to use it

```
orchestrator predict THIS_FOLDER IMAGES... --out masks
```

or without the orchestrator, with the same masks (`pip install numpy onnxruntime pillow`):

```
python predict.py IMAGES... --out masks
```

`pipeline.onnx`, where it is in this folder, takes an image of any size (uint8, height x width x 3, RGB, upright)
and gives its mask. To train on, load `model.safetensors` into `models.build({json.dumps(model.network)}, ...)` with the
parameters in `config.json`.{_prefixes(model)}"""


def _prefixes(model: ModelFacts) -> str:
    if model.members == 1:
        return ""
    return f"\nIts names begin with the number of the network, `0.` to `{model.members - 1}.`: take one at a time."


def how_made(model: ModelFacts, making: Making) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(making.versions.items()))
    recipe = model.training[0].recipe if model.training else {}
    params = _listed(model.params)
    idle = Recipe(**recipe).idle
    rest = _listed({name: value for name, value in recipe.items() if name not in {*model.params, *idle}})
    return f"""\
{HOW_MADE}

```
{making.command}
```

{making.date}, revision {making.git_revision}, on {making.hardware}; {versions}.

Settings of the trial:

```
{params}
```

Other settings that had an effect, at their defaults, and the seed of the fit:

```
{rest}
```"""


def _listed(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
