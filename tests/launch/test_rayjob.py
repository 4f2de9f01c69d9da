"""cluster/rayjob.yaml against the schemas of KubeRay and Kubernetes, in which an unknown name is an error."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from closed_schema import cut, schema_of

from orchestrator.common.errors import BadMachine, Several
from orchestrator.launch.render import render

ROOT = Path(__file__).parents[2]
RECORDED = json.loads((Path(__file__).parent / "rayjob-1.7.0.json").read_text())
FOLDER = Path(os.environ.get("KUBERAY_CRDS", ROOT.parent / "shared" / "reference" / "kuberay"))
DEFINITION = FOLDER / "ray.io_rayjobs-1.7.0.yaml"
KUBERNETES = "1.37"
OTHERS = {"gpus": 0, "storage_class": "nfs", "cache": "/scratch/my cache", "home": "/my home", "hours": 0.5}


def documents(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The volume claim and the job."""
    claim, job = yaml.safe_load_all(render("rayjob", values))
    return claim, job


def groups(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


@pytest.mark.parametrize("values", [{}, OTHERS], ids=["defaults", "others"])
def test_the_job_holds_names_and_values_that_kuberay_knows(values: dict[str, Any]):
    jsonschema.validate(documents(values)[1], RECORDED)


@pytest.mark.slow
@pytest.mark.skipif(not DEFINITION.exists(), reason=f"KUBERAY_CRDS names no folder with {DEFINITION.name}")
def test_the_recorded_schema_is_what_the_definition_says():
    whole = schema_of(DEFINITION, "v1")
    jsonschema.validate(documents({})[1], whole)
    jsonschema.validate(documents(OTHERS)[1], whole)
    assert cut(whole, documents({})[1]) == RECORDED


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "workerGroupSpec"), []),
        (("spec", "submissionMode"), 3),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "tokens"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "restartPolcy"), "Never"),
    ],
)
def test_a_slip_would_be_noticed(path: tuple[str, ...], value: Any):
    job = node = documents({})[1]
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, RECORDED)


@pytest.mark.parametrize("values", [{}, OTHERS], ids=["defaults", "others"])
def test_the_volume_and_the_pods_are_what_kubernetes_knows(values: dict[str, Any]):
    claim, job = documents(values)
    kubernetes_validate.validate(claim, KUBERNETES, strict=True)
    for group in groups(job):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **group["template"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_every_pod_mounts_the_volume_and_shared_memory_and_none_runs_as_root():
    claim, job = documents({"home": "/my home", "gpus": 4})
    for group in groups(job):
        spec = group["template"]["spec"]
        (container,) = spec["containers"]
        assert {one["mountPath"] for one in container["volumeMounts"]} == {"/my home", "/dev/shm"}
        assert spec["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert spec["volumes"][1]["emptyDir"]["medium"] == "Memory"
        assert spec["securityContext"]["runAsNonRoot"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "4"


def test_the_command_of_the_job_is_quoted_for_a_shell():
    search = ("my space.toml", "--data", "it's", "--trials", "2")
    words = shlex.split(documents({"home": "/my home", "search": search})[1]["spec"]["entrypoint"])
    assert words[2:] == [*search, "--address", "auto", "--home", "/my home"]


@pytest.mark.parametrize("values", [{"home": "~/x"}, {"home": "/a:b"}, {"shm_gb": 192}])
def test_what_no_container_could_have_is_refused(values: dict[str, Any]):
    with pytest.raises(BadMachine, match=r"container: --(home|shm-gb): expected"):
        render("rayjob", values)


def test_what_is_wrong_with_a_value_and_with_a_path_is_said_at_once():
    with pytest.raises(Several) as refused:
        render("rayjob", {"home": "~/x", "nodes": 0})
    assert "--home" in str(refused.value) and "--nodes" in str(refused.value)
