"""The order to score a network on images of a table, by the programs of its paper, and the record that it leaves."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from orchestrator.common.files import appearing
from orchestrator.common.stored_json import Unreadable, parse_json, read_arrays
from orchestrator.data.cases import Case, load_datasets
from orchestrator.data.images import read_grey_mask, read_image
from orchestrator.data.resize import resize_image
from orchestrator.results.export.paper_scores import RequestedScore, asked_for, view_of
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.fit_jobs import inference_ms, load_network
from orchestrator.search.records.fit_records import packed
from orchestrator.search.records.ledger import Ledger
from orchestrator.training.jobs import job_kind
from orchestrator.training.validation.test_time_averaging import averaged

OWN = ("dice_image", "iou_image")  # besides the paper's: one threshold, polyp only, mean over images
RECORD, VALUES = "record.json", "values.npz"
VERSION = 1


@job_kind
@dataclass(frozen=True)
class SetScoreJob:
    """Score one finished fit."""

    fit_id: str
    ledger: str  # folder of the ledger that has the fit
    dataset: str
    fingerprint: str
    case_ids: tuple[str, ...]
    scores: tuple[str, ...]  # as `evaluate --paper-score` takes them
    masks: dict[str, Any]  # fields of `PostProcess`
    times_inference: bool = False

    @property
    def name(self) -> str:
        """Name of the record: 20 hex digits, a hash of everything that decides the scores."""
        meaning = {key: value for key, value in asdict(self).items() if key not in ("ledger", "dataset")}
        return hashlib.sha256(json.dumps([VERSION, meaning], sort_keys=True).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class SetScores:
    """Scores of a network on a set of images: `values[score]` is (N, ...) in the order of `case_ids`."""

    case_ids: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    inference_ms: float | None


def score(job: SetScoreJob, home: Path, folder: Path, device: torch.device) -> None:
    """Score the network, and leave a record in `folder`, unless it is there. Raises `BadStudy`, `BadData`."""
    if read_scores(folder, job) is not None:
        return
    record = Ledger(Path(job.ledger)).read(job.fit_id)
    recipe = record.spec.recipe
    network = averaged([load_network(record)], recipe.tta).to(device)
    (dataset,) = load_datasets(home, [job.dataset])
    cases = {case.id: case for case in dataset.cases}
    asked = asked_for(job.scores, len(job.case_ids))
    masks = PostProcess(**job.masks)
    rows = [_of_case(network, cases[id], asked, masks, recipe.image_size, device) for id in job.case_ids]
    named = zip(asked, zip(*rows, strict=True), strict=True)
    columns = {one.name: np.array(column, np.float64) for one, column in named}
    plain = {
        "job": asdict(job),
        "inference_ms": inference_ms(network, recipe.image_size, device) if job.times_inference else None,
    }
    shutil.rmtree(folder / job.name, ignore_errors=True)  # what does not read
    with appearing(folder / job.name) as partial:
        (partial / RECORD).write_text(json.dumps(plain, indent=1))
        (partial / VALUES).write_bytes(packed(columns))


def _of_case(
    network: nn.Module,
    case: Case,
    asked: Sequence[RequestedScore],
    masks: PostProcess,
    size: int,
    device: torch.device,
) -> list[Any]:
    """Values of every score on one image; the network sees the image once."""
    image, truth = read_image(case.image), read_grey_mask(case.mask)
    pixels = torch.from_numpy(resize_image(image, size)).permute(2, 0, 1)[None].to(device) / 255
    with torch.inference_mode():
        probability = network(pixels)[0].sigmoid()[0, 0].float().cpu().numpy()
    views = {
        program: view_of(probability, image.shape[:2], masks, *program)
        for program in {(one.score.program.reads, one.score.program.size) for one in asked}
    }
    return [
        one.score.of_image(views[one.score.program.reads, one.score.program.size], truth) for one in asked
    ]


def read_scores(folder: Path, job: SetScoreJob) -> SetScores | None:
    """The scores that a job wrote; None if it was not run, or its file cannot be read."""
    try:
        content = parse_json(folder / job.name / RECORD, dict[str, Any])
        values = read_arrays(folder / job.name / VALUES)
    except (FileNotFoundError, Unreadable):
        return None
    if {*values} != {*job.scores} or any(len(one) != len(job.case_ids) for one in values.values()):
        return None
    return SetScores(job.case_ids, values, content["inference_ms"])
