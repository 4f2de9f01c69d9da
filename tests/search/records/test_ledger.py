import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from damages import DAMAGES, halve

from orchestrator.common.errors import BadStudy
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.records import fit_records
from orchestrator.search.records.fit_records import ScoreRecord
from orchestrator.search.records.ledger import Ledger
from orchestrator.training.recipe import FitSpec, Recipe

SPEC = FitSpec(
    network="unet",
    network_params={"base_channels": 8},
    recipe=Recipe(epochs=2),
    datasets={"drawn": "f" * 32},
    train=("drawn/1", "drawn/2"),
    val=("drawn/3",),
    fold="0",
)
PLAIN = {
    "curves": [{"epoch": 0, "val_dice": 0.5}],
    "best_epoch": 0,
    "seconds": 1.5,
    "device": "cpu",
    "world_size": 1,
    "case_ids": ["drawn/3"],
    "versions": {"torch": "2"},
}
HISTOGRAMS = np.arange(512, dtype=np.uint32).reshape(1, 2, 256)
EXAMPLES = {"drawn/3": np.full((4, 4), 200, np.uint8)}


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path)


def write(ledger: Ledger) -> None:
    ledger.write(SPEC, PLAIN, HISTOGRAMS, EXAMPLES, b"weights")


def test_what_was_written_is_read(ledger):
    write(ledger)
    record = ledger.read(SPEC.fit_id)
    assert record.spec == SPEC
    assert record.curves == ({"epoch": 0, "val_dice": 0.5},)
    assert np.array_equal(record.histograms, HISTOGRAMS)
    assert np.array_equal(record.examples["drawn/3"], EXAMPLES["drawn/3"])
    assert record.weights.read_bytes() == b"weights"


def test_a_finished_fit_forgets_its_checkpoints(ledger):
    ledger.checkpoints(SPEC.fit_id).mkdir(parents=True)
    write(ledger)
    assert not ledger.checkpoints(SPEC.fit_id).exists()


def test_checkpoints_that_outlived_their_record_are_swept_away(ledger):
    write(ledger)
    for fit_id in (SPEC.fit_id, "unfinished"):
        ledger.checkpoints(fit_id).mkdir(parents=True)
    ledger.sweep()
    assert [folder.name for folder in ledger.running.iterdir()] == ["unfinished"]


def test_half_a_record_is_no_record(ledger, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda number: (_ for _ in ()).throw(OSError("no space left on device")))
    with pytest.raises(OSError, match="no space"):
        write(ledger)
    assert not ledger.has(SPEC.fit_id)


def test_a_fit_that_is_written_twice_keeps_its_first_record(ledger):
    write(ledger)
    ledger.write(SPEC, PLAIN | {"seconds": 99}, HISTOGRAMS, EXAMPLES, b"other")
    assert ledger.read(SPEC.fit_id).seconds == 1.5
    assert [folder.name for folder in ledger.fits.iterdir()] == [SPEC.fit_id]


def test_scores_outside_the_search_are_told_apart_by_their_cases(ledger):
    ledger.write_scores(ScoreRecord(SPEC.fit_id, "test", ("drawn/4",), HISTOGRAMS))
    assert ledger.has_scores(SPEC.fit_id, ("drawn/4",))
    assert not ledger.has_scores(SPEC.fit_id, ("drawn/4", "drawn/5"))
    assert ledger.read_scores(SPEC.fit_id, ("drawn/4",)).name == "test"


def test_dropped_weights_leave_the_scores(ledger):
    write(ledger)
    ledger.drop_weights([SPEC.fit_id])
    assert not ledger.read(SPEC.fit_id).weights.exists()


def test_why_a_trial_failed_is_remembered(ledger):
    assert ledger.failure(3) is None
    ledger.write_failure(3, "the loss became nan")
    assert ledger.failure(3) == "the loss became nan"


DAMAGED = DAMAGES | {"gone": Path.unlink}


