"""What an export holds besides model.onnx: other forms of the network, and digests of all files."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf import text_format
from torch import nn
from tritonclient.grpc import model_config_pb2
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.common.errors import BadBundle
from orchestrator.data.cases import Dataset
from orchestrator.results.export.bundle import FILES, ExportedModel
from orchestrator.results.export.checksums import verify
from orchestrator.results.export.formats.fewer_bits import StudyImages, write_half, write_int8
from orchestrator.results.export.formats.names import FORMATS, format_lines
from orchestrator.results.export.formats.triton import write_repository
from orchestrator.results.export.write import Prediction, write_bundle
from orchestrator.scoring.metrics import scores_of_masks
from orchestrator.scoring.postprocess import PostProcess

MASKS = PostProcess(131 / 256)
TINY: dict[str, Any] = {
    "network_name": "tiny",
    "network_params": {},
    "image_size": 32,
    "masks": MASKS,
    "trained_on": {},
    "held_out": (),
    "card": "# Card\n",
}


@pytest.fixture(scope="module")
def full(network: nn.Module, drawn: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export in every format, measured on six drawn frames."""
    return write_bundle(
        tmp_path_factory.mktemp("full") / "champion",
        [network],
        **TINY,
        formats=tuple(FORMATS),
        images=StudyImages(drawn.cases[:4], drawn.cases[4:10], "hold-out test"),
    )


@pytest.fixture
def spoiled(full: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(full, tmp_path / "champion"))


def test_a_torch_program_gives_the_logits_of_the_network_for_any_batch(full: Path, network: nn.Module):
    program = torch.export.load(full / "model.pt2").module()
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(program(images), Prediction(network).eval()(images))


@pytest.mark.parametrize("name", ["model.fp16.onnx", "model.int8.onnx"])
def test_fewer_bits_take_the_same_inputs_and_their_loss_of_dice_is_that_of_the_masks(
    full: Path, drawn: Dataset, name: str
):
    from dataclasses import replace

    from orchestrator.data.images import read_image, read_mask

    bundle = ExportedModel.load(full)
    other = replace(bundle, session=onnxruntime.InferenceSession(full / name))
    dice = [
        [
            scores_of_masks(one.predict(read_image(case.image))[1], read_mask(case.mask))["dice"]
            for one in (bundle, other)
        ]
        for case in drawn.cases[4:10]
    ]
    told = json.loads((full / "formats.json").read_text())[name]
    assert (told["dice_of_model"], told["dice"]) == pytest.approx(tuple(np.mean(dice, axis=0)), abs=1e-6)
    assert told["loss_of_dice"] == pytest.approx(told["dice_of_model"] - told["dice"])
    assert (told["num_images"], told["images"]) == (6, "hold-out test")
    assert any(name in line and "(hold-out test)" in line for line in format_lines(full, FORMATS, MASKS))


