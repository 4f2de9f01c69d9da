"""Jobs as a lane performs them: train a fit, or score finished weights, and write a record. Knows no Ray."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

import orchestrator
from orchestrator import models
from orchestrator.common.errors import BadData, BadStudy, MachineFault, Several
from orchestrator.common.network_files import look_in
from orchestrator.common.stored_json import Unreadable
from orchestrator.data.cache.frames import CachedCases, cached_cases
from orchestrator.data.cases import load_datasets
from orchestrator.scoring.components import count_polyps
from orchestrator.scoring.histograms import quantize
from orchestrator.scoring.mask_scores import score_masks
from orchestrator.scoring.metrics import scores_at
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.scoring.threshold import best_threshold
from orchestrator.search.forecast.time_job import TimeJob
from orchestrator.search.records.fit_records import FitRecord, ScoreRecord, weights_damage
from orchestrator.search.records.ledger import REMEDY, Ledger
from orchestrator.search.score_job import ScoreJob
from orchestrator.training import workers
from orchestrator.training.batch_memory import Kind
from orchestrator.training.batches import as_tensors, to_device
from orchestrator.training.fit import FitOutcome, Report, images_per_worker, run_fit
from orchestrator.training.memory import device_name, within_memory
from orchestrator.training.recipe import FitSpec
from orchestrator.training.validation.scores import EPOCH_SWEEP, SCORED_AT_A_TIME, predicted_bins, score_cases
from orchestrator.training.validation.test_time_averaging import averaged

Scored = TypeVar("Scored")

NUM_EXAMPLES = 4
# Of an inference: passes that do not count, passes that do, and for how many seconds once a few are made.
WARM_UP, TIMED, FEW, TIMED_S = 3, 30, 5, 2.0


@dataclass(frozen=True)
class FitJobRunner:
    """Performs jobs for one study; the same in a lane and in a plain process."""

    home: Path
    cache: Path
    ledger: Ledger
    times_inference: bool = False  # after every fit

    def __call__(
        self, job: FitSpec | ScoreJob | TimeJob, device: torch.device, loader_workers: int, report: Report
    ) -> bool:
        """Return True when the job is finished and on record, False when `report` stopped it."""
        look_in(self.home)
        if isinstance(job, ScoreJob):
            return self._score(job, device)
        if isinstance(job, TimeJob):
            job(lambda spec: self._cases(spec.datasets, spec.recipe.image_size), device, loader_workers)
            return True
        return self._fit(job, device, loader_workers, report)

    def _fit(self, spec: FitSpec, device: torch.device, loader_workers: int, report: Report) -> bool:
        if workers.from_first(self.ledger.has(spec.fit_id)):
            return True
        cases = self._cases(spec.datasets, spec.recipe.image_size)
        share = images_per_worker(spec.recipe, len(spec.train))
        outcome = within_memory(
            self.ledger.memory,
            memory_kind("fit", spec, device),
            share,
            device,
            lambda micro_batch: run_fit(
                spec,
                cases,
                self.ledger.checkpoints(spec.fit_id),
                device=device,
                report=report,
                loader_workers=loader_workers,
                micro_batch=micro_batch,
                score=lambda attempt: self._scored(spec, device, attempt),
            ),
            smallest=models.smallest_batch(spec.network),
        )
        if outcome is None:
            return False
        if workers.rank() == 0:
            plain: dict[str, Any] = {
                "curves": outcome.curves,
                "best_epoch": outcome.best_epoch,
                "seconds": outcome.seconds,
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
                "world_size": workers.size(),
                "case_ids": outcome.case_ids,
                "versions": versions(),
            }
            network = averaged([rebuild(spec, outcome.weights)], spec.recipe.tta).to(device)
            if self.times_inference:
                plain["inference_ms"] = inference_ms(network, spec.recipe.image_size, device)
            examples = example_maps(network, cases, examples_of(outcome), device)
            weights = save({name: value.cpu().contiguous() for name, value in outcome.weights.items()})
            self.ledger.write(spec, plain, outcome.histograms, examples, weights, outcome.followed)
        return True

    def _score(self, job: ScoreJob, device: torch.device) -> bool:
        if workers.from_first(self.ledger.has_scores(job.scored_as, job.case_ids)):
            return True
        shares = Counter(job.fit_ids)
        records = {fit_id: self.ledger.read(fit_id) for fit_id in shares}
        spec = records[job.fit_id].spec
        network = _mean_of([records[fit_id] for fit_id in job.fit_ids]).to(device)
        cases = self._cases(job.datasets, spec.recipe.image_size)
        histograms = self._scored(
            spec, device, lambda images: score_cases(network, cases, job.case_ids, device, spec, images)
        )
        if workers.rank() == 0:
            self.ledger.write_scores(ScoreRecord(job.scored_as, job.name, job.case_ids, histograms))
        return True

    def mask_scores(
        self,
        records: Sequence[FitRecord],
        case_ids: Sequence[str],
        datasets: Mapping[str, str],
        masks: PostProcess,
        device: torch.device,
        on_case: Callable[[int], None] = lambda done: None,
    ) -> dict[str, np.ndarray]:
        """Every metric of the registry (N,), and the counts of polyps, of images that one network predicts, or the mean
        of several; in the order of `case_ids`.

        `datasets`: those of the images, name -> fingerprint. Computed in this process, without workers. `on_case` is
        called with the number of images that are done.
        """
        look_in(self.home)
        spec = records[0].spec
        network = _mean_of(records).to(device)
        cases = self._cases(dict(datasets), spec.recipe.image_size)

        def attempt(at_a_time: int) -> dict[str, np.ndarray]:
            rows = []
            for bins, truth in predicted_bins(network, cases, case_ids, device, spec, at_a_time):
                mask = masks.cut(bins)
                polyps = count_polyps(mask, truth)
                rows.append(score_masks(mask, truth, polyps) | polyps.as_scores())
                on_case(len(rows))
            return {name: np.array([row[name] for row in rows]) for name in rows[0]}

        return self._scored(spec, device, attempt)

    def _scored(self, spec: FitSpec, device: torch.device, attempt: Callable[[int], Scored]) -> Scored:
        kind = memory_kind("score", spec, device)
        return within_memory(self.ledger.memory, kind, SCORED_AT_A_TIME, device, attempt)

    def _cases(self, datasets: dict[str, str], image_size: int) -> CachedCases:
        return _open_cases(self.home, self.cache, tuple(sorted(datasets.items())), image_size)


def _mean_of(records: Sequence[FitRecord]) -> nn.Module:
    """The network of a record, or the mean of several, in which one that is named twice counts twice."""
    shares = Counter(record.fit_id for record in records)
    networks = {record.fit_id: record for record in records}
    return averaged([load_network(networks[fit_id]) for fit_id in shares], shares=[*shares.values()])


def memory_kind(work: str, spec: FitSpec, device: torch.device) -> Kind:
    """Properties of job and device on which the number of images that fit in memory depends."""
    recipe, trains = spec.recipe, work == "fit"
    return {
        "work": work,
        "network": spec.network,
        "network_params": spec.network_params,
        "image_size": recipe.image_size,
        "largest_scale": recipe.scales[-1] if trains else 1,
        "precision": recipe.precision if trains else "fp32",
        "weight_averaging": recipe.weight_averaging if trains else "none",
        "tta": "none" if trains else recipe.tta,
        "device": device_name(device),
        "workers": workers.size(),
    } | _saving(spec, trains)


def _saving(spec: FitSpec, trains: bool) -> Kind:
    """Options that save memory, where they are used: kinds of earlier versions know none."""
    recipe = spec.recipe
    used = {
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "encoder_is_held": not recipe.encoder_learning_rate_factor,
    }
    return {name: True for name, is_used in used.items() if is_used and trains}


@contextmanager
def closing_cases() -> Iterator[None]:
    """Context at whose end the arrays that jobs opened in this process are closed, so that a dataset can be removed."""
    try:
        yield
    finally:
        _open_cases.cache_clear()


@lru_cache(maxsize=4)
def _open_cases(
    home: Path, cache: Path, fingerprints: tuple[tuple[str, str], ...], image_size: int
) -> CachedCases:
    """Open the decoded arrays, once per process for each size. Raises `BadData` if the data is not what was asked."""
    datasets = load_datasets(home, [name for name, _ in fingerprints])
    found = {dataset.name: dataset.fingerprint for dataset in datasets}
    changed = [name for name, fingerprint in fingerprints if found[name] != fingerprint]
    if changed:
        raise BadData(
            str(home), [f"dataset {name} is not the one that this study was made with" for name in changed]
        )
    try:
        return cached_cases(datasets, image_size, cache)
    except (
        BadData,
        Several,
    ) as error:  # of this node: the study's own process has seen the files as they were imported
        raise MachineFault(error.where, error.problems) from error


def load_network(record: FitRecord) -> nn.Module:
    """Build a finished fit's network with its weights, on the CPU, in evaluation mode.

    Raises `BadStudy` where the weights are not those that were written.
    """
    try:
        if (why := weights_damage(record)) is not None:
            raise Unreadable(why)
        return rebuild(record.spec, load_file(record.weights))
    except (Unreadable, SafetensorError) as error:
        raise BadStudy(str(record.weights), f"{error}; {REMEDY}") from error


def rebuild(spec: FitSpec, weights: dict[str, Tensor]) -> nn.Module:
    """Build the network of a fit around given weights, without downloading those it would start from."""
    return rebuilt(spec.network, spec.network_params, weights)


def rebuilt(name: str, values: Mapping[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    """Build a network of these parameters around given weights, in evaluation mode."""
    params = {key: value for key, value in values.items() if key not in ("pretrained", "weights")}
    if "pretrained" in models.params(name):
        params["pretrained"] = False
    network = models.build(name, **params)
    network.load_state_dict(weights)
    return network.eval()


def examples_of(outcome: FitOutcome) -> tuple[str, ...]:
    """The validation cases to look at: the worst, the best and two between, worst first."""
    if not outcome.case_ids:
        return ()
    threshold, _ = best_threshold(outcome.histograms, *EPOCH_SWEEP)
    order = np.argsort(scores_at(outcome.histograms, threshold)["dice"], kind="stable")
    places = np.linspace(0, len(order) - 1, min(NUM_EXAMPLES, len(order))).round().astype(int)
    return tuple(outcome.case_ids[order[place]] for place in places)


def example_maps(
    network: nn.Module, cases: CachedCases, case_ids: tuple[str, ...], device: torch.device
) -> dict[str, np.ndarray]:
    """Return the probability bins, uint8 (S, S), of a few cases."""
    maps = {}
    with torch.inference_mode():
        for case_id in case_ids:
            image, _ = as_tensors(cases.image(case_id), cases.mask(case_id))
            probability = network(to_device(image[None], device) / 255)[0].sigmoid()[0, 0].cpu().numpy()
            maps[case_id] = quantize(probability)
    return maps


def inference_ms(network: nn.Module, image_size: int, device: torch.device) -> float:
    """Median time of one image through a network in evaluation mode, in ms; whatever else the device does counts."""
    image = torch.rand(1, 3, image_size, image_size, device=device)
    seconds: list[float] = []
    with torch.inference_mode():
        for turn in range(WARM_UP + TIMED):
            started = perf_counter()
            network(image)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds += [perf_counter() - started] * (turn >= WARM_UP)
            if len(seconds) >= FEW and sum(seconds) > TIMED_S:
                break
    return 1000 * median(seconds)


def versions() -> dict[str, str]:
    """Versions of this package, torch and Python: the numbers of a fit may depend on them."""
    return {
        "orchestrator": orchestrator.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
