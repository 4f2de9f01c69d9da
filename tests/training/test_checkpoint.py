import pytest
import torch

from orchestrator.training.checkpoint import WrongCheckpoint, load_best, load_checkpoint, save_checkpoint

WEIGHTS = {"layer.weight": torch.arange(6.0).view(2, 3)}


def state(epoch: int, best_epoch: int) -> dict:
    return {"network": WEIGHTS, "progress": {"epochs": epoch}, "best_epoch": best_epoch}


def test_a_folder_without_a_checkpoint_starts_from_scratch(tmp_path):
    assert load_checkpoint(tmp_path, "abc") is None


def test_what_was_saved_comes_back(tmp_path):
    save_checkpoint(tmp_path, "abc", state(3, 2), WEIGHTS)
    saved = load_checkpoint(tmp_path, "abc")
    assert saved["progress"] == {"epochs": 3}
    assert torch.equal(saved["network"]["layer.weight"], WEIGHTS["layer.weight"])


def test_the_checkpoint_of_another_fit_is_refused(tmp_path):
    save_checkpoint(tmp_path, "abc", state(1, 0), WEIGHTS)
    with pytest.raises(WrongCheckpoint, match="belongs to fit abc"):
        load_checkpoint(tmp_path, "def")


def test_only_the_best_epochs_weights_are_kept(tmp_path):
    save_checkpoint(tmp_path, "abc", state(1, 0), {"w": torch.zeros(1)})
    save_checkpoint(tmp_path, "abc", state(2, 1), {"w": torch.ones(1)})
    save_checkpoint(tmp_path, "abc", state(3, 1), None)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best-1.safetensors", "checkpoint.pt"]
    assert load_best(tmp_path, 1)["w"] == 1


def test_a_checkpoint_holds_data_and_no_code(tmp_path):
    torch.save({"fit_id": "abc", "object": object()}, tmp_path / "checkpoint.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        load_checkpoint(tmp_path, "abc")


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_a_checkpoint_that_was_cut_short_is_told_and_its_fit_starts_anew(tmp_path, caplog, left):
    save_checkpoint(tmp_path, "abc", state(1, 0), WEIGHTS)
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(whole[:left])
    assert load_checkpoint(tmp_path, "abc") is None
    assert "checkpoint.pt was cut short" in caplog.text
    (tmp_path / "checkpoint.pt").write_bytes(bytes(len(whole)))  # space was given, and nothing written
    assert load_checkpoint(tmp_path, "abc") is None
