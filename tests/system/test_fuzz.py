"""Ten thousand damaged and malicious files, through the real loaders: they are read, or refused in words.

A share of each kind goes through the command line as well. No traceback, exit code 0 or 2, bounded memory and time.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
import tomllib
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from formula import FormulaJobRunner, carry_out, formula_study
from google.protobuf.message import EncodeError
from mutate import as_json, either, harmed
from split_plans import five_fold
from torch import Tensor, nn

from orchestrator.cli import main
from orchestrator.common.errors import UserError
from orchestrator.data.cases import load_dataset
from orchestrator.data.groups.group_table import read_groups
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.splits.split_file import read_plan, write_plan
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.export.bundle_files import sha256
from orchestrator.results.export.write import write_bundle
from orchestrator.results.views.overlay import png
from orchestrator.results.views.study_scores import board
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.space.space_file import load_space
from orchestrator.search.store.study_store import StudyStore, find_study

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("FUZZ_SEED", "0"))
SCALE = float(os.environ.get("FUZZ_SCALE", "1"))
EVERY = 40  # inputs, of which one goes through the command line
SLOWEST_S = 20  # of CPU, for one input
MOST_KB = 2_000_000  # that all inputs of a kind may add to what the process takes
SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.toml"))
GOOD = ("read", "refused", "exit code 0", "exit code 2")
LONGEST = 20_000  # characters of a message


@dataclass(frozen=True)
class Kind:
    """Files of one kind: how one is damaged, how it is read, and the command that reads it."""

    num: int
    spoil: Callable[[Random], object]  # writes what is read
    read: Callable[[], object]
    words: tuple[str, ...]
    least_refused: float = 0.2  # of all


def run(kind: Kind, name: str) -> None:
    """Read `num` damaged inputs, and say how often which came out; all that ends badly is told with its seed."""
    found: Counter[str] = Counter()
    wrong: list[str] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    num = round(kind.num * SCALE)
    for number in range(num):
        kind.spoil(Random(f"{SEED} {name} {number}"))
        began = time.process_time()
        try:
            outcome = _read(kind) if number % EVERY else f"exit code {_command(kind.words)}"
        except Exception as error:
            outcome = f"{type(error).__name__}: {str(error)[:300]} at {_place(error)}"
        if time.process_time() - began > SLOWEST_S:
            outcome = "too slow"
        if outcome not in GOOD:
            wrong.append(f"{number}: {outcome}")
        found[outcome if outcome in GOOD else "wrong"] += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"\n{name}: {dict(found)}, {grown / 1000:.0f} MB more", file=sys.stderr)
    assert not wrong, f"{len(wrong)} wrong of {name}:\n" + "\n".join(wrong[:40])
    assert grown < MOST_KB and found["refused"] >= num * kind.least_refused


def _place(error: Exception) -> str:
    """The last line of ours that an exception passed."""
    ours = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "/orchestrator/" in frame.filename
    ]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"


def _read(kind: Kind) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind.read()
        except UserError as refusal:
            assert len(str(refusal)) < LONGEST, f"a message of {len(str(refusal))} characters"
            return "refused"
        return "read"


def _command(words: tuple[str, ...]) -> int:
    """The exit code of the command line, in this process; a traceback would be printed, with code 1."""
    before = sys.argv
    sys.argv = ["orchestrator", *words]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.head(image),)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a dataset of drawn frames."""
    home = tmp_path_factory.mktemp("home")
    draw_dataset(home / "frames", num_cases=12, size=32)
    add_dataset(home, "drawn", home / "frames", groups=home / "frames" / "groups.csv", allow_empty=True)
    return home


def test_search_spaces(tmp_path: Path):
    texts = [path.read_bytes() for path in SPACES]
    file = tmp_path / "space.toml"

    def spoil(random: Random) -> None:
        text = random.choice(texts)
        file.write_bytes(either(text, tomllib.loads(text.decode()), _as_toml, random))

    run(Kind(3_000, spoil, lambda: load_space(file), ("space", "check", str(file))), "spaces")


def test_split_files(home: Path, tmp_path: Path):
    drawn, file = load_dataset(home, "drawn"), tmp_path / "splits.json"
    plan = five_fold([drawn], seed=0, num_folds=3)
    write_plan(plan, file)
    written = json.loads(file.read_bytes())
    own = {
        "folds": [{"train": list(f.train), "val": list(f.val)} for f in plan.folds],
        "test": list(plan.test),
    }

    def spoil(random: Random) -> None:
        document = random.choice((written, own))
        file.write_bytes(either(as_json(document), document, as_json, random))

    words = ("data", "split", "drawn", "--splits", str(file), "--no-near-duplicates", "--home", str(home))
    run(Kind(2_000, spoil, lambda: read_plan(file, [drawn], []), words), "split files")


def test_bundles(tmp_path: Path):
    whole = write_bundle(
        tmp_path / "whole",
        [Tiny()],
        network_name="tiny",
        network_params={"width": 4, "pretrained": False},
        image_size=32,
        masks=PostProcess(131 / 256, min_component_area=0.01),
        trained_on={"near": "0" * 32},
        held_out=("near/1", "near/2"),
        card="# Tiny\n",
    )
    image = np.zeros((9, 7, 3), np.uint8)
    (tmp_path / "image.png").write_bytes(png(image))
    folder = tmp_path / "bundle"
    config = json.loads((whole / "config.json").read_text())
    files = {name: (whole / name).read_bytes() for name in ("config.json", "model.onnx", "model.safetensors")}

    def spoil(random: Random) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        name = random.choice(("config.json", "config.json", "model.onnx", "model.onnx", "model.safetensors"))
        if name == "config.json":
            (folder / name).write_bytes(either(files[name], config, as_json, random))
            return
        changed = _graph(files[name], random) if name == "model.onnx" else harmed(files[name], random)
        (folder / name).write_bytes(changed)
        digests = {one: sha256(folder / one) for one in ("model.onnx", "model.safetensors")}
        (folder / "config.json").write_text(json.dumps(config | {"sha256": digests}))

    words = ("predict", str(folder), str(tmp_path / "image.png"), "--out", str(tmp_path / "out"))
    run(Kind(2_000, spoil, lambda: ExportedModel.load(folder).predict(image), words), "bundles")


