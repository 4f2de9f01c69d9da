"""The command line in this process: what it prints, where, and which exit code it leaves behind."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from damages import DAMAGES
from formula import formula_study
from tiny_space import tiny_space

from orchestrator.cli import main
from orchestrator.data.cases import list_datasets, load_dataset, load_datasets
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.splits.plan import make_plan
from orchestrator.results.export.bundle import Bundle
from orchestrator.results.mlflow.client import connect
from orchestrator.results.views.score_lines import epoch_line
from orchestrator.search.space.space_file import load_space
from orchestrator.search.store.study_store import StudyStore
from orchestrator.terminal.printing import print_json

SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.toml"))
TINY = tiny_space(batch_size=4)
THREE_MISTAKES = """
network = "unte"
[search]
learning_rate = { log_uniform = [0, 1] }
[fixed]
epohs = 3
"""
HALF_A_SPLIT = '{"format": 2, "name": "mine"}'


@dataclass(frozen=True)
class Done:
    """A command that is over."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[[str], Done]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a drawn dataset and a study whose trials have not begun. Tests may add to it, not change it."""
    home = tmp_path_factory.mktemp("home")
    draw_dataset(home / "frames", num_cases=24, size=32)
    add_dataset(home, "drawn", home / "frames", groups=home / "frames" / "groups.csv", allow_empty=True)
    study = formula_study(home, num_trials=1)
    study.store.begin(study.space, study.plan, study.spec)
    return home


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Fits this small only wait for one another's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command line as the shell would, in a folder that holds a few files to name."""
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "mistakes.toml").write_text(THREE_MISTAKES)
    (tmp_path / "half.json").write_text(HALF_A_SPLIT)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(home))

    def run(line: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["orchestrator", *shlex.split(line)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fit tiny.toml --data drwan", ["no dataset is named 'drwan'", "known: drawn"]),
        ("plan tiny.toml --data drwan --gpus 2", ["no dataset is named 'drwan'"]),
        ("plan tiny.toml --data drawn --unseen drwan --gpus 2", ["no dataset is named 'drwan'"]),
        ("data show drwan", ["no dataset is named 'drwan'", "known: drawn"]),
        (
            "data add two/words frames",
            ["expected a dataset name of at most", "letters, digits", "Kvasir-SEG"],
        ),
        ("data add other nosuch", ["nosuch"]),
        ("data add other empty", ["empty: it is empty; expected images with masks"]),
        ("data draw empty/x --cases 0", ["'--cases'"]),
        ("space check nosuch.toml", ["nosuch.toml"]),
        ("space check mistakes.toml", ["3 problems", "'unte'", "resunet_pp", "epohs", "log_uniform"]),
        ("fit mistakes.toml --data drawn", ["3 problems"]),
        (
            "fit tiny.toml --data drawn --set epohs=3 --set loss=bec",
            ["--set: 2 problems", "epohs", "bce_dice"],
        ),
        ("fit mistakes.toml --data drwan", ["3 problems", "error: ", "no dataset is named 'drwan'"]),
        ("plan mistakes.toml --data drwan --gpus 2", ["3 problems", "no dataset is named 'drwan'"]),
        (
            "search mistakes.toml --data drwan --trials 1 --fits-per-gpu 2 --workers-per-fit 2",
            ["3 problems", "no dataset is named 'drwan'", "--fits-per-gpu"],
        ),
        ("fit tiny.toml --data drawn --set epochs", ["--set", "key=value"]),
        ("fit tiny.toml --data drawn --fold 5", ["--fold", "below 5", "found 5"]),
        ("fit tiny.toml --data drawn --splits ten-fold", ["--splits", "five-fold", "'ten-fold'"]),
        ("fit tiny.toml --data drawn --splits half.json", ["half.json", "folds", "required"]),
        ("search tiny.toml --data drawn --splits cross-dataset --trials 1", ["cross-dataset", "--unseen"]),
        ("data split drawn --splits leave-one-dataset-out", ["2 datasets", "found 1 (drawn)"]),
        ("data split drawn --splits k-fold:99", ["99-fold", "expected enough groups"]),
        ("data split drwan", ["no dataset is named 'drwan'"]),
        ("fit tiny.toml --data drawn --holdout 0.9", ["'--holdout'", "0.5"]),
        ("fit tiny.toml --data drawn --device tpu", ["--device", "'tpu'", "cuda"]),
        ("search tiny.toml --data drawn --unseen drawn --trials 1", ["drawn is named 2 times"]),
        (
            "search tiny.toml --data drawn --trials 0",
            ["--trials: expected greater than or equal to 1, found 0"],
        ),
        (
            "search tiny.toml --data drwan --trials 0 --lanes 0",
            ["--trials", "found 0", "no dataset is named 'drwan'; did you mean drawn?", "--lanes"],
        ),
        ("plan tiny.toml --data drwan --gpus 2 --trials 0", ["--trials", "no dataset is named 'drwan'"]),
        ("search tiny.toml --data drawn --trials 1 --hours -1", ["--hours"]),
        ("search tiny.toml --data drawn --trials 1 --hours inf", ["--hours: expected a finite number"]),
        ("search tiny.toml --data drawn --trials 1 --seed 4294967296", ["--seed", "4294967295"]),
        ("search tiny.toml --data drawn --trials 1 --storage postgresql://me@host:abc/db", ["--storage"]),
        ("plan tiny.toml --data drawn --gpus 2 --failures inf", ["'--failures'", "finite"]),
        ("leaderboard --home tiny.toml", ["tiny.toml"]),
        ("best nosuch --metric dcie --export tiny.toml", ["nosuch", "'dcie'", "found a file"]),
        ("search tiny.toml --data drawn", ["--trials, --hours, --gpu-hours, --epochs or --until-unlikely"]),
        ("search tiny.toml --data drawn --epochs 0", ["--epochs"]),
        ("search tiny.toml --data drawn --trials 1 --study a/b", ["--study", "'a/b'"]),
        (
            "search tiny.toml --data drawn --trials 1 --workers-per-fit 3",
            ["batch_size: 4", "evenly over 3 workers"],
        ),
        ("search mistakes.toml --data drawn --trials 1 --address ray://head:10001", ["3 problems"]),
        ("leaderboard nosuch", ["nosuch", "known: formula"]),
        ("leaderboard --metric dcie", ["--metric", "'dcie'", "dice, iou"]),
        ("leaderboard nosuch --metric dcie", ["nosuch", "'dcie'"]),
        ("compare nosuch neither:1 --metric dcie", ["'nosuch'", "'neither'", "'dcie'"]),
        ("compare formula formula:7", ["no finished trial", "no trial '7'"]),
        ("status nosuch", ["nosuch", "known: formula"]),
        ("best nosuch", ["nosuch", "known: formula"]),
        ("best --metric dcie", ["--metric", "'dcie'", "dice, iou"]),
        ("best formula", ["formula", "no finished trial", "orchestrator search"]),
        ("leaderboard --home empty", ["empty", "no study yet"]),
        ("evaluate empty --data drawn --out tiny.toml", ["--out", "expected a folder", "found a file"]),
        ("data add other ''", ["expected a value after 'data add other', found an empty one"]),
        ("data add other frames --groups ' '", ["--groups', found an empty one"]),
        ("predict empty '' --out masks", ["found an empty one"]),
        ("predict nosuch image.png --out masks", ["nosuch", "exported model"]),
        (
            "predict empty image.png --out masks",
            ["empty: 5 problems", "model.onnx: missing", "best --export"],
        ),
        ("serach tiny.toml", ["serach", "search"]),
    ],
)
def test_a_mistake_is_one_message_on_stderr_and_exit_code_2(run: Run, line: str, said: list[str]):
    done = run(line)
    assert done.code == 2, done
    assert done.out == ""
    assert "Traceback" not in done.err
    assert [words for words in said if words not in done.err] == [], done.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that is missed here")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_read_or_trained(run: Run):
    done = run("fit tiny.toml --data drawn --device cuda")
    assert done.code == 2
    assert "--device: cuda needs a GPU" in done.err and "--device cpu" in done.err


