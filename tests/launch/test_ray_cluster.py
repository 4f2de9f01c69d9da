"""cluster/ray-cluster.yaml as Ray's launcher reads it: by the schema in Ray's own wheel."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
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


@pytest.mark.parametrize("start", STARTS)
def test_a_node_keeps_rays_files_where_its_user_alone_can_open_them(start: str, tmp_path: Path):
    name = f"mode-{os.getpid()}"
    folder, ray = Path("/tmp", f"ray-{name}"), tmp_path / "bin" / "ray"
    ray.parent.mkdir()
    ray.write_text(f'#!/bin/sh\nmkdir -p {folder}/r && chmod 777 {folder}/r && echo "$@"\n')
    ray.chmod(0o755)
    values = {"name": name, "venv": str(tmp_path), "folder": str(tmp_path)}
    (command,) = yaml.safe_load(render("ray", values))[start]
    environment = os.environ | {"HOME": str(tmp_path)}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True)

    try:
        for _ in range(2):  # the second time, the folder is there
            assert "start" in run().stdout
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            folder.chmod(0o777)
    finally:
        shutil.rmtree(folder)
    if os.getuid() == 0:
        folder.mkdir()
        try:
            os.chown(folder, 12345, 12345)
            refused = run()
            assert refused.returncode == 1 and "is of another user" in refused.stderr
        finally:
            shutil.rmtree(folder)