@pytest.mark.parametrize("name", ["record.json", "histograms.npz", "examples.npz", "weights.safetensors"])
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_record_is_none_and_is_set_aside_when_its_fit_was_trained_again(
    ledger, name: str, kind: str
):
    write(ledger)
    folder = ledger.fits / SPEC.fit_id
    if (name, kind) == ("weights.safetensors", "gone"):
        pytest.skip("weights are pruned")
    DAMAGED[kind](folder / name)
    # zeros in the middle of weights are seen by who reads them to the end
    assert ledger.damaged(thorough=True).keys() == {folder}
    assert name in ledger.damaged(thorough=True)[folder]
    if (name, kind) != ("weights.safetensors", "zeros"):
        assert not ledger.has(SPEC.fit_id)
    ledger.set_aside(folder)
    write(ledger)
    assert ledger.has(SPEC.fit_id) and not ledger.damaged(thorough=True)
    assert [path.name for path in ledger.aside.iterdir()] == [f"{SPEC.fit_id}.1"]


def test_a_fit_that_ends_while_records_are_checked_is_no_damage(ledger, monkeypatch: pytest.MonkeyPatch):
    write(ledger)

    def check_and_finish_another(folder: Path) -> None:
        shutil.copytree(folder, ledger.fits / "another", dirs_exist_ok=True)

    monkeypatch.setattr("orchestrator.search.records.ledger.damage", check_and_finish_another)
    assert ledger.damaged(thorough=True) == {}


def test_a_record_is_read_once_however_often_it_is_asked_for(ledger, monkeypatch: pytest.MonkeyPatch):
    write(ledger)
    reads = Mock(wraps=fit_records.read_fit)
    monkeypatch.setattr(fit_records, "read_fit", reads)
    assert ledger.has(SPEC.fit_id) and ledger.read(SPEC.fit_id).fit_id == SPEC.fit_id
    (summary,) = ledger.summaries()
    assert ResourceUsage(ledger).num_finished == 1 and ledger.summary(SPEC.fit_id) == summary
    assert list(summary.val_dice) == [row["val_dice"] for row in ledger.read(SPEC.fit_id).curves]
    assert reads.call_count == 1


def test_who_reads_a_damaged_record_hears_which_it_is_and_what_mends_it(ledger):
    write(ledger)
    halve(ledger.fits / SPEC.fit_id / "histograms.npz")
    with pytest.raises(
        BadStudy, match=r"histograms.npz has \d+ bytes, \d+ were written; the same `orch"
    ) as error:
        ledger.read(SPEC.fit_id)
    assert SPEC.fit_id in str(error.value)


def test_writing_a_damaged_record_again_loses_nothing_of_it(ledger):
    write(ledger)
    halve(ledger.fits / SPEC.fit_id / "record.json")
    write(ledger)
    assert ledger.read(SPEC.fit_id).seconds == 1.5
    assert (ledger.aside / f"{SPEC.fit_id}.1" / "weights.safetensors").read_bytes() == b"weights"


def test_damaged_scores_are_none(ledger):
    scores = ScoreRecord(SPEC.fit_id, "test", ("drawn/4",), HISTOGRAMS)
    ledger.write_scores(scores)
    halve(ledger.score_folder(SPEC.fit_id, ("drawn/4",)) / "histograms.npz")
    assert not ledger.has_scores(SPEC.fit_id, ("drawn/4",)) and len(ledger.damaged()) == 1
    ledger.write_scores(scores)
    assert ledger.has_scores(SPEC.fit_id, ("drawn/4",))


def test_records_of_an_earlier_version_read_without_digests(ledger):
    write(ledger)
    file = ledger.fits / SPEC.fit_id / "record.json"
    record = json.loads(file.read_text())
    del record["files"], record["sha256"]
    file.write_text(json.dumps(record))
    assert ledger.has(SPEC.fit_id) and ledger.read(SPEC.fit_id).weights_sha256 is None


@pytest.mark.parametrize("earlier", [False, True])
def test_a_record_that_was_edited_is_damaged(ledger, earlier: bool):
    write(ledger)
    file = ledger.fits / SPEC.fit_id / "record.json"
    record = json.loads(file.read_text()) | {"case_ids": ["drawn/nobody"]}
    if earlier:
        del record["sha256"]
    file.write_text(json.dumps(record))
    (why,) = ledger.damaged().values()
    assert not ledger.has(SPEC.fit_id) and ("scores other cases" if earlier else "was edited") in why


def test_a_refit_without_validation_reads_back(ledger):
    curves = [{"epoch": 0, "val_dice": float("nan"), "micro_batch": 2}]
    ledger.write(SPEC, PLAIN | {"curves": curves, "case_ids": []}, np.zeros((0, 2, 256)), {}, b"weights")
    (row,) = ledger.read(SPEC.fit_id).curves
    assert np.isnan(row["val_dice"]) and isinstance(row["epoch"], int)