def test_data_goes_from_drawing_to_a_clean_check(run: Run):
    assert "frames: 6 frames" in run("data draw frames --cases 6 --size 32 --centers 2 --seed 3").out
    added = run("data add six frames --groups frames/groups.csv --allow-empty")
    assert added.code == 0 and "six: 6 cases" in added.out
    assert "six: 6 cases" in run("data list").out
    assert "32x32" in run("data show six").out
    assert "all 6 pairs are unchanged" in run("data check six").out


def test_an_import_says_what_it_took_the_source_for_and_which_parts_it_has(run: Run, home: Path):
    for part in ("TrainDataset", "TestDataset/CVC-300"):
        shutil.copytree(home / "frames", f"bundle/{part}", ignore=shutil.ignore_patterns("*.csv"))
    refused = run("data add bundle bundle --allow-empty")
    assert refused.code == 2
    assert (
        "'TrainDataset' (PraNet bundle, 24 frames), 'TestDataset/CVC-300' (PraNet bundle, 24" in refused.err
    )
    added = run("data add bundle bundle --allow-empty --part CVC-300")
    assert added.code == 0, added.err
    assert added.out.startswith("recognised as PraNet bundle (")
    assert run("data show bundle --json").json["layout"].endswith("; TestDataset/CVC-300)")


