"""The choice of a trial by a metric of masks, on a study whose networks are really trained and on ones by formula."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from finished import finished_study
from formula import carry_out, formula_study
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.common.display import Display
from orchestrator.common.errors import BadStudy
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.resize import resize_image, resize_probability
from orchestrator.results.best_networks import Trainer
from orchestrator.results.best_trial import choose_by_masks
from orchestrator.results.case_scores import means
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.export.evaluation import evaluate
from orchestrator.results.export.handover import trial_card
from orchestrator.results.report.gather import study_facts
from orchestrator.results.report.paper_tables import rows
from orchestrator.results.stored_study import StoredStudy
from orchestrator.scoring.components import POLYP_COUNTS, PolypCounts, count_polyps
from orchestrator.scoring.distances import distances
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.scoring.metrics import REGISTRY
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.fit_jobs import load_network
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.trial_score import by_case, masks_of_folds, score_trial
from orchestrator.selection.by_masks import rank_by_masks
from orchestrator.selection.mask_values import (
    MaskJob,
    MaskValues,
    ScoredMasks,
    fold_jobs,
    masks_on_record,
    polyps_of,
)
from orchestrator.study.runnable_study import RunnableStudy

RATES = (1e-4, 1e-3, 2e-3, 1e-2)


@pytest.fixture
def study(tmp_path: Path) -> RunnableStudy:
    """Four trials of a formula, the best by Dice is 1."""
    made = formula_study(tmp_path, num_trials=len(RATES))
    carry_out(made, RATES)
    return made


class Scorer:
    """Gives every image of a trial the same scores, and remembers what it was asked for."""

    def __init__(self, study: RunnableStudy, values: Sequence[float], ends_after: int | None = None) -> None:
        self.value = {
            record.fit_id: value
            for trial, value in zip(study.store.trials(), values, strict=True)
            for record in trial.records
        }
        self.ends_after = ends_after
        self.jobs: list[MaskJob] = []

    def __call__(self, jobs: Sequence[MaskJob]) -> Iterator[dict[str, np.ndarray]]:
        for job in jobs:
            if self.ends_after is not None and len(self.jobs) >= self.ends_after:
                raise KeyboardInterrupt
            self.jobs.append(job)
            spread = np.linspace(-0.01, 0.01, len(job.case_ids))
            yield dict.fromkeys(("dice", "nsd"), self.value[job.records[0].fit_id] + spread)


def forget(study: RunnableStudy, *numbers: int) -> None:
    """Delete the networks of these trials, that of one fold each."""
    trials = study.store.trials()
    study.store.ledger.drop_weights(trials[number].records[1].fit_id for number in numbers)


def test_every_image_is_scored_with_the_network_that_did_not_see_it_under_the_masks_of_the_other_folds(
    trained: RunnableStudy,
):
    snapshot = trained.store.snapshot()
    trainer = Trainer(snapshot, device="cpu")
    for trial, score in snapshot.feasible():
        masks = masks_of_folds(trial.records, trial.configuration)
        assert len(set(masks)) > 1, "the test could not tell whose masks were used"
        jobs = fold_jobs(trial)
        assert [job.masks for job in jobs] == masks
        scored = [*trainer.mask_scores(jobs)]
        assert scored[0].keys() == {*REGISTRY, *POLYP_COUNTS}
        ids = [case_id for record in trial.records for case_id in record.case_ids]
        dice = dict(zip(ids, np.concatenate([one["dice"] for one in scored]), strict=True))
        np.testing.assert_allclose([dice[id] for id in score.case_ids], score.values_of_case["dice"])


def masks_by_hand(
    record: FitRecord, masks: PostProcess, study: RunnableStudy
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Prediction and truth of every validation image, from its file and the weights."""
    network = load_network(record)
    cases = {case.id: case for case in study.datasets[0].cases}
    for case in (cases[case_id] for case_id in record.case_ids):
        image = resize_image(read_image(case.image), record.spec.recipe.image_size).copy()
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            probability = network(pixels)[0].sigmoid()[0, 0].numpy()
        truth = read_mask(case.mask)
        yield masks.apply(resize_probability(probability, *truth.shape)), truth


