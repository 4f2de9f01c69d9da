"""cluster/ray-cluster.yaml as Ray's launcher reads it: by the schema in Ray's own wheel."""

from __future__ import annotations

import subprocess
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from orchestrator.common.allocator import KEEP_FREED_MEMORY
from orchestrator.launch.render import render

STARTS = ("head_start_ray_commands", "worker_start_ray_commands")
OTHERS = {"head": "gpu-1.lab", "workers": ("gpu-2.lab",), "venv": "/opt/my env", "folder": "~/my polyps"}


def config(values: dict[str, Any]) -> dict[str, Any]:
    return prepare_config(yaml.safe_load(render("ray", values)))


@pytest.mark.parametrize("values", [{}, OTHERS], ids=["defaults", "others"])
def test_ray_takes_it(values: dict[str, Any]):
    validate_config(config(values))


def test_ray_would_refuse_a_name_that_it_does_not_know():
    with pytest.raises(jsonschema.ValidationError, match="head_start_commands"):
        validate_config({**config({}), "head_start_commands": []})


def test_all_other_nodes_are_wanted_all_the_time():
    (node,) = config({"workers": ("10.0.0.2", "10.0.0.3")})["available_node_types"].values()
    assert (node["min_workers"], node["max_workers"]) == (2, 2)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("values", [{}, OTHERS], ids=["defaults", "others"])
def test_every_node_wants_the_token_keeps_its_memory_and_parses_as_a_shell_command(
    start: str, values: dict[str, Any]
):
    (command,) = yaml.safe_load(render("ray", values))[start]
    assert {"RAY_AUTH_MODE=token", *(f"{name}={value}" for name, value in KEEP_FREED_MEMORY.items())} <= set(
        command.split()
    )
    assert "ray stop" not in command
    assert subprocess.run(["bash", "-n", "-c", command], capture_output=True).stderr == b""
