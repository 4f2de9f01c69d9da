"""What only a GPU shows: mixed precision, memory that really ends, fits that share it. Skipped where there is none."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killed_fit
import pytest
import ray
import torch
from drawn import drawn_fit, learned, train, work
from killed_fit import KilledOnce
from torch import nn

from orchestrator import models
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.search.records.ledger import Ledger
from orchestrator.training.fit import run_fit
from orchestrator.training.ray.lanes import Lanes, Shape
from orchestrator.training.recipe import FitSpec, Recipe

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CUDA = torch.device("cuda:0")
GIB = 2**30


def on_gpu(spec: FitSpec, cases, folder: Path, report: Callable[[dict[str, float]], bool] = lambda row: True):
    return run_fit(spec, cases, folder, device=CUDA, report=report, loader_workers=2)


@pytest.fixture
def computed_in(monkeypatch) -> set[torch.dtype]:
    """The precisions that convolutions compute in, while training."""
    found: set[torch.dtype] = set()
    build = models.build

    def note(part: nn.Module, _: object, out: torch.Tensor) -> None:
        if part.training:
            found.add(out.dtype)

    def watched(name: str, **params: Any) -> nn.Module:
        network = build(name, **params)
        for part in network.modules():
            if isinstance(part, nn.Conv2d):
                part.register_forward_hook(note)
        return network

    monkeypatch.setattr(models, "build", watched)
    return found


@pytest.mark.parametrize(
    ("precision", "dtype", "error"),
    [("fp32", torch.float32, 0.001), ("bf16", torch.bfloat16, 0.003), ("fp16", torch.float16, 0.003)],
)
def test_a_fit_learns_the_same_in_every_precision(cases, tmp_path, computed_in, precision, dtype, error):
    spec = drawn_fit(cases, precision=precision, learning_rate=1e-3)
    there = on_gpu(spec, cases, tmp_path / "gpu")
    assert computed_in == {dtype}
    assert {value.dtype for value in there.weights.values() if value.is_floating_point()} == {torch.float32}
    here = train(drawn_fit(cases, learning_rate=1e-3), cases, tmp_path / "cpu")
    losses = [[row["train_loss"] for row in outcome.curves] for outcome in (there, here)]
    print(f"{precision}: losses {losses[0]}, on the CPU {losses[1]}")
    assert losses[0] == pytest.approx(losses[1], rel=error)


def test_precision_is_chosen_by_the_chip(cases, tmp_path, computed_in):
    on_gpu(drawn_fit(cases, epochs=1), cases, tmp_path)
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    assert computed_in == {torch.bfloat16 if native else torch.float16}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_fit_that_is_taken_up_again_ends_as_if_undisturbed(cases, tmp_path, precision):
    spec = drawn_fit(cases, precision=precision)
    whole = on_gpu(spec, cases, tmp_path / "whole")
    assert on_gpu(spec, cases, tmp_path / "parts", lambda row: row["epoch"] < 1) is None
    parts = on_gpu(spec, cases, tmp_path / "parts")
    for one, other in zip(learned(parts), learned(whole), strict=True):
        assert one == pytest.approx(other, rel=0.02, abs=0.01)


def large_fit(home: Path) -> FitSpec:
    """The whole of U-Net on a batch of 32 images of 256 pixels."""
    draw_dataset(home / "large", num_cases=40, size=256)
    dataset = add_dataset(home, "large", home / "large", allow_empty=True)
    ids = tuple(case.id for case in dataset.cases)
    return FitSpec(
        network="unet",
        network_params={"base_channels": 64},
        recipe=Recipe(image_size=256, epochs=2, batch_size=32),
        datasets={dataset.name: dataset.fingerprint},
        train=ids[:32],
        val=ids[32:],
        fold="0",
    )


def test_memory_that_really_ends_halves_what_is_held_and_is_remembered(home, tmp_path):
    """All but a little of the GPU is taken by plain allocations, as another program would."""
    spec = large_fit(home)
    torch.cuda.empty_cache()
    taken = [torch.empty(torch.cuda.mem_get_info(0)[0] - 6 * GIB, dtype=torch.uint8, device=CUDA)]
    try:
        assert work(home, tmp_path)(spec, CUDA, 2, lambda row: True)
    finally:
        taken.clear()
        torch.cuda.empty_cache()
    record = Ledger(tmp_path).read(spec.fit_id)
    assert len(record.curves) == 2 and record.micro_batch in (2, 4, 8, 16)
    assert record.device == torch.cuda.get_device_name(0)
    notes = [path.read_text() for path in (tmp_path / "memory").iterdir()]
    (note,) = [text for text in notes if '"work": "fit"' in text]
    assert f'"images": {record.micro_batch}' in note
    print(f"memory: 6 GiB free, {record.micro_batch} of 32 images at a time")


@pytest.fixture
def local_ray():
    path = os.pathsep.join([str(Path(killed_fit.__file__).parent), os.environ.get("PYTHONPATH", "")])
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield
    ray.shutdown()


def test_fits_share_a_gpu_and_one_whose_worker_is_killed_goes_on(local_ray, home, cases, tmp_path):
    job = KilledOnce(work(home, tmp_path), tmp_path / "killed")
    specs = [drawn_fit(cases, learning_rate=rate) for rate in (1e-4, 1e-3, 2e-3, 1e-2)]
    with Lanes(job, Shape(2, 1, 2, 0.5, "cuda"), tmp_path / "train") as lanes:
        failed = lanes.run_all({spec.fit_id: spec for spec in specs})
    assert not failed and job.marker.exists()
    records = [Ledger(tmp_path).read(spec.fit_id) for spec in specs]
    assert {record.device for record in records} == {torch.cuda.get_device_name(0)}
    assert [[row["epoch"] for row in record.curves] for record in records] == [[0, 1, 2, 3]] * 4
    assert ray.available_resources()["GPU"] == 1