def normalised_rows(path: Path) -> Path:
    """A graph with LayerNormalization, as every transformer has, whose scale has one dimension."""
    make, one = onnx.helper, np.ones(8, np.float32)
    filters = np.full((1, 3, 1, 1), 1e6, np.float32)
    graph = make.make_graph(
        [
            make.make_node("LayerNormalization", ["image", "scale", "shift"], ["rows"], axis=-1),
            make.make_node("Conv", ["rows", "filters"], ["logits"]),
        ],
        "rows",
        [make.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [make.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [
            onnx.numpy_helper.from_array(*each)
            for each in ((one, "scale"), (one, "shift"), (filters, "filters"))
        ],
    )
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_fewer_bits_of_a_transformer_are_made_without_lines_of_the_tools(
    drawn: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    model = normalised_rows(tmp_path / "model.onnx")
    images = StudyImages(drawn.cases[:2], drawn.cases[2:4], "hold-out test")
    write_int8(model, tmp_path / "int8.onnx", images, 8, 255)
    write_half(onnx.load(model), tmp_path / "fp16.onnx")
    assert not caplog.records and capfd.readouterr() == ("", "")
    logging.getLogger().warning("of somebody else")
    assert [record.message for record in caplog.records] == ["of somebody else"]


def test_half_the_bits_take_less_room_where_weights_are_most_of_a_file(full: Path):
    told = json.loads((full / "formats.json").read_text())
    assert told["model.fp16.onnx"]["bytes"] == (full / "model.fp16.onnx").stat().st_size


def test_a_triton_repository_is_one_by_the_schema_of_its_server(full: Path, tmp_path: Path):
    text = (full / "triton" / "tiny" / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "onnxruntime", 0)
    (image,) = config.input
    assert (list(image.dims), image.data_type) == ([-1, -1, 3], model_config_pb2.TYPE_UINT8)
    assert {one.name: list(one.dims) for one in config.output} == {"probability": [-1, -1], "mask": [-1, -1]}
    assert (full / "triton/tiny/1/model.onnx").read_bytes() == (full / "pipeline.onnx").read_bytes()
    write_repository(full / "model.onnx", "plain", tmp_path)
    plain = text_format.Parse((tmp_path / "plain/config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert plain.max_batch_size == 8 and list(plain.input[0].dims) == [3, 32, 32]


def test_an_export_of_every_format_is_verified_and_replaced(spoiled: Path, network: nn.Module):
    assert verify(spoiled).num_files == 12 == len((spoiled / "SHA256SUMS").read_text().splitlines())
    write_bundle(
        spoiled,
        [network],
        **TINY,
    )
    assert not (spoiled / "triton").exists() and verify(spoiled).num_files == 6


def test_files_that_were_changed_removed_or_added_are_named(spoiled: Path):
    config = (spoiled / "config.json").read_text()
    (spoiled / "config.json").write_text(config.replace('"threshold": 0.51', '"threshold": 0.61'))
    (spoiled / "model_card.md").write_text("# Best of all\n")
    (spoiled / "pipeline.onnx").unlink()
    (spoiled / "triton" / "tiny" / "2").mkdir()
    (spoiled / "triton" / "tiny" / "2" / "model.py").write_text("import os\n")
    (spoiled / "predict.py").unlink()
    (spoiled / "predict.py").symlink_to("/etc/hostname")
    told = CliRunner().invoke(app, ["export", "verify", str(spoiled)])
    assert isinstance(told.exception, BadBundle)
    assert [problem.partition(";")[0] for problem in told.exception.problems] == [
        "pipeline.onnx: missing",
        "triton/tiny/2/model.py: added",
        "config.json: changed",
        "model_card.md: changed",
        "predict.py: changed",
    ]


@pytest.mark.parametrize("name", FILES)
def test_a_list_that_leaves_out_a_file_that_every_export_has_is_no_list_of_one(spoiled: Path, name: str):
    sums = spoiled / "SHA256SUMS"
    sums.write_text(
        "".join(line for line in sums.read_text().splitlines(True) if not line.endswith(f" {name}\n"))
    )
    with pytest.raises(BadBundle, match=f"{name}: not in SHA256SUMS"):
        verify(spoiled)


def test_an_export_without_digests_loads_and_is_verified_as_far_as_it_goes(bundle_folder: Path):
    for name in ("SHA256SUMS", "predict.py", "formats.json"):
        (bundle_folder / name).unlink()
    ExportedModel.load(bundle_folder)
    assert "kept no digests of config.json, model_card.md" in verify(bundle_folder).sentence()
    (bundle_folder / "notes.txt").touch()
    with pytest.raises(BadBundle, match=r"notes\.txt: added"):
        verify(bundle_folder)


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"0" * 64 + b"  a\nmore\n"])
def test_what_is_no_list_of_digests_is_refused(spoiled: Path, content: bytes):
    (spoiled / "SHA256SUMS").write_bytes(content)
    with pytest.raises(BadBundle, match="one line per file"):
        verify(spoiled)
    with pytest.raises(BadBundle, match="found no such folder"):
        verify(spoiled / "nowhere")


def test_an_export_without_its_list_of_digests_is_not_taken_for_one_of_an_earlier_version(spoiled: Path):
    (spoiled / "SHA256SUMS").unlink()
    with pytest.raises(BadBundle, match="SHA256SUMS: missing; without it changes of files cannot be found"):
        verify(spoiled)


def test_verify_says_the_digest_to_compare(full: Path):
    told = CliRunner().invoke(app, ["export", "verify", str(full), "--json"])
    assert json.loads(told.stdout)["digest"] == verify(full).digest and told.exit_code == 0