def test_a_split_is_written_without_a_study_and_named_by_other_commands(run: Run):
    shown = run("data split drawn --splits leave-one-center-out --seed 3 --out plans/centers.json")
    assert shown.code == 0, shown.err
    assert [f"center drawn/center{number}" in shown.out for number in (1, 2, 3)] == [True] * 3
    assert "hold-out test" in shown.out and "written to plans/centers.json" in shown.out
    said = run("data split drawn --splits plans/centers.json --json").json
    assert said["name"] == "leave-one-center-out-seed3"
    parts = {(part["fold"], part["part"]): part for part in said["parts"]}
    assert len(parts) == 2 * 3 + 1
    for number in (1, 2, 3):
        train, val = (parts[f"center drawn/center{number}", part] for part in ("train", "val"))
        assert val["centers"] == {f"drawn/center{number}": val["num_cases"]}
        assert train["num_cases"] + val["num_cases"] + parts[None, "hold-out test"]["num_cases"] == 24
    trained = run(
        "fit tiny.toml --data drawn --splits plans/centers.json --fold 1 --device cpu --set epochs=1"
    )
    assert "fold 1 of leave-one-center-out-seed3" in trained.out


def test_json_about_data_is_all_that_stdout_holds(run: Run):
    shown = run("data show drawn --json").json
    assert (shown["name"], shown["cases"], len(shown["centers"])) == ("drawn", 24, 3)
    assert any(shown.items() >= listed.items() for listed in run("data list --json").json)
    assert run("data list --home empty --json").json == []


def test_frames_of_one_place_are_listed_and_kept_together_unless_told_not_to(run: Run):
    done = run("data leaks drawn --json")
    assert done.code == 0 and set(done.json) == {"near_duplicates", "groups"}
    assert "pairs of frames of one place" in run("data leaks drawn").out
    assert run("data leaks drwan").code == 2
    num_near_duplicates = len(done.json["near_duplicates"])
    split = run("data split drawn --splits k-fold:2 --json")
    assert (
        split.json["near_duplicates"] == {"within": num_near_duplicates, "between": 0}
        and num_near_duplicates > 10
    )
    found = f"near-duplicates: {num_near_duplicates} pairs within datasets and 0 between them, kept together; 0 unseen"
    assert found in split.err
    assert (
        run("data split drawn --splits k-fold:2 --no-near-duplicates --json").json["near_duplicates"] is None
    )


def test_drawn_frames_are_near_duplicates_of_their_own_video_alone(run: Run, home: Path):
    group_of = {case.id: case.group for case in load_dataset(home, "drawn").cases}
    near_duplicates = run("data leaks drawn --json").json["near_duplicates"]
    assert all(group_of[pair["one"]] == group_of[pair["other"]] for pair in near_duplicates)


@pytest.fixture
def own_split(run: Run, home: Path) -> str:
    """Two folds that part the frames of every video, of a dataset whose videos nobody knows."""
    if "loose" not in [dataset.name for dataset in list_datasets(home)]:
        add_dataset(home, "loose", home / "frames", allow_empty=True)
    ids = [case.id for case in load_dataset(home, "loose").cases]
    halves = ids[::2], ids[1::2]
    folds = [{"train": halves[i], "val": halves[1 - i]} for i in (0, 1)]
    Path("own.json").write_text(json.dumps({"folds": folds}))
    return "own.json"


