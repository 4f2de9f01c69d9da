"""Images of followed cases, and what MLflow's page reads in the names of their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import CPU, drawn_cases, drawn_fit, work

from orchestrator.data.cases import Case, load_datasets
from orchestrator.results.mlflow.runs.step_images import step_image_files
from orchestrator.results.views.followed_cases import SIDE, FollowedImage, followed_images
from orchestrator.results.views.overlay import PREDICTION, TRUTH
from orchestrator.search.records.fit_records import FOLLOWED, FitRecord


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> FitRecord:
    home = tmp_path_factory.mktemp("home")
    lane, spec = work(home, home / "ledger"), drawn_fit(drawn_cases(home), epochs=3)
    assert lane(spec, CPU, 0, lambda row: True)
    return lane.ledger.read(spec.fit_id)


def images_of(record: FitRecord) -> list[FollowedImage]:
    return [*followed_images(record, cases_of(record))]


def cases_of(record: FitRecord) -> dict[str, Case]:
    home = record.folder.parents[2]
    return {case.id: case for one in load_datasets(home, record.spec.datasets) for case in one.cases}


def test_every_followed_case_has_an_image_of_each_epoch(record: FitRecord):
    images = images_of(record)
    assert [one.epoch for one in images] == [-1, 0, 1, 2, -1, 0, 1, 2]
    assert len({one.case_id for one in images}) == 2
    cases = cases_of(record)
    sides = {one.case_id: (cases[one.case_id].height, cases[one.case_id].width, 3) for one in images}
    assert all(one.image.shape == sides[one.case_id] and max(one.image.shape) <= SIDE for one in images)


def test_maps_of_a_fit_take_a_few_kilobytes(record: FitRecord):
    assert (record.folder / FOLLOWED).stat().st_size < 10_000


def test_a_record_of_an_earlier_version_has_no_images(record: FitRecord, tmp_path: Path):
    assert [*followed_images(replace(record, folder=tmp_path), {})] == []


def test_names_of_step_images_are_those_of_mlflow_and_equal_when_made_again(record: FitRecord):
    images = images_of(record)
    files = step_image_files("fit", images, 1, 1000)
    assert files == step_image_files("fit", images, 1, 1000) and len(files) == 16
    key, step, number, word, at, own = sorted(files)[0].split("+")[:6]
    assert (step, number, word, at) == ("step", "0", "timestamp", "1000") and key.startswith("followed ")
    times = {name.split("+")[4] for name in files if key in name}
    assert len(times) == 4  # the page keeps one image of a time
    assert own.count("-") == 4


def test_a_mask_is_drawn_where_the_map_is_above_the_threshold(record: FitRecord):
    truth, *_, last = [one for one in images_of(record) if one.case_id == images_of(record)[0].case_id]
    near = {"prediction": PREDICTION, "truth": TRUTH}
    seen = {
        (one.epoch, name): bool((np.abs(one.image.astype(int) - color).sum(axis=-1) < 30).any())
        for one in (truth, last)
        for name, color in near.items()
    }
    assert seen[-1, "truth"] and not seen[-1, "prediction"] and seen[2, "prediction"]
