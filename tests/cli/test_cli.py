"""The command line in this process: what it prints, where, and which exit code it leaves behind."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typed import Run

from orchestrator.terminal.printing import print_json

SPACES = Path(__file__).parents[2] / "search_spaces"


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
        ("data split drwan --splits k-fold:99", ["no dataset is named 'drwan'", "99-fold"]),
        (
            "search tiny.toml --data drwan --splits k-fold:99 --trials 0 --constraint parameters",
            ["no dataset is named 'drwan'", "with drawn: 99-fold", "--trials", "--constraint"],
        ),
        ("search tiny.toml --data drwan --splits k-fod:5 --trials 1", ["'drwan'", "did you mean k-fold:N?"]),
        ("fit tiny.toml --data 0 --splits k-fold:1", ["'0'; known: drawn", "at least 2 folds, found 1"]),
        (
            "search tiny.toml --data drwan --trials 1 --objective worst-fold --race paired",
            ["no dataset is named 'drwan'", "--race paired stops a trial"],
        ),
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


# What the command checks of the others is checked without it in tests/test_search_spaces.py.
@pytest.mark.parametrize("name", ["unet", pytest.param("which_network", marks=pytest.mark.slow)])
def test_a_shipped_space_is_good(run: Run, name: str):
    file = SPACES / f"{name}.toml"
    done = run(f"space check {file}")
    assert done.code == 0, done.err
    assert f"{file}: valid" in done.out and "learning_rate" in done.out


def test_the_schema_is_printed_as_json(run: Run):
    assert {"network", "search", "fixed", "baseline"} <= run("space schema").json["properties"].keys()


def test_numbers_that_are_not_finite_are_null_in_json(capsys: pytest.CaptureFixture[str]):
    print_json({"scores": [{"recall": math.nan}, (-math.inf, 0.5)], "none": None, "count": 3}, indent=None)
    assert (
        capsys.readouterr().out == '{"scores": [{"recall": null}, [null, 0.5]], "none": null, "count": 3}\n'
    )


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
