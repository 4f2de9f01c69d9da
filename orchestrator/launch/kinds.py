"""The kinds of files that can be rendered: purpose, values, and specific defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FileKind:
    """One kind of file; `holds`: fields of a `Cluster` that its template uses, separated by blanks."""

    file: str
    meaning: str
    holds: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    in_container: bool = False  # whether paths are inside a container, where there is no ~

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(self.holds.split())


KINDS = {
    "ray": FileKind(
        "ray-cluster.yaml",
        "Ray on your own machines, started over ssh by `ray up`.",
        "name head workers user ssh_key folder venv home cache tracking_uri port dashboard_port search",
    ),
    "rayjob": FileKind(
        "rayjob.yaml",
        "A search on Kubernetes by KubeRay, with its Ray cluster and a volume for the home.",
        "nodes gpus cpus memory_gb shm_gb hours name namespace queue image storage_class storage_gb home cache search",
        {"home": "/data"},
        in_container=True,
    ),
    "skypilot": FileKind(
        "skypilot.yaml",
        "A search on one machine that SkyPilot rents.",
        "name gpus gpu_type cpus memory_gb storage_gb search",
    ),
    "dockerfile": FileKind("Dockerfile", "An image for Kubernetes and Docker.", "image search"),
    "apptainer": FileKind("polyps.def", "An Apptainer image, for clusters without Docker.", "home search"),
    "mlflow-server": FileKind(
        "mlflow-server.sh",
        "An MLflow server with passwords and a database for its runs; starts, watches and stops it.",
        "home venv database mlflow_host mlflow_port allowed_hosts search",
    ),
    "constraints-v100": FileKind(
        "constraints-v100.txt", "Versions of torch and torchvision with kernels for the V100."
    ),
    "constraints-newest": FileKind(
        "constraints-newest.txt", "The newest torch and torchvision, without kernels for the V100."
    ),
    "slurm": FileKind(
        "slurm.sbatch",
        "A search on a Slurm cluster that continues after preemption, time limits and lost nodes.",
        "nodes gpus cpus memory_gb hours name partition account home cache venv tracking_uri search",
    ),
    "dgx2": FileKind(
        "dgx2.sh",
        "Ray and MLflow on one node with many GPUs, for successive searches.",
        "gpus cpus home cache venv port dashboard_port mlflow_port search",
        {"gpus": 16, "cpus": 96},
    ),
}
