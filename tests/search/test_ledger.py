import numpy as np
import pytest

from orchestrator.search.ledger import Ledger, ScoreRecord
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
