from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.common.errors import BadBundle
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.export.bundle_files import sha256


def test_all_problems_are_told_at_once(bundle_folder: Path):
    (bundle_folder / "model_card.md").unlink()
    (bundle_folder / "model.safetensors").unlink()
    (bundle_folder / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(BadBundle) as caught:
        ExportedModel.load(bundle_folder)
    assert [problem.split(":")[0] for problem in caught.value.problems[:3]] == [
        "model.safetensors",
        "model_card.md",
        "model.onnx",
    ]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(BadBundle, match="no such folder"):
        ExportedModel.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threshold", 0.3),
        ("image_size", "big"),
        ("format_version", 2),
        ("post_processing", "magic"),
        ("post_processing", {"magic": 1}),
        ("sha256", {}),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused_by_key(bundle_folder: Path, key: str, value: object):
    path = bundle_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(BadBundle, match=f"config.json: {key}"):
        ExportedModel.load(bundle_folder)


def test_a_config_that_is_not_json_is_refused(bundle_folder: Path):
    (bundle_folder / "config.json").write_text("{")
    with pytest.raises(BadBundle, match=r"config\.json: Invalid JSON"):
        ExportedModel.load(bundle_folder)


def test_rules_besides_the_threshold_are_read_and_kept_in_bounds(bundle_folder: Path, photo: np.ndarray):
    path = bundle_folder / "config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"post_processing": {"reference_area": 0.99}}))
    assert not ExportedModel.load(bundle_folder).predict(photo)[1].any()
    path.write_text(json.dumps(stored | {"post_processing": {"reference_area": 2}}))
    with pytest.raises(BadBundle, match=r"config\.json: reference_area must be a share"):
        ExportedModel.load(bundle_folder)


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_only_rgb_bytes_are_images(exported: Path, image: np.ndarray):
    with pytest.raises(ValueError, match="expected RGB uint8"):
        ExportedModel.load(exported).predict(image)


def test_extreme_logits_become_probabilities_of_zero_and_one(exported: Path):
    probability, _ = ExportedModel.load(exported).predict(np.full((4, 4, 3), 255, np.uint8))
    assert ((probability >= 0) & (probability <= 1)).all()


def test_loading_and_predicting_needs_no_torch(exported: Path):
    program = (
        "import sys, numpy, pathlib; from orchestrator.results.export.bundle import ExportedModel;"
        f"ExportedModel.load(pathlib.Path({str(exported)!r})).predict(numpy.zeros((9, 7, 3), numpy.uint8));"
        "assert not {'torch', 'mlflow', 'ray', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def spoil(folder: Path, graph: onnx.ModelProto | bytes | None = None, **config: object) -> None:
    """Another graph, and other values in the config, whose digests are right: nobody can tell by these."""
    if graph is not None:
        (folder / "model.onnx").write_bytes(graph if isinstance(graph, bytes) else graph.SerializeToString())
    stored = json.loads((folder / "config.json").read_text())
    digests = {name: sha256(folder / name) for name in ("model.onnx", "model.safetensors")}
    (folder / "config.json").write_text(json.dumps(stored | {"sha256": digests} | config))


def graph(
    *nodes: onnx.NodeProto,
    image: tuple[str, list[object]] = ("image", ["b", 3, 32, 32]),
    logits: tuple[str, list[object]] = ("logits", ["b", 1, 32, 32]),
    kind: int = TensorProto.FLOAT,
    weights: Sequence[TensorProto] = (),
    domains: Sequence[str] = ("",),
) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes or [helper.make_node("ReduceMean", ["image", "one"], ["logits"])],
        "graph",
        [helper.make_tensor_value_info(image[0], kind, image[1])],
        [helper.make_tensor_value_info(logits[0], kind, logits[1])],
        [numpy_helper.from_array(np.array([1]), "one"), *weights],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid(name, 18) for name in domains])


def elsewhere() -> TensorProto:
    """A weight that lies in another file."""
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="config.json")
    return tensor


def node(kind: str, *inputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), ["logits"], **attributes)


BRANCH = helper.make_graph(
    [helper.make_node("Identity", ["image"], ["x"])],
    "branch",
    [],
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
)
HUGE = numpy_helper.from_array(np.array([1, 1, 1_000_000, 1_000_000]), "huge")
NAN = numpy_helper.from_array(np.array(np.nan, np.float32), "nan")
ZEROS = helper.make_node("ConstantOfShape", ["huge"], ["zeros"])
MOST = helper.make_node("ReduceMax", ["zeros"], ["most"])
MEAN = helper.make_node("ReduceMean", ["image", "one"], ["mean"])


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (b"", "found one without a graph"),
        (b"\x80\x04garbage", "expected an ONNX model, found other bytes"),
        (b"\x08" * 99, "expected an ONNX model"),
        (graph(image=("picture", ["b", 3, 32, 32])), "expected one input, image, found 'picture'"),
        (graph(logits=("mask", ["b", 1, 32, 32])), "expected one output, logits, found 'mask'"),
        (graph(image=("image", ["b", 3, 64, 64])), r"expected \(B, 3, 32, 32\) as config.json says, found"),
        (graph(image=("image", ["b", 1, 32, 32])), r"input image: expected \(B, 3, 32, 32\)"),
        (graph(image=("image", [1, 3, 32, 32])), r"found \(1, 3, 32, 32\)"),
        (graph(logits=("logits", ["b", 3, 32, 32])), r"output logits: expected \(B, 1, 32, 32\)"),
        (graph(kind=TensorProto.DOUBLE), "input image: expected float32"),
        (graph(node("Add", "image", "weight"), weights=[elsewhere()]), "all weights in the file itself"),
        (graph(node("Run", "image", domain="evil"), domains=("", "evil")), "found 'evil.Run'"),
        (
            graph(node("If", "image", then_branch=BRANCH, else_branch=BRANCH)),
            "expected no loops and branches, found 'If'",
        ),
        (
            graph(MEAN, ZEROS, MOST, node("Add", "mean", "most"), weights=[HUGE]),
            "'zeros': expected a tensor of at most 2,147,483,648 elements",
        ),
        (graph(node("Identity", "nowhere")), "ONNX Runtime does not take it|contradict"),
        (graph(node("Nonsense", "image")), "ONNX Runtime does not take it|contradict"),
    ],
)
def test_a_graph_that_is_not_what_the_config_says_is_refused_in_words(
    bundle_folder: Path, graph: onnx.ModelProto | bytes, why: str
):
    spoil(bundle_folder, graph)
    with pytest.raises(BadBundle, match=why):
        ExportedModel.load(bundle_folder)