def nsd_by_hand(record: FitRecord, masks: PostProcess, study: RunnableStudy) -> list[float]:
    """Of every validation image."""
    return [distances(*pair)["nsd"] for pair in masks_by_hand(record, masks, study)]


def test_the_trial_of_the_highest_mean_over_all_images_is_chosen_and_its_card_says_by_what(
    trained: RunnableStudy,
):
    seen: list[tuple[int, int]] = []

    @contextmanager
    def bar(title: str) -> Iterator:
        assert title == "checking files" or title.startswith("scoring masks of ")
        yield lambda done, total: seen.append((done, total)) if "masks" in title else None

    stored, snapshot = StoredStudy(trained.store), trained.store.snapshot()
    means = {}
    for trial, _ in snapshot.feasible():
        masks = masks_of_folds(trial.records, trial.configuration)
        both = zip(trial.records, masks, strict=True)
        means[trial.number] = np.mean([value for one in both for value in nsd_by_hand(*one, trained)])
    best = stored.best("nsd", device="cpu", display=Display(bar=bar))
    assert best.number == max(means, key=means.__getitem__)
    told = best.as_dict()["by_masks"]
    assert {row["trial"]: row["nsd"] for row in told["trials"]} == pytest.approx(means)
    assert told["metric"] == "nsd" and told["networks_deleted"] == []
    assert best.reasons[0].startswith(
        f"Trial {best.number} has the highest nsd, {100 * means[best.number]:.2f}, "
    )
    num_images = len(best.networks.score.case_ids)
    assert seen == [(done, 3 * num_images) for done in range(1, 3 * num_images + 1)]
    choice = best.choice
    card = trial_card(snapshot, choice.trial, choice.score, best.networks.records, choice.selection)
    assert "the highest nsd" in " ".join(card.split())
    again = CliRunner().invoke(
        cli.app, ["best", "formula", "--metric", "surface-dice", "--json", "--home", str(trained.store.home)]
    )
    assert json.loads(again.stdout)["by_masks"] == told and "scoring masks" not in again.output


@pytest.mark.slow
def test_the_card_of_an_export_counts_the_polyps_of_all_folds(trained: RunnableStudy, tmp_path: Path):
    StoredStudy(trained.store).export(tmp_path / "exported", device="cpu")
    best = StoredStudy(trained.store).best()
    masks = masks_of_folds(best.choice.trial.records, best.choice.trial.configuration)
    counts, nsd, groups = [], [], []
    for record, own in zip(best.choice.trial.records, masks, strict=True):
        groups += trained.store.snapshot().groups_of(record.case_ids)
        for predicted, truth in masks_by_hand(record, own, trained):
            counts.append(count_polyps(predicted, truth))
            nsd.append(distances(predicted, truth)["nsd"])
    card = " ".join((tmp_path / "exported" / "model_card.md").read_text().split())
    assert PolypCounts.total(counts, groups).sentence() in card
    assert f"| nsd | {100 * np.mean(nsd):.2f} |" in card and "| hausdorff95 (pixels) |" in card


@pytest.mark.slow
def test_an_export_scores_the_masks_of_unseen_images_for_card_and_tables(tmp_path: Path):
    study, _ = finished_study(tmp_path, RATES[:2])
    best = StoredStudy(study.store).best()
    before = rows([study_facts(study.store.snapshot())])
    folder = StoredStudy(study.store).export(tmp_path / "exported", device="cpu")
    far = study.unseen[0].cases
    scored = [*evaluate(ExportedModel.load(folder), far, {case.id: case.group for case in far})]
    polyps = PolypCounts.total((one.polyps for one in scored if one.polyps), [one.group for one in scored])
    card = " ".join((folder / "model_card.md").read_text().split())
    assert f"far (unseen): {polyps.sentence()}" in card
    nsd, distance = (means(scored)[name][0] for name in ("nsd", "hausdorff95"))
    assert f"| nsd | {100 * nsd:.2f} |" in card
    head, validation, *_, unseen = rows([study_facts(study.store.snapshot())])
    at = head.index("HD95")
    assert unseen[at : at + 2] == [f"{distance:.1f}", f"{nsd:.4f}"] and "–" not in validation[at : at + 2]
    assert "HD95" not in before[0] and best.number == StoredStudy(study.store).best().number


