from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from orchestrator.common.errors import BadBundle
from orchestrator.common.faults import machine_fault
from orchestrator.data.resize import resize_image, resize_probability
from orchestrator.results.export.bundle import FILES, ExportedModel
from orchestrator.results.export.write import (
    Prediction,
    export_onnx,
    largest_difference,
    named_export,
    why_ask,
    write_bundle,
)
from orchestrator.scoring.postprocess import PostProcess


def export(folder: Path, network: nn.Module, threshold: float = 0.5) -> Path:
    return write_bundle(
        folder,
        [network],
        network_name="tiny",
        network_params={},
        image_size=32,
        masks=PostProcess(threshold),
        trained_on={"near": "0" * 32},
        held_out=("near/1",),
        card="# Card\n",
    )


ALWAYS = {*FILES, "predict.py", "formats.json", "SHA256SUMS"}


def test_a_bundle_holds_its_files_and_nothing_is_left_beside_it(exported: Path):
    assert {path.name for path in exported.iterdir()} == ALWAYS
    assert list(exported.parent.iterdir()) == [exported]


def test_the_weights_load_into_the_network_again(exported: Path, network: nn.Module):
    network.load_state_dict(load_file(exported / "model.safetensors"))


def test_an_export_that_a_full_disk_ends_names_its_folder_and_leaves_nothing(
    tmp_path: Path, network: nn.Module
):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # bytes of a file
    try:
        with pytest.raises(OSError, match="bundle") as caught:
            export(tmp_path / "bundle", network)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert machine_fault(caught.value).where == str(tmp_path / "bundle") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("batch_size", [1, 3, 5])
def test_onnx_takes_any_batch_and_agrees_with_torch(exported: Path, network: nn.Module, batch_size: int):
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].shape[1:] == [1, 32, 32]
    assert largest_difference(Prediction(network).eval(), session, 32, batch_size) < 1e-5


def test_an_export_that_disagrees_with_torch_is_refused(tmp_path: Path):
    class Fickle(nn.Module):
        def forward(self, image: Tensor) -> tuple[Tensor]:
            return ((image + float(np.random.default_rng().random())).mean(1, keepdim=True),)

    with pytest.raises(RuntimeError, match="differs from torch"):
        export_onnx(Fickle(), 32, tmp_path / "model.onnx")