def test_a_split_of_ones_own_that_parts_near_duplicates_is_refused_unless_nobody_looks(
    run: Run, own_split: str
):
    refused = run(f"data split loose --splits {own_split}")
    assert refused.code == 2 and "these groups are in train and in val" in refused.err
    assert "--no-near-duplicates accepts the file" in refused.err
    taken = run(f"data split loose --splits {own_split} --no-near-duplicates --json --out written.json")
    assert taken.json["near_duplicates"] is None and taken.json["name"] == "own-by-image"
    again = run("data split loose --splits written.json --json")
    assert again.json["digest"] == taken.json["digest"]
    assert "not searched for when this file was written" in again.err


def test_a_study_that_was_begun_without_near_duplicates_says_how_to_go_on(run: Run, home: Path):
    add_dataset(home, "again", home / "frames", groups=home / "frames" / "groups.csv", allow_empty=True)
    space, data = load_space(Path("tiny.toml")), load_datasets(home, ["again"])
    study = StudyStore(home, "before")
    study.begin(space, make_plan("five-fold", data, seed=0))
    asked = "search tiny.toml --data again --trials 1 --study before"
    refused = run(asked)
    assert refused.code == 2 and "was without looking for near-duplicates, now with" in refused.err
    assert f"--splits {study.splits_file} goes on with it as it was begun" in refused.err


def test_other_unseen_data_is_refused_before_frames_are_compared(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
):
    space, data = load_space(Path("tiny.toml")), load_datasets(home, ["drawn"])
    StudyStore(home, "kept").begin(space, make_plan("five-fold", data, seed=0, near_duplicates=()), 0)
    add_dataset(home, "further", home / "frames", allow_empty=True)
    monkeypatch.setattr("orchestrator.data.near_duplicates.find.find_near_duplicates", None)
    refused = run("search tiny.toml --data drawn --unseen further --trials 1 --study kept --seed 5")
    assert refused.code == 2 and "unseen: was none, now further" in refused.err
    assert "seed: was 0, now 5" in refused.err


def test_a_split_of_another_kind_is_refused_with_all_else_that_changed(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
):
    space, data = load_space(Path("tiny.toml")), load_datasets(home, ["drawn"])
    StudyStore(home, "kept").begin(space, make_plan("five-fold", data, seed=0, near_duplicates=()), 0)
    monkeypatch.setattr("orchestrator.data.near_duplicates.find.find_near_duplicates", None)
    refused = run(
        "search tiny.toml --data drawn --splits k-fold:3 --trials 1 --study kept --constraint gmacs<=3"
    )
    assert refused.code == 2 and "splits: was five-fold, now 3-fold" in refused.err
    assert "constraints: was none, now gmacs<=3" in refused.err


def test_a_search_tells_of_the_study_of_the_same_data_in_which_near_duplicates_were_not_looked_for(
    run: Run, home: Path, own_split: str
):
    data = load_datasets(home, ["loose"])
    before = "tiny-loose-3-fold-by-image-seed0"
    StudyStore(home, before).begin(load_space(Path("tiny.toml")), make_plan("k-fold:3", data, seed=0), 0)
    # The width is refused after the split was made, and before anything is trained.
    done = run("search tiny.toml --data loose --splits k-fold:3 --trials 1 --workers-per-fit 3")
    assert (
        f"study {before} was begun without looking for near-duplicates; --no-near-duplicates goes on"
        in done.err
    )
    done = run(
        "search tiny.toml --data loose --splits k-fold:3 --no-near-duplicates --trials 1 --workers-per-fit 3"
    )
    assert "begun without" not in done.err and "evenly over 3 workers" in done.err


