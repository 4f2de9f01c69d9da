"""What a node has: packages, code, GPUs and their driver, memory, disks, /dev/shm, limits."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pretended import HOPPER, VOLTA, gpus

from orchestrator.doctor.checks import gpu, packages
from orchestrator.doctor.checks import resources as room
from orchestrator.doctor.checks.findings import Result


def severities(results) -> list[str]:
    return [severity for severity, _, _ in results]


def told(results) -> str:
    return "\n".join(f"{found} -> {remedy}" for _, found, remedy in results)


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_node_like_the_driver_is_well():
    assert severities(packages.compare(packages.installed())) == ["ok", "ok", "ok"]


@pytest.mark.parametrize(
    ("name", "version", "severity"),
    [
        ("ray", "2.0", "failure"),
        ("torch", "1.0", "failure"),
        ("numpy", "1.0", "warning"),
        ("timm", None, "failure"),
    ],
)
def test_a_package_of_another_version_or_none_is_reported_with_what_installs_it(name, version, severity):
    driver = packages.installed()
    here = {key: value for key, value in driver.packages.items() if key != name} | (
        {name: version} if version else {}
    )
    results = [*packages.compare(driver, replace(driver, packages=here))]
    assert severity in severities(
        results
    ) and f"{name} {version or 'missing'} (driver {driver.packages[name]})" in told(results)
    assert f"pip install {name}=={driver.packages[name]}" in told(results)


@pytest.mark.parametrize(("python", "severity"), [("3.11.99", "warning"), ("3.9.1", "failure")])
def test_another_python_is_reported(python: str, severity: str):
    driver = replace(packages.installed(), python="3.11.7")
    assert severities(packages.compare(driver, replace(driver, python=python)))[0] == severity


def test_other_code_of_ours_is_a_failure(tmp_path):
    driver = packages.installed()
    results = [*packages.compare(replace(driver, code="0" * 12))]
    assert severities(results)[-1] == "failure" and driver.code in told(results)


def test_gpus_are_named_with_what_pytorch_was_compiled_for():
    with gpus(HOPPER, HOPPER):
        assert "2 x GPU of 9.0" in told(gpu.architectures())
    with gpus(HOPPER, VOLTA):
        assert severities(gpu.architectures()) == ["failure"] and severities(gpu.architectures([0])) == ["ok"]


def test_gpus_that_pytorch_cannot_use_are_not_passed_over_in_silence(monkeypatch):
    monkeypatch.setattr(gpu, "devices_present", lambda: [Path("/dev/nvidia0")])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with gpus():
        monkeypatch.setattr(torch.version, "cuda", None)
        assert "built without CUDA" in told(gpu.architectures())
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(gpu, "cuda_of_driver", lambda: (12, 4))
        assert "update the driver to R580 or newer, or `pip install 'torch>=2.8,<2.11' torchvision`" in told(
            gpu.architectures()
        )
        monkeypatch.setattr(gpu, "cuda_of_driver", lambda: (13, 1))
        assert severities(gpu.architectures()) == ["failure"]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert severities(gpu.architectures()) == ["ok"]


@pytest.mark.parametrize(
    ("built", "supported", "severity"),
    [
        ("12.8", (12, 2), "ok"),
        ("12.8", (13, 0), "ok"),
        ("12.8", (11, 8), "failure"),
        ("13.0", (12, 9), "failure"),
        ("12.8", None, "failure"),
    ],
)
def test_a_driver_runs_its_major_version_of_cuda_and_older_ones(monkeypatch, built, supported, severity):
    monkeypatch.setattr(gpu, "devices_present", lambda: [Path("/dev/nvidia0")])
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(gpu, "cuda_of_driver", lambda: supported)
    assert severities(gpu.driver()) == [severity]


def test_memory_that_others_hold_is_reported_gpu_by_gpu(monkeypatch):
    lines = "\n".join(
        f"{index}, GPU-{index}, Tesla V100-SXM3-32GB, 570.86, 32768, {used}"
        for index, used in enumerate([4, 20000])
    )
    monkeypatch.setattr(gpu, "devices_present", lambda: [Path("/dev/nvidia0")])
    monkeypatch.setattr(
        gpu, "list_cards", lambda: [*gpu.parse_cards(lines + "\n2, GPU-2, H100 MIG, 570.86, [N/A], [N/A]")]
    )
    results: list[Result] = [*gpu.memory()]
    assert severities(results) == [
        "warning",
        "ok",
    ] and "GPU 1, Tesla V100-SXM3-32GB: other processes hold 21.0 GB" in told(results)


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  4000000 kB\n"}, 4_096_000_000),
        (
            {
                "proc/meminfo": "MemAvailable: 4000000 kB\n",
                "sys/fs/cgroup/memory.max": "1000000000\n",
                "sys/fs/cgroup/memory.current": "900000000\n",
                "sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 300000000\n",
            },
            400_000_000,
        ),
        ({"proc/meminfo": "MemAvailable: 4000000 kB\n", "sys/fs/cgroup/memory.max": "max\n"}, 4_096_000_000),
    ],
)
def test_free_memory_is_that_of_the_control_group_where_it_has_less(
    tmp_path, files: dict[str, str], free: int
):
    assert room.available(written(tmp_path, files)) == free


def test_little_memory_is_a_failure(tmp_path):
    root = written(tmp_path, {"proc/meminfo": "MemAvailable: 1000000 kB\n"})
    assert severities(room.memory(root)) == ["failure"] and severities(room.memory()) != []


def test_disks_are_judged_by_what_is_free(tmp_path, monkeypatch):
    asked = {"home": tmp_path / "not" / "there"}
    assert "are free" in told(room.disks(asked)) and severities(room.disks(asked)) != ["failure"]
    monkeypatch.setattr(room, "LEAST_DISK", 10**18)
    assert severities(room.disks(asked)) == ["failure"]


def test_shared_memory_that_is_missing_or_small_is_reported(tmp_path, monkeypatch):
    assert severities(room.shared_memory(tmp_path / "missing")) == ["failure"]
    monkeypatch.setattr(room, "LITTLE_SHM", 10**18)
    assert severities(room.shared_memory(tmp_path)) == ["warning"] and "--shm-size=8g" in told(
        room.shared_memory(tmp_path)
    )


def test_a_limit_on_the_size_of_a_file_is_reported():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, before[1]))
    try:
        results = [*room.limits()]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "bytes of a file are limited to 1,000,000 -> `ulimit -f unlimited`" in told(results)


def test_network_file_systems_are_told_from_local_ones(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\nhead:/x /shared nfs4 rw 0 0\n/dev/sdb /shared/fast xfs rw 0 0\n"
        "m /my\\040data lustre rw 0 0\n"
    )
    kinds = [
        room.networked(Path(path), mounts)
        for path in ("/home", "/shared/p", "/shared/fast/p", "/my data/x", "/sharedx")
    ]
    assert kinds == [None, "nfs4", None, "lustre", None]