def test_prediction_is_that_of_torch_at_the_size_of_the_image(
    exported: Path, network: nn.Module, photo: np.ndarray
):
    probability, mask = ExportedModel.load(exported).predict(photo)
    small = torch.from_numpy(resize_image(photo, 32)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = resize_probability(network(small)[0].sigmoid()[0, 0].numpy(), 40, 56)
    np.testing.assert_allclose(probability, expected, atol=1e-5)
    assert mask.shape == (40, 56) and 0 < mask.mean() < 1


def test_several_networks_become_one_that_averages_their_probabilities(
    tmp_path: Path, network: nn.Module, photo: np.ndarray
):
    torch.manual_seed(1)
    networks = [network, type(network)()]
    folder = write_bundle(
        tmp_path / "pair",
        networks,
        network_name="tiny",
        network_params={},
        image_size=32,
        tta="flips",
        masks=PostProcess(0.5),
        trained_on={},
        held_out=(),
        card="# Card\n",
    )
    bundle = ExportedModel.load(folder)
    assert (bundle.config.members, bundle.config.tta) == (2, "flips")
    small = torch.from_numpy(resize_image(photo, 32)).permute(2, 0, 1)[None] / 255
    looks = [
        one(small.flip(axes))[0].flip(axes).sigmoid() for one in networks for axes in ((), (2,), (3,), (2, 3))
    ]
    expected = torch.stack(looks).mean(0)[0, 0].detach().numpy()
    np.testing.assert_allclose(bundle.predict(photo)[0], resize_probability(expected, 40, 56), atol=1e-5)
    stored = load_file(folder / "model.safetensors")
    networks[1].load_state_dict({name[2:]: value for name, value in stored.items() if name.startswith("1.")})
    assert len(stored) == 2 * len(network.state_dict())


def test_networks_too_large_for_onnx_are_refused_before_anything_is_written(
    tmp_path: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("orchestrator.results.export.write.LARGEST_ONNX", 100)
    with pytest.raises(BadBundle, match="export one network"):
        export(tmp_path / "new", network)
    assert not list(tmp_path.iterdir())


def test_the_mask_follows_the_rule_of_256_bins(exported: Path, photo: np.ndarray):
    probability, mask = ExportedModel.load(exported).predict(photo)
    bins = np.minimum(np.floor(probability.astype(np.float64) * 256), 255)
    assert (mask == (bins >= 131)).all()


def test_an_older_export_is_replaced(bundle_folder: Path, network: nn.Module):
    export(bundle_folder, network, threshold=0.25)
    assert ExportedModel.load(bundle_folder).config.threshold == 0.25
    assert list(bundle_folder.parent.iterdir()) == [bundle_folder]


@pytest.mark.parametrize("name", ["thesis.tex", "config.json"])
def test_a_folder_that_holds_something_else_is_not_overwritten(tmp_path: Path, network: nn.Module, name: str):
    (tmp_path / name).write_text("{}")
    with pytest.raises(BadBundle, match=name):
        export(tmp_path, network)


def test_an_older_export_with_foreign_files_in_it_is_not_overwritten(bundle_folder: Path, network: nn.Module):
    (bundle_folder / "notes.txt").write_text("mine")
    with pytest.raises(BadBundle, match=r"notes\.txt"):
        export(bundle_folder, network)


def test_the_network_is_left_as_it_was(tmp_path: Path, network: nn.Module):
    network.train()
    export(tmp_path / "new", network)
    assert network.training


def test_all_files_of_an_export_may_be_read_by_those_who_may_read_its_folder(
    network: nn.Module, tmp_path: Path
):
    for umask, folder_mode, mode in ((0o022, 0o755, 0o644), (0o027, 0o750, 0o640)):
        before = os.umask(umask)
        try:
            folder = export(tmp_path / f"{umask:o}", network)
        finally:
            os.umask(before)
        assert folder.stat().st_mode & 0o777 == folder_mode
        assert {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()} == dict.fromkeys(
            ALWAYS, mode
        )


def test_what_an_export_replaces_is_named(bundle_folder: Path, tmp_path: Path):
    card = bundle_folder / "model_card.md"
    card.write_text("# unet\n\nTrial 4 of the study `colon`; weights: fold 2. Input: RGB images\n")
    assert named_export(bundle_folder) == "Trial 4 of the study `colon`; weights: fold 2"
    assert named_export(tmp_path / "new") is None


def test_an_export_asks_before_it_replaces_another_kind_another_study_or_a_trial_that_was_named(
    bundle_folder: Path, tmp_path: Path
):
    card = bundle_folder / "model_card.md"
    card.write_text("# unet\n\nTrial 4 of the study `colon`; weights: fold 2, of median Dice. Input: RGB\n")
    same = {"refit": False, "ensemble": False, "chosen": True}
    assert why_ask(bundle_folder, "colon", 4, **same) is None is why_ask(bundle_folder, "colon", 7, **same)
    assert why_ask(bundle_folder, "colon", 4, **same | {"chosen": False}) is None
    assert why_ask(tmp_path / "new", "colon", 4, **same) is None
    for study, trial, other in (
        ("other", 4, {}),
        ("colon", 7, {"chosen": False}),
        ("colon", 4, {"refit": True}),
        ("colon", 4, {"ensemble": True}),
    ):
        told = why_ask(bundle_folder, study, trial, **same | other)
        assert told == "Trial 4 of the study `colon`; weights: fold 2, of median Dice"


@pytest.mark.slow
def test_an_export_says_nothing_in_the_words_of_the_exporter(tmp_path: Path):
    """It warns once in a process, of operators of torchvision."""
    program = (
        "import sys; from pathlib import Path; import torchvision; from orchestrator import models; "
        "from orchestrator.results.export.write import export_onnx; "
        "export_onnx(models.build('unet', base_channels=4), 32, Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "model.onnx"], capture_output=True, text=True, check=True
    )
    assert "Missing annotation" not in done.stderr and (tmp_path / "model.onnx").exists()