def test_nothing_is_scored_of_a_trial_that_lacks_a_network_or_whose_study_goes_on(study: RunnableStudy):
    scored: list[MaskJob] = []

    class Watched(Trainer):
        def mask_scores(self, jobs: Sequence[MaskJob]) -> Iterator[dict[str, np.ndarray]]:
            scored.extend(jobs)
            return Scorer(study, (0.1, 0.2, 0.3, 0.4))(jobs)

    forget(study, 2)
    snapshot = study.store.snapshot()
    notes: list[str] = []
    trainer = Watched(snapshot, device="cpu", display=Display(note=notes.append))
    masks = PostProcess(0.5)
    trainer.score_masks(snapshot.trials[2], snapshot.trials[2].records[:1], masks)
    with study.store.lock():
        trainer.score_masks(snapshot.trials[1], snapshot.trials[1].records[:1], masks)
    assert not scored and len(notes) == 2
    assert "fold networks of trial 2 were deleted" in notes[0] and "another process" in notes[1]
    trainer.score_masks(snapshot.trials[1], snapshot.trials[1].records[:1], masks)
    assert [job.records for job in scored] == [(record,) for record in snapshot.trials[1].records]
    with study.store.lock():  # what is on record takes no lock
        trainer.score_masks(snapshot.trials[1], snapshot.trials[1].records[:1], masks)
    assert len(scored) == len(snapshot.trials[1].records) and len(notes) == 2


def test_a_record_of_an_earlier_version_without_its_weights_has_no_scores_of_masks(study: RunnableStudy):
    snapshot = study.store.snapshot()
    forget(study, 0)
    records = tuple(replace(record, digest=None) for record in snapshot.trials[0].records)
    old = replace(snapshot.trials[0], records=records)
    assert masks_on_record(snapshot, old, records, PostProcess(0.5)) == ScoredMasks()


@pytest.mark.slow
def test_scores_on_record_need_no_torch(study: RunnableStudy):
    choose_by_masks(study.store.snapshot(), "nsd", Scorer(study, (0.1, 0.2, 0.3, 0.4)))
    program = (
        "import sys; from typer.testing import CliRunner; from orchestrator.cli import app; "
        "done = CliRunner().invoke(app, sys.argv[1:]); print(done.output); "
        "sys.exit(done.exit_code or ('imported torch' if 'torch' in sys.modules else 0))"
    )
    for metric in ("nsd", "dice"):
        words = ["best", "formula", "--metric", metric, "--home", str(study.store.home)]
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_reason_names_all_that_were_compared_and_how_sure_the_lead_is(study: RunnableStudy):
    forget(study, 0)
    choice = choose_by_masks(study.store.snapshot(), "nsd", Scorer(study, (0.9, 0.5, 0.7, 0.6)))
    assert choice.trial.number == 2
    assert choice.selection.reason.startswith(
        "Trial 2 has the highest nsd, 70.00, of the 3 trials whose networks are kept (trial 3: 60.00, trial 1: 50.00); "
        "those of trial 0 were deleted, as it was not among the best by dice. Its lead over trial 3, +10.00 points "
        "(95 % +10.00 to +10.00; p "
    )
    assert " is significant. Trial 1 has the highest dice of 4 finished." in choice.selection.reason
    assert choice.selection.tags()["chosen_for"] == choice.selection.reason


def test_of_equals_the_better_by_dice_is_chosen_and_no_lead_is_claimed(study: RunnableStudy):
    forget(study, 0, 3)
    choice = choose_by_masks(study.store.snapshot(), "nsd", Scorer(study, (0.9, 0.5, 0.5, 0.9)))
    assert choice.trial.number == 1
    assert "those of 2 others were deleted, as they were not among the best" in choice.selection.reason
    assert "+0.00 points (95 % +0.00 to +0.00; p 1), is not significant." in choice.selection.reason


def test_a_trial_that_breaks_a_constraint_is_not_compared(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=3).with_options(constraints=("inference_ms<=3.5",))
    carry_out(study, [1e-4, 2e-3, 3e-3])
    found = rank_by_masks(study.store.snapshot(), "nsd", Scorer(study, (0.9, 0.5, 0.6)))
    assert [one.trial for one in found.scores] == [2, 1] and found.deleted == ()


