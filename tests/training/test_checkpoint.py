import pytest
import torch
from damages import DAMAGES

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
def test_a_checkpoint_that_was_cut_short_is_reported_and_its_fit_starts_anew(tmp_path, caplog, left):
    save_checkpoint(tmp_path, "abc", state(1, 0), WEIGHTS)
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(whole[:left])
    assert load_checkpoint(tmp_path, "abc") is None
    assert "checkpoint.pt was truncated" in caplog.text
    (tmp_path / "checkpoint.pt").write_bytes(bytes(len(whole)))  # space was given, and nothing written
    assert load_checkpoint(tmp_path, "abc") is None


@pytest.mark.parametrize("name", ["checkpoint.pt", "best-0.safetensors"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_checkpoint_that_was_damaged_is_not_gone_on_from(tmp_path, caplog, name: str, kind: str):
    save_checkpoint(tmp_path, "abc", state(1, 0), {"w": torch.ones(1000)})
    DAMAGES[kind](tmp_path / name)
    if (name, kind) == ("best-0.safetensors", "zeros"):
        pytest.skip("weights have no checksum until they are on record")
    assert load_checkpoint(tmp_path, "abc") is None and "its fit restarts" in caplog.text


def test_a_bit_that_flipped_in_a_checkpoint_is_seen(tmp_path, caplog):
    save_checkpoint(tmp_path, "abc", state(1, 0) | {"network": {"w": torch.ones(1000)}}, WEIGHTS)
    content = bytearray((tmp_path / "checkpoint.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "checkpoint.pt").write_bytes(content)
    assert load_checkpoint(tmp_path, "abc") is None and "was damaged" in caplog.text