def _graph(data: bytes, random: Random) -> bytes:
    """A graph whose bytes, or whose dimensions, numbers and operators, are others."""
    if random.random() < 0.4:
        return harmed(data, random)
    model = onnx.ModelProto.FromString(data)
    for _ in range(random.choice((1, 1, 2, 3))):
        node = random.choice(model.graph.node)
        kinds = (
            "Conv",
            "Loop",
            "Identity",
            "Reshape",
            "ConstantOfShape",
            "Softmax",
            "Resize",
            "Nonsense",
            "MaxPool",
        )
        value = random.choice((0, -1, 1, 2, 7, 10**6, 2**40, 2**62))
        match random.randrange(7):
            case 0:
                node.op_type = random.choice(kinds)
            case 1 if node.attribute:
                attribute = random.choice(node.attribute)
                attribute.ints[:] = [value] * len(attribute.ints)
                attribute.i = value
            case 2:
                tensor = random.choice(model.graph.initializer)
                tensor.dims[:] = [value] * random.choice((0, len(tensor.dims), 5))
            case 3:
                random.choice(model.graph.initializer).data_type = random.randrange(25)
            case 4 if node.input:
                node.input[random.randrange(len(node.input))] = random.choice(("image", "logits", "", "x"))
            case 5:
                node.domain = random.choice(("evil", "com.microsoft", "ai.onnx.ml"))
            case _:
                model.opset_import[0].version = random.choice((0, 1, 7, 99, -1))
    try:
        return model.SerializeToString()
    except EncodeError:
        return data


def test_datasets_in_a_home(home: Path, tmp_path: Path):
    place = tmp_path / "home"
    shutil.copytree(home / "datasets" / "drawn", place / "datasets" / "drawn")
    file = place / "datasets" / "drawn" / "dataset.json"
    data = file.read_bytes()

    def spoil(random: Random) -> None:
        file.write_bytes(either(data, json.loads(data), as_json, random))

    words = ("data", "show", "drawn", "--home", str(place))
    run(Kind(1_000, spoil, lambda: load_dataset(place, "drawn"), words), "datasets")


def test_files_of_a_study(tmp_path: Path):
    """Most of them are read by `leaderboard`; damage to what it does not need is no refusal."""
    study = formula_study(tmp_path / "whole", num_trials=3)
    carry_out(study, (1e-3, 3e-3, 5e-3), lambda ledger: FormulaJobRunner(ledger, noise=0.2))
    place = tmp_path / "home"
    shutil.copytree(tmp_path / "whole", place)
    folder = StudyStore(place, study.store.name).folder
    files = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    damaged: list[Path] = []

    def spoil(random: Random) -> None:
        for path in damaged:
            path.write_bytes(files[path])
        damaged[:] = [random.choice([path for path in files if files[path]])]
        data = files[damaged[0]]
        document = json.loads(data) if damaged[0].suffix == ".json" else None
        damaged[0].write_bytes(either(data, document, as_json, random) if document else harmed(data, random))

    words = ("leaderboard", study.store.name, "--home", str(place))

    def read() -> object:
        return board(find_study(place, study.store.name).snapshot(), "dice")

    run(Kind(1_000, spoil, read, words, least_refused=0), "files of a study")


def test_tables_of_groups(home: Path, tmp_path: Path):
    drawn, file = load_dataset(home, "drawn"), tmp_path / "groups.csv"
    data = (home / "frames" / "groups.csv").read_bytes()
    stems = [case.id.partition("/")[2] for case in drawn.cases]

    def spoil(random: Random) -> None:
        table = [line.split(",") for line in data.decode().splitlines()]
        file.write_bytes(either(data, table, lambda rows: _as_csv(rows, random), random))

    def read() -> object:
        table = read_groups(file, stems)
        if table.problems:
            raise UserError("groups.csv", table.problems)
        return table

    words = ("data", "add", "other", str(home / "frames"), "--allow-empty", "--groups", str(file))
    kind = Kind(1_000, spoil, read, (*words, "--home", str(tmp_path / "home")))
    run(kind, "tables of groups")


def _as_csv(rows: Any, random: Random) -> bytes:
    listed = rows if isinstance(rows, list) else [rows]
    separator = random.choice(",,,;\t|")
    lines = (separator.join(map(str, row if isinstance(row, list) else [row])) for row in listed)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _as_toml(document: Any) -> bytes:
    """Tables as inline ones: what a text in TOML can say, and some that it cannot."""
    if not isinstance(document, dict):
        return as_json(document)
    lines = []
    for key, value in document.items():
        if isinstance(value, dict):
            lines += [f"[{_key(key)}]", *(f"{_key(name)} = {_inline(one)}" for name, one in value.items())]
        else:
            lines.insert(0, f"{_key(key)} = {_inline(value)}")
    return "\n".join(lines).encode()


def _key(key: str) -> str:
    return key if key.isidentifier() else json.dumps(key)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    text = as_json(value).decode()
    return {"NaN": "nan", "1e999": "inf"}.get(text, text)