@pytest.mark.parametrize(("gone", "said"), [((0, 1, 3), "only trial 2 has"), ((0, 1, 2, 3), "none has")])
def test_fewer_than_two_trials_with_networks_are_nothing_to_choose_among(
    study: RunnableStudy, gone: Sequence[int], said: str
):
    forget(study, *gone)
    with pytest.raises(BadStudy, match=f"it needs two, but of 4 {said} them"):
        StoredStudy(study.store).best("nsd")


def test_a_study_without_a_finished_trial_says_so(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=1)
    carry_out(study, [])
    with pytest.raises(BadStudy, match="has no finished trial yet"):
        StoredStudy(study.store).best("nsd")


def test_what_was_scored_is_not_scored_again_and_a_killed_command_goes_on(study: RunnableStudy):
    values = (0.1, 0.2, 0.3, 0.4)
    first, second, third = (Scorer(study, values, ends_after) for ends_after in (3, None, 0))
    with pytest.raises(KeyboardInterrupt):
        rank_by_masks(study.store.snapshot(), "nsd", first)
    found = rank_by_masks(study.store.snapshot(), "nsd", second)
    num_fits = sum(len(trial.records) for trial in study.store.trials())
    assert len(first.jobs) == 3 and len(second.jobs) == num_fits - 3
    assert rank_by_masks(study.store.snapshot(), "nsd", third) == found
    assert rank_by_masks(study.store.snapshot(), "dice", third).chosen == 3


def test_scores_of_other_masks_or_of_a_network_trained_again_are_made_anew(study: RunnableStudy):
    values = (0.1, 0.2, 0.3, 0.4)
    rank_by_masks(study.store.snapshot(), "nsd", Scorer(study, values))
    snapshot = study.store.snapshot()
    first, second, *_ = snapshot.trials
    record = replace(first.records[0], digest="0" * 64)
    snapshot.trials[0] = replace(first, records=(record, *first.records[1:]))
    masks = replace(second.configuration, masks=MaskChoice(threshold=0.25))
    snapshot.trials[1] = replace(second, configuration=masks)
    asked = Scorer(study, values)
    rank_by_masks(snapshot, "nsd", asked)
    assert {job.records[0].fit_id for job in asked.jobs} == {
        record.fit_id,
        *(one.fit_id for one in second.records),
    }
    assert {job.masks.threshold for job in asked.jobs if job.records[0].fit_id != record.fit_id} == {0.25}


def test_nothing_is_scored_while_another_process_may_delete_networks(study: RunnableStudy):
    with study.store.lock(), pytest.raises(BadStudy, match="is being worked on by another process"):
        StoredStudy(study.store).best("nsd", device="cpu")


def test_masks_of_folds_are_those_of_cross_fitted_scores(trained: RunnableStudy):
    (trial, *_) = trained.store.trials()
    masks = masks_of_folds(trial.records, trial.configuration)
    other = [trial.configuration.masks.best(record.histograms) for record in reversed(trial.records)]
    assert masks == other  # of two folds, each one's is the best of the other
    alone = trial.records[:1]
    assert masks_of_folds(alone, trial.configuration) == [score_trial(alone, trial.configuration).masks]


def test_an_image_that_several_folds_validate_counts_once_and_its_polyps_once_a_network(study: RunnableStudy):
    found = by_case({"nsd": np.array([0.2, 0.6, 0.4])}, np.array([0, 1, 0]))
    np.testing.assert_allclose(found["nsd"], [0.3, 0.6])
    first = study.store.trials()[0].records[0]
    num = len(first.case_ids)
    of_fold = {"nsd": np.linspace(0, 1, num)} | dict.fromkeys(POLYP_COUNTS, np.ones(num))
    other = of_fold | {"nsd": np.ones(num), "polyps_found": np.zeros(num)}
    values = MaskValues((tuple(first.case_ids),) * 2, (of_fold, other))
    np.testing.assert_allclose(np.sort(values.by_case("nsd")), (1 + np.linspace(0, 1, num)) / 2)
    polyps = polyps_of(study.store.snapshot(), values)
    assert (polyps.there, polyps.found, polyps.predicted, polyps.images) == (2 * num, num, 2 * num, 2 * num)
    assert polyps.interval is not None and polyps.interval[0] <= 0.5 <= polyps.interval[1]