def test_a_study_named_by_an_earlier_version_is_the_one_that_goes_on(run: Run, home: Path, own_split: str):
    data = load_datasets(home, ["loose"])
    plan = make_plan("k-fold:3", data, seed=0, near_duplicates=())
    StudyStore(home, "tiny-loose-3-fold-by-twins-seed0").begin(load_space(Path("tiny.toml")), plan, 0)
    done = run(
        "search tiny.toml --data loose --splits k-fold:3 --trials 1 --race none --objective worst-fold"
    )
    assert done.code == 2 and "3-fold-by-twins-seed0" in done.err and "worst-fold" in done.err


def test_a_home_without_data_says_how_to_import_some(run: Run):
    assert "orchestrator data add NAME PATH" in run("data list --home empty").out


def test_nothing_of_a_folder_with_a_broken_image_is_imported(run: Run):
    run("data draw frames --cases 4 --size 32")
    images = sorted(Path("frames/images").iterdir())
    images[0].write_bytes(b"no image")
    images[2].unlink()
    refused = run("data add broken frames --allow-empty")
    assert refused.code == 2
    assert images[0].name in refused.err and images[2].stem in refused.err
    assert "broken" not in [dataset["name"] for dataset in run("data list --json").json]


def test_a_file_that_is_damaged_after_import_is_found(run: Run):
    run("data draw frames --cases 4 --size 32")
    run("data add spoiled frames --allow-empty --home spoiled")
    mask = sorted(Path("spoiled/datasets/spoiled/masks").iterdir())[1]
    mask.write_bytes(mask.read_bytes()[:-20])
    done = run("data check spoiled --home spoiled")
    assert done.code == 2
    assert f"spoiled/{mask.stem}: the bytes are not those that were imported" in done.err


# What the command checks of the others is checked without it in tests/test_search_spaces.py.
@pytest.mark.parametrize(
    "file", [file for file in SPACES if file.stem in ("unet", "which_network")], ids=lambda file: file.stem
)
def test_a_shipped_space_is_good(run: Run, file: Path):
    done = run(f"space check {file}")
    assert done.code == 0, done.err
    assert f"{file}: valid" in done.out and "learning_rate" in done.out


def test_the_schema_is_printed_as_json(run: Run):
    assert {"network", "search", "fixed", "baseline"} <= run("space schema").json["properties"].keys()


def test_a_fit_prints_its_epochs_and_scores_once_and_the_same_scores_again(run: Run):
    first = run("fit tiny.toml --data drawn --fold 2 --device cpu")
    assert first.code == 0, first.err
    assert "epoch 1/2" in first.out and "epoch 2/2" in first.out and "at threshold" in first.out
    again = run("fit tiny.toml --data drawn --fold 2 --device cpu")
    assert "epoch 1/2" not in again.out, "it was trained twice"
    assert again.out.splitlines() == [line for line in first.out.splitlines() if "images/s" not in line]


def test_an_epoch_without_validation_shows_no_dice():
    row = {"epoch": 0, "train_loss": 0.5, "val_dice": 0.25, "learning_rate": 1e-3, "images_per_second": 8.0}
    assert epoch_line(row, 3) == "epoch 1/3  loss 0.5000  val dice 25.00  lr 1.00e-03  8.0 images/s"
    assert epoch_line(row | {"val_dice": math.nan}, 3) == "epoch 1/3  loss 0.5000  lr 1.00e-03  8.0 images/s"


def test_numbers_that_are_not_finite_are_null_in_json(capsys: pytest.CaptureFixture[str]):
    print_json({"scores": [{"recall": math.nan}, (-math.inf, 0.5)], "none": None, "count": 3}, indent=None)
    assert (
        capsys.readouterr().out == '{"scores": [{"recall": null}, [null, 0.5]], "none": null, "count": 3}\n'
    )


def test_set_changes_what_is_trained(run: Run):
    done = run(
        "fit tiny.toml --data drawn --device cpu --set epochs=1 --set loss=bce --set base_channels=6 --set momentum=0.5"
    )
    assert done.code == 0, done.err
    assert "--set momentum has no effect" in done.err and "--set loss" not in done.err
    assert "epoch 1/1" in done.out and "epoch 2" not in done.out