def test_a_graph_that_makes_no_numbers_is_refused_when_it_runs(bundle_folder: Path, photo: np.ndarray):
    spoil(bundle_folder, graph(MEAN, node("Mul", "mean", "nan"), weights=[NAN]))
    with pytest.raises(BadBundle, match="found values that are not finite"):
        ExportedModel.load(bundle_folder).predict(photo)


def test_a_graph_that_breaks_while_it_runs_is_refused_in_words(bundle_folder: Path, photo: np.ndarray):
    seven = numpy_helper.from_array(np.array([7, 7]), "seven")
    spoil(
        bundle_folder,
        graph(node("Reshape", "image", "seven"), weights=[seven], logits=("logits", ["b", 1, 32, 32])),
    )
    with pytest.raises(BadBundle, match=r"model\.onnx"):
        ExportedModel.load(bundle_folder).predict(photo)


@pytest.mark.parametrize("key", ["../secret", "/etc/hostname", "pipe", "sub/model.onnx"])
def test_a_config_names_no_other_file(bundle_folder: Path, key: str):
    os.mkfifo(bundle_folder / "pipe")
    stored = json.loads((bundle_folder / "config.json").read_text())
    spoil(bundle_folder, sha256=stored["sha256"] | {key: "0" * 64})
    with pytest.raises(BadBundle, match="and of nothing else"):
        ExportedModel.load(bundle_folder)


@pytest.mark.parametrize("name", ["config.json", "model.onnx", "model.safetensors", "model_card.md"])
def test_files_of_a_bundle_are_files_and_lie_in_it(bundle_folder: Path, tmp_path: Path, name: str):
    moved = (bundle_folder / name).rename(tmp_path / name)
    (bundle_folder / name).symlink_to(moved)
    with pytest.raises(BadBundle, match=f"{name}: is a symbolic link that leads out"):
        ExportedModel.load(bundle_folder)
    (bundle_folder / name).unlink()
    os.mkfifo(bundle_folder / name)
    with pytest.raises(BadBundle, match=f"{name}: expected a file, found a pipe"):
        ExportedModel.load(bundle_folder)


def test_weights_of_another_format_are_never_opened(bundle_folder: Path):
    for content in (pickle.dumps({"weights": 1}), b"", b"\xff" * 64):
        (bundle_folder / "model.safetensors").write_bytes(content)
        spoil(bundle_folder)
        with pytest.raises(BadBundle, match="expected weights in the safetensors format"):
            ExportedModel.load(bundle_folder)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"members": 3}, "expected weights of 3 networks"),
        ({"members": 10**9}, "config.json: members"),
        (
            {"networks": [{"network": "a", "network_params": {}}] * 2},
            "networks: expected 1, as members says, found 2",
        ),
        ({"network": "../../x"}, "config.json: network"),
        ({"image_size": 64}, r"expected \(B, 3, 64, 64\)"),
        ({"image_size": 10**9}, "config.json: image_size"),
        ({"normalization": {"scale": 1e300}}, "config.json: normalization.scale"),
        ({"threshold": 1.5}, "config.json: threshold"),
        ({"held_out": [1] * 1000}, "and 980 more problems"),
    ],
)
def test_numbers_of_a_config_are_in_range_and_fit_the_files(bundle_folder: Path, config: dict, why: str):
    spoil(bundle_folder, **config)
    with pytest.raises(BadBundle, match=why):
        ExportedModel.load(bundle_folder)


@pytest.mark.parametrize(
    "text", ['{"a": ' * 999, '{"threshold": NaN}', '{"threshold": 1e999}', '{"a": 1, "a": 1}', "\x00"]
)
def test_a_config_that_means_harm_is_refused(bundle_folder: Path, text: str):
    (bundle_folder / "config.json").write_text(text)
    with pytest.raises(BadBundle, match=r"config\.json: Invalid JSON"):
        ExportedModel.load(bundle_folder)


def test_the_command_line_ends_in_one_sentence_and_exit_code_2(bundle_folder: Path, tmp_path: Path):
    spoil(bundle_folder, b"garbage")
    words = ["predict", str(bundle_folder), str(tmp_path), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, words)
    assert isinstance(told.exception, BadBundle) and "found other bytes" in str(told.exception)


def test_models_that_mlflow_has_stored_find_the_class_by_its_former_name():
    former: dict[str, object] = {}
    exec("from orchestrator.results.export.bundle import Bundle", former)
    assert former["Bundle"] is ExportedModel
