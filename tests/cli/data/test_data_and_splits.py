"""Commands about datasets and splits, in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from damages import DAMAGES
from typed import Run

from orchestrator.data.cases import list_datasets, load_dataset, load_datasets
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.splits.plan import make_plan
from orchestrator.search.space.space_file import load_space
from orchestrator.search.store.study_store import StudyStore


def test_data_goes_from_drawing_to_a_clean_check(run: Run):
    assert "frames: 6 frames" in run("data draw frames --cases 6 --size 32 --centers 2 --seed 3").out
    added = run("data add six frames --groups frames/groups.csv --allow-empty")
    assert added.code == 0 and "six: 6 cases" in added.out
    assert "six: 6 cases" in run("data list").out
    shown = run("data show six").out
    assert "32x32" in shown and "centers  center1, center2\n" in shown
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
    assert "pairs of frames that show one place" in run("data leaks drawn").out
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
    assert f"--splits {study.splits_file} continues the study as it was begun" in refused.err


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
        f"study {before} was begun without looking for near-duplicates; --no-near-duplicates continues it"
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


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_dataset_is_named_with_what_mends_it(run, tmp_path, monkeypatch, kind: str):
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    draw_dataset(tmp_path / "frames", num_cases=3, size=32)
    file = add_dataset(tmp_path, "drawn", tmp_path / "frames", allow_empty=True).folder / "dataset.json"
    DAMAGES[kind](file)
    done = run("data show drawn")
    assert done.code == 2 and str(file) in done.err and "restore it from a copy, or move" in done.err