def test_a_plan_forecasts_every_width_that_divides_the_batch_with_and_without_a_race(run: Run):
    done = run("plan tiny.toml --data drawn --gpus 2 --trials 4 --sampled 1 --price 3 --rescore 0 --json")
    assert done.code == 0
    rows = done.json["forecasts"]
    assert [(row["race"], row["width"], row["num_lanes"]) for row in rows] == [
        (race, width, 2 // width) for race in ("none", "paired") for width in (1, 2)
    ]
    assert {row["fits"] for row in rows if row["race"] == "none"} == {20}
    assert all(row["fits"] < 20 for row in rows if row["race"] == "paired")
    again = run("plan tiny.toml --data drawn --gpus 1 --trials 4 --sampled 1 --race none --json").json
    assert all(20 < row["fits"] <= 20 + 3 * 5 for row in again["forecasts"])  # finalists twice
    assert all(row["cost"] == pytest.approx(3 * row["gpu_hours"], abs=0.01) for row in rows)


def test_a_plan_leaves_each_worker_the_images_that_its_network_needs(run: Run):
    text = TINY.replace('"unet"', '"deeplabv3p_mobilenet"').replace("base_channels = 4", "pretrained = false")
    Path("small.toml").write_text(text)
    done = run("plan small.toml --data drawn --gpus 4 --trials 2 --sampled 0 --rescore 0 --race none --json")
    assert done.code == 0, done.err
    assert [row["width"] for row in done.json["forecasts"]] == [1, 2]


def test_a_plan_knows_the_splits_of_a_search_with_unseen_datasets(run: Run, home: Path):
    add_dataset(home, "unseen", home / "frames", allow_empty=True)
    assert (
        run(
            "data split drawn --unseen unseen --splits cross-dataset --no-near-duplicates --out far.json"
        ).code
        == 0
    )
    for splits in ("cross-dataset", "far.json"):
        done = run(
            f"plan tiny.toml --data drawn --unseen unseen --splits {splits} --gpus 1 --trials 4 --sampled 0 --json"
        )
        assert done.code == 0, done.err


def test_a_fit_that_diverges_is_a_failure_not_a_mistake(run: Run):
    # Each step makes the weights nine times larger, with the other sign.
    explosive = "--set learning_rate=10 --set weight_decay=1 --set schedule=constant --set epochs=40"
    done = run(f"fit tiny.toml --data drawn --no-near-duplicates --device cpu --set batch_size=2 {explosive}")
    assert done.code == 1, done.out
    assert done.err.startswith("failed: ") and "learning rate" in done.err, done.err


def test_help_of_every_command_waits_for_no_heavy_library():
    program = """
import sys, typer
from orchestrator.cli import app
def show(command, path):
    command.main([*path, "--help"], prog_name="orchestrator", standalone_mode=False) if not path else None
    for name, below in getattr(command, "commands", {}).items():
        print("#", *path, name)
        below.main(["--help"], prog_name=name, standalone_mode=False)
        show(below, [*path, name])
show(typer.main.get_command(app), [])
heavy = {"torch", "ray", "mlflow", "optuna", "numpy", "cv2", "timm", "pydantic"} & sys.modules.keys()
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    commands = [line[2:] for line in done.stdout.splitlines() if line.startswith("# ")]
    assert {"search", "fit", "status", "best", "leaderboard", "predict", "data add", "space check"} <= set(
        commands
    )


@pytest.mark.parametrize(
    "line",
    [
        "fit tiny.toml --data changed --no-near-duplicates --splits k-fold:2",
        "search tiny.toml --data changed --no-near-duplicates --splits k-fold:2 --trials 1 --address local",
        "plan tiny.toml --data changed --gpus 1 --splits k-fold:2",
        "data split changed --no-near-duplicates",
    ],
)
def test_data_that_changed_in_the_home_is_refused_before_anything_begins(run, tmp_path, monkeypatch, line):
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    draw_dataset(tmp_path / "frames", num_cases=8, size=32)
    one, other, *_ = add_dataset(tmp_path, "changed", tmp_path / "frames", allow_empty=True).cases
    one.image.write_bytes(other.image.read_bytes())
    done = run(line)
    assert done.code == 2 and f"images/{one.image.name}: not the bytes that were imported" in done.err


def test_a_file_that_ends_early_is_a_bug_and_no_sign_of_ctrl_d(run, monkeypatch):
    def ends(*_: object) -> None:
        raise EOFError("No data left in file")

    monkeypatch.setattr("orchestrator.data.cases.list_datasets", ends)
    done = run("data list")
    assert done.code == 1 and "EOFError: No data left in file" in done.err and "Aborted" not in done.err


def test_a_name_that_cannot_be_and_a_split_that_cannot_be_are_reported_together(run):
    done = run(
        "search tiny.toml --data drawn --study ../../x --splits k-fold:9999 --trials 1 --no-near-duplicates"
    )
    assert (
        done.code == 2
        and "--study: needs letters, digits" in done.err
        and "9999-fold and a hold-out" in done.err
    )
    long = "x" * 300
    assert "--study: needs at most 240 characters" in run(f"leaderboard {long}").err
    assert "expected a dataset name of at most 100 letters" in run(f"data add {long} {__file__}").err


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_dataset_is_named_with_what_mends_it(run, tmp_path, monkeypatch, kind: str):
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    draw_dataset(tmp_path / "frames", num_cases=3, size=32)
    file = add_dataset(tmp_path, "drawn", tmp_path / "frames", allow_empty=True).folder / "dataset.json"
    DAMAGES[kind](file)
    done = run("data show drawn")
    assert done.code == 2 and str(file) in done.err and "restore it from a copy, or move" in done.err


def test_space_check_shows_what_is_swept_what_is_fixed_and_what_has_no_effect(run: Run, tmp_path: Path):
    text = run("space check unet").out
    assert (
        "threshold  0.05 to 0.95" in text and "epochs  120" in text and "learning_rate  1e-05 to 0.01" in text
    )
    idle = tmp_path / "idle.toml"
    idle.write_text('network = "unet"\n[fixed]\nmomentum = 0.5\n')
    done = run(f"space check {idle} --json")
    assert "momentum has no effect" in done.err and done.json["without_effect"] == done.err.splitlines()
    plain = run("space check unet --json").json
    assert plain["swept"] == {"threshold": [0.05, 0.95]} and plain["fixed"]["epochs"] == 120


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("data check drawn --json", {"name", "cases", "fingerprint"}),
        ("data draw more --cases 2 --size 32 --json", {"folder", "cases", "groups"}),
        ("data preview drawn --cases 1 --size 32 --json", {"file", "pipelines"}),
        ("models show unet --json", {"parameters", "outline", "options", "search_space"}),
        (
            "fit tiny.toml --data drawn --no-near-duplicates --splits k-fold:2 --device cpu --set epochs=1 --json",
            {"fit_id", "scores", "threshold", "folder"},
        ),
    ],
)
def test_json_is_all_that_stands_on_stdout(run: Run, line: str, keys: set[str]):
    done = run(line)
    assert done.code == 0 and keys <= done.json.keys(), done.err


def test_a_fit_leaves_a_bundle_and_one_run_in_mlflow_where_these_are_asked_for(run: Run, tmp_path: Path):
    uri = f"sqlite:///{tmp_path / 'fits.db'}"
    line = (
        "fit tiny.toml --data drawn --no-near-duplicates --splits k-fold:2 --device cpu --set epochs=1 "
        f"--export bundle --log --tracking-uri {uri} --json"
    )
    first, second = run(line).json, run(line).json
    logged = connect(uri).get_run(first["run_id"])
    assert logged.data.metrics["dice"] == pytest.approx(first["scores"]["dice"])
    assert logged.data.params["network"] == "unet" and logged.info.status == "FINISHED"
    assert second["run_id"] == first["run_id"]
    assert Bundle.load(Path(first["bundle"])).config.network == "unet"
    assert "Not a medical device" in (tmp_path / "bundle" / "model_card.md").read_text()
    other = run(line.replace("--set epochs=1", "--set epochs=1 --fold 1"))  # nobody can be asked here
    assert other.code == 2 and "holds another network" in other.err and "--yes" in other.err


def test_a_fit_that_could_not_be_exported_is_not_trained(run: Run):
    done = run("fit tiny.toml --data drwan --export empty/../frames.txt --log --tracking-uri /folder")
    assert done.code == 2 and "drwan" in done.err and "MLFLOW_TRACKING_URI" in done.err
