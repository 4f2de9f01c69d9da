"""An exported model on a dataset: which cases count, what each scores, and where the score comes from."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import orchestrator as po
from orchestrator.cli import main
from orchestrator.common.display import Display
from orchestrator.common.errors import BadBundle, BadData
from orchestrator.data.cases import Case, Dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.splits.plan import group_of_case
from orchestrator.results.case_scores import (
    NO_POLYP,
    CaseScores,
    breakdown,
    means,
    size_of,
    worst_first,
)
from orchestrator.results.export.bundle import BundleConfig, ExportedModel
from orchestrator.results.export.evaluation import (
    NEAR_DUPLICATE,
    RELATED,
    SEEN,
    cases_to_score,
    datasets_seen,
    evaluate,
    images_per_second,
    mixed,
    why_left_out,
    worst_sheet,
    worst_title,
    write_csv,
)
from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.evaluation_run import origin_of
from orchestrator.scoring.components import count_polyps
from orchestrator.scoring.mask_scores import score_masks
from orchestrator.scoring.metrics import REGISTRY
from orchestrator.scoring.statistics import cluster_interval


def of_class(one: CaseScores, *classes: str) -> CaseScores:
    return replace(one, case=replace(one.case, classes=classes))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    home = tmp_path_factory.mktemp("home")
    draw_dataset(home / "frames", num_cases=8, size=32, seed=1)
    return add_dataset(
        home, "other", home / "frames", groups=home / "frames" / "groups.csv", allow_empty=True
    )


@pytest.fixture(scope="module")
def scored(exported: Path, drawn: Dataset) -> list[CaseScores]:
    return list(evaluate(ExportedModel.load(exported), drawn.cases, groups(drawn)))


def groups(*datasets: Dataset, near_duplicates: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    return group_of_case(datasets, near_duplicates)


def config(**changed: object) -> BundleConfig:
    plain = {
        "network": "tiny",
        "network_params": {},
        "image_size": 32,
        "threshold": 0.5,
        "trained_on": {},
        "held_out": (),
        "sha256": dict.fromkeys(("model.onnx", "model.safetensors"), "0" * 64),
    }
    return BundleConfig(**plain | changed)


def case(fraction: float, dice: float = 0.5, *, id: str = "near/1", center: str | None = None) -> CaseScores:
    of = Case(id, "near", f"near/{id}", center, Path("i"), Path("m"), 10, 10, fraction, "")
    six = dict.fromkeys(("dice", "iou", "precision", "recall", "f2", "accuracy"), dice)
    return CaseScores(of, of.group, six, 0.5)


def test_all_cases_of_a_dataset_that_the_model_never_saw_count(drawn: Dataset):
    told = config(trained_on={"other": "1" * 32})
    assert cases_to_score(told, [drawn], [], groups(drawn)) == (list(drawn.cases), {})


def test_of_its_own_dataset_only_the_hold_out_counts_whatever_the_dataset_is_called_here(drawn: Dataset):
    first = drawn.cases[0].group
    held_out = tuple(case.id for case in drawn.cases if case.group == first)
    told = config(trained_on={"called otherwise": drawn.fingerprint}, held_out=held_out)
    kept, left_out = cases_to_score(told, [drawn], [], groups(drawn))
    assert tuple(case.id for case in kept) == held_out
    assert left_out == {"near": 16 - len(held_out)}


def test_a_hold_out_case_with_a_twin_in_training_does_not_count(drawn: Dataset):
    first, last = drawn.cases[0].group, drawn.cases[-1].group
    held_out = tuple(case.id for case in drawn.cases if case.group in (first, last))
    told = config(trained_on={"near": drawn.fingerprint}, held_out=held_out)
    seen = next(case for case in drawn.cases if case.id not in held_out)
    group_of = groups(drawn, near_duplicates=[(drawn.cases[0].id, seen.id)])
    kept, _ = cases_to_score(told, [drawn], [], group_of)
    assert {case.group for case in kept} == {last}


def test_a_case_with_a_twin_in_what_training_saw_does_not_count_and_one_of_the_hold_out_does(
    drawn: Dataset, other: Dataset
):
    held_out = tuple(case.id for case in other.cases if case.group == other.cases[0].group)
    told = config(trained_on={"other": other.fingerprint}, held_out=held_out)
    near_duplicates = [(drawn.cases[0].id, other.cases[0].id), (drawn.cases[-1].id, other.cases[-1].id)]
    kept, left_out = cases_to_score(
        told, [drawn], [other], groups(drawn, other, near_duplicates=near_duplicates)
    )
    gone = [case for case in drawn.cases if case.group == drawn.cases[-1].group]
    assert kept == [case for case in drawn.cases if case not in gone]
    assert left_out == {"near": len(gone)}


def test_every_case_that_is_left_out_has_its_reason(drawn: Dataset, other: Dataset):
    group = Counter(case.group for case in drawn.cases).most_common(1)[0][0]
    last = [case.id for case in drawn.cases if case.group == group]
    told = config(trained_on={"near": drawn.fingerprint}, held_out=(last[0],), twins=(other.cases[0].id,))
    reasons = why_left_out(told, [drawn, other], [], groups(drawn, other))
    assert {reasons[id] for id in last[1:]} == {SEEN} and len(last) > 1
    assert reasons[last[0]] == RELATED and reasons[other.cases[0].id] == NEAR_DUPLICATE
    assert len(reasons) == len(drawn.cases) + 1


def test_what_the_model_saw_is_found_by_content_and_what_is_not_here_is_named(drawn: Dataset, other: Dataset):
    trained_on = {"near": drawn.fingerprint, "its first name": other.fingerprint, "gone": "1" * 32}
    assert datasets_seen(config(trained_on=trained_on), [drawn], [drawn, other]) == ((other,), ["gone"])
    assert datasets_seen(config(), [drawn], [drawn, other]) == ((), [])


def test_twins_of_what_training_saw_do_not_count_in_other_datasets(drawn: Dataset):
    told = config(trained_on={"other": "1" * 32}, twins=(drawn.cases[2].id, drawn.cases[5].id))
    kept, left_out = cases_to_score(told, [drawn], [], groups(drawn))
    assert len(kept) == 14 and drawn.cases[2] not in kept
    assert left_out == {"near": 2}


def test_a_dataset_of_which_training_saw_everything_is_refused(drawn: Dataset):
    with pytest.raises(BadData, match="near: the model was trained or selected on all of its cases"):
        cases_to_score(config(trained_on={"near": drawn.fingerprint}), [drawn], [], groups(drawn))


def test_a_dataset_of_a_name_that_training_saw_with_other_groups_is_refused(drawn: Dataset):
    with pytest.raises(
        BadData, match="near: the model was trained on a dataset of this name with other images"
    ):
        cases_to_score(config(trained_on={"near": "1" * 32}), [drawn], [], groups(drawn))


def test_a_perfect_mask_scores_one_and_no_distance():
    mask = np.zeros((30, 40), bool)
    mask[5:15, 8:20] = True
    found = score_masks(mask, mask)
    assert {
        found[name] for name in ("dice", "iou", "precision", "recall", "f2", "accuracy", "boundary_f")
    } == {1}
    assert {found[name] for name in ("hausdorff", "hausdorff95", "hausdorff_normalised")} == {0}


def test_every_metric_of_the_registry_is_computed_from_masks():
    mask = np.zeros((30, 40), bool)
    assert score_masks(mask, mask).keys() == REGISTRY.keys()


def test_of_a_distance_the_largest_is_the_worst_and_has_its_own_interval(scored: list[CaseScores]):
    largest = max(one.scores["hausdorff95"] for one in scored)
    assert worst_first(scored, "hausdorff95")[0].scores["hausdorff95"] == largest
    line = breakdown(scored, "hausdorff95")[0]
    assert line.interval is not None and line.interval[0] <= line.scores["hausdorff95"] <= line.interval[1]


def test_a_mask_moved_by_three_pixels_is_three_pixels_away():
    truth, mask = np.zeros((2, 30, 40), bool)
    truth[5:15, 8:20] = mask[5:15, 11:23] = True
    found = score_masks(mask, truth)
    assert found["hausdorff"] == 3
    assert found["hausdorff_normalised"] == pytest.approx(3 / 50)
    assert found["dice"] == pytest.approx(2 * 90 / 240)


def test_scores_are_those_of_the_masks_that_the_bundle_predicts(
    exported: Path, drawn: Dataset, scored: list[CaseScores]
):
    bundle = ExportedModel.load(exported)
    for one, case in zip(scored, drawn.cases, strict=True):
        truth = cv2.imread(str(case.mask), cv2.IMREAD_GRAYSCALE) > 127
        image = cv2.cvtColor(cv2.imread(str(case.image)), cv2.COLOR_BGR2RGB)
        mask = bundle.predict(image)[1]
        assert one.scores == score_masks(mask, truth) and one.polyps == count_polyps(mask, truth)
        assert one.seconds > 0
    assert images_per_second(scored) > 0


def test_means_are_over_images_and_their_interval_holds_them(scored: list[CaseScores]):
    for name, (mean, (low, high)) in means(scored).items():
        assert mean == pytest.approx(np.mean([one.scores[name] for one in scored]))
        assert low <= mean <= high


def test_an_interval_draws_cases_with_twins_together(drawn: Dataset, scored: list[CaseScores]):
    joined = groups(drawn, near_duplicates=[(drawn.cases[0].id, case.id) for case in drawn.cases[1:-1]])
    merged = [replace(one, group=joined[one.case.id]) for one in scored]
    assert len({one.group for one in merged}) == 2 < len({one.group for one in scored})
    assert means(merged)["dice"][0] == means(scored)["dice"][0]
    assert means(merged)["dice"][1] != means(scored)["dice"][1]


def test_the_breakdown_adds_up_by_center_by_size_and_by_presence(drawn: Dataset, scored: list[CaseScores]):
    lines = {line.name: line for line in breakdown(scored)}
    centers = {case.center for case in drawn.cases}
    by_center = [line for name, line in lines.items() if name.startswith("center ")]
    assert len(by_center) == len(centers) > 1
    assert sum(line.num_cases for line in by_center) == lines["all"].num_cases == 16
    total = sum(line.num_cases * line.scores["dice"] for line in by_center)
    assert total / 16 == pytest.approx(lines["all"].scores["dice"])
    assert lines["with polyp"].num_cases + lines[NO_POLYP].num_cases == 16


def test_classes_of_polyps_are_a_breakdown_and_a_column_and_of_both_is_one_of_its_own(tmp_path: Path):
    one, both, other = (
        of_class(case(0.1, id=id), *names) for id, names in (("a", "n"), ("b", "nh"), ("c", "h"))
    )
    names = [line.name for line in breakdown([one, both, other])]
    assert names == ["all", "class h", "class n", "class n + h"]
    write_csv([one, both, other], tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["n", "n + h", "h"]


def test_a_part_that_is_the_whole_is_not_said_twice():
    names = [line.name for line in breakdown([case(0.01, id="near/1"), case(0.02, id="near/2")])]
    assert names == ["all"]


@pytest.mark.parametrize(
    ("fraction", "size"),
    [(0.0, NO_POLYP), (1e-6, "small"), (0.03, "medium"), (0.12, "large"), (1.0, "large")],
)
def test_every_case_has_one_size(fraction: float, size: str):
    assert size_of(case(fraction).case).startswith(size)


def test_the_worst_comes_first_and_of_equals_the_larger_polyp():
    small, large, better = case(0.1, 0, id="a"), case(0.4, 0, id="b"), case(0.9, 0.7, id="c")
    assert worst_first([better, small, large]) == [large, small, better]


def test_every_image_is_a_row_of_the_csv(scored: list[CaseScores], tmp_path: Path):
    write_csv(scored, tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [one.case.id for one in worst_first(scored)]
    assert [float(row["dice"]) for row in rows] == sorted(one.scores["dice"] for one in scored)


def test_the_sheet_of_the_worst_is_a_picture(exported: Path, scored: list[CaseScores]):
    picture = cv2.imdecode(
        np.frombuffer(worst_sheet(ExportedModel.load(exported), scored, 5), np.uint8), cv2.IMREAD_COLOR
    )
    assert picture.shape[1] > picture.shape[0] > 100


def test_polyps_that_were_missed_have_a_place_beside_images_without_one():
    without = [case(0.0, 0.0, id=f"near/n{number}") for number in range(9)]
    polyps = [case(0.1, 0.2, id=f"near/p{number}") for number in range(3)]
    ordered = worst_first([*without, *polyps])
    assert [one.case.polyp_fraction > 0 for one in mixed(ordered, 6)] == [False] * 3 + [True] * 3
    assert (
        len(mixed(ordered, 10)) == 10 and sum(one.case.polyp_fraction > 0 for one in mixed(ordered, 10)) == 3
    )
    assert mixed(ordered, 20) == ordered and mixed(worst_first(polyps), 2) == worst_first(polyps)[:2]
    assert worst_title(mixed(ordered, 6), ordered, "dice").endswith(", half of them at most without a polyp")
    assert worst_title(ordered, ordered, "dice") == "worst 12 of 12 images by dice"


@pytest.mark.slow
def test_an_evaluation_is_one_run_in_the_experiment_of_the_study_however_often_it_is_logged(
    bundle_folder: Path,
    other: Dataset,
    mlflow_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
):
    client = connect(mlflow_uri)
    experiment = client.create_experiment("evaluated", str(tmp_path / "artifacts"))
    (bundle_folder / "formats.json").write_text(json.dumps({"made": {"study": "evaluated", "trial": "3"}}))
    home = other.cases[0].image.parents[3]
    line = (
        f"evaluate {bundle_folder} --data {other.name} --no-near-duplicates --device cpu --log --home {home}"
    )
    line += f" --tracking-uri {mlflow_uri} --json"
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["orchestrator", *line.split(), "--out", str(tmp_path / "o")])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert not ended.value.code, told.err
    (run,) = client.search_runs([experiment])
    said = json.loads(told.out)
    scores, polyps = said["scores"]["dice"], said["polyps"]
    for end in ("", "_low", "_high"):
        name = f"false_positives_per_image{end}"
        assert run.data.metrics[name] == polyps[name]
    assert (
        run.data.metrics["polyp_sensitivity"] == polyps["sensitivity"] == polyps["found"] / polyps["polyps"]
    )
    assert run.data.metrics["dice"] == scores["mean"] and run.data.metrics["dice_low"] <= scores["mean"]
    assert run.inputs.dataset_inputs[0].dataset.name == other.name and run.data.tags["trial"] == "3"
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == {"scores.csv", "worst.png"}
    assert run.info.run_id in told.err and run.info.status == "FINISHED"


def test_an_export_that_does_not_say_its_study_is_not_logged(bundle_folder: Path):
    with pytest.raises(BadBundle, match=r"needs the study in formats\.json"):
        origin_of(bundle_folder)


@pytest.fixture
def copied(drawn: Dataset, other: Dataset, tmp_path: Path) -> Dataset:
    """Frames of `other`, and two videos of `drawn` that somebody cut, encoded anew and gave other names."""
    videos = sorted({case.group for case in drawn.cases})[:2]
    theirs = [case for case in drawn.cases if case.group in videos]
    for folder in ("images", "masks"):
        (tmp_path / "source" / folder).mkdir(parents=True)
    for number, case in enumerate((*other.cases, *theirs)):
        for folder, path in (("images", case.image), ("masks", case.mask)):
            picture = cv2.imread(str(path))
            if case in theirs:
                picture = cv2.resize(picture[2:-1, 1:-2], None, fx=1.5, fy=1.5)
                picture = picture if folder == "images" else np.where(picture > 127, 255, 0)
            cv2.imwrite(str(tmp_path / "source" / folder / f"{number:02d}.png"), picture)
    return add_dataset(drawn.folder.parents[1], "copied", tmp_path / "source", allow_empty=True)


@pytest.mark.slow
def test_the_command_leaves_out_copies_of_what_the_model_saw_unless_nobody_looks(
    exported: Path,
    drawn: Dataset,
    copied: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    bundle = Path(shutil.copytree(exported, tmp_path / "bundle"))
    told = json.loads((bundle / "config.json").read_text()) | {
        "trained_on": {"near": drawn.fingerprint, "gone": "1" * 32},
        "held_out": [],
    }
    (bundle / "config.json").write_text(json.dumps(told))

    def run(*more: str) -> tuple[dict[str, Any], str]:
        home = ["--home", str(drawn.folder.parents[1])]
        monkeypatch.setattr(
            sys, "argv", ["orchestrator", "evaluate", str(bundle), "--data", "copied", "--json", *home, *more]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return json.loads(said.out), said.err

    looked, said = run()
    assert looked["left_out"] == {"copied": len(copied.cases) - 8} and looked["cases"] == 8
    assert looked["groups"] < 8 and looked["near_duplicate_pairs"] > 0
    assert (
        "near-duplicates: gone, which the model was trained on, is not in" in said and "between them" in said
    )
    blind, said = run("--no-near-duplicates")
    assert (
        blind["left_out"] == {}
        and blind["groups"] == len(copied.cases)
        and blind["near_duplicate_pairs"] is None
    )
    assert "near-duplicates: not looked for" in said


@pytest.fixture
def pair(exported: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The exported network, and the same one at a threshold that marks other pixels."""
    first, second = (Path(shutil.copytree(exported, tmp_path / name)) for name in ("first", "second"))
    values = json.loads((second / "config.json").read_text())
    values["threshold"] = 0.25
    (second / "config.json").write_text(json.dumps(values))
    return first, second


def test_two_networks_are_compared_image_by_image_on_what_neither_has_seen(
    pair: tuple[Path, Path], other: Dataset
):
    first, second = pair
    home = other.folder.parents[1]
    ours = po.evaluate(first, "other", against=second, device="cpu", home=home)
    theirs = po.evaluate(second, "other", device="cpu", home=home)
    expected = np.array([one.scores["dice"] for one in ours.scored])
    expected -= [one.scores["dice"] for one in theirs.scored]
    (row,) = ours.compared
    assert (row.where, row.reference, row.other, row.num_cases) == ("other", "second", "first", 8)
    assert row.difference == pytest.approx(expected.mean()) and np.any(expected)
    assert row.interval == pytest.approx(cluster_interval(expected, [one.group for one in ours.scored]))
    assert ours.as_dict()["compared"][0]["difference"] == row.difference and not theirs.compared

    values = json.loads((second / "config.json").read_text())
    seen = [case for case in other.cases if case.group == other.cases[0].group]
    values |= {"trained_on": {"other": other.fingerprint, "gone": "1" * 32}}
    values["held_out"] = [case.id for case in other.cases if case not in seen]
    (second / "config.json").write_text(json.dumps(values))
    notes: list[str] = []
    fewer = po.evaluate(first, "other", against=second, home=home, display=Display(note=notes.append))
    assert not {one.case.id for one in fewer.scored} & {case.id for case in seen}
    assert fewer.compared[0].num_cases == len(fewer.scored) == 8 - len(seen)
    assert any("which second has seen" in note for note in notes)
    assert any(note.startswith("second: near-duplicates: gone") for note in notes)


def test_networks_that_cannot_be_compared_are_refused_before_images_are_scored(
    pair: tuple[Path, Path], other: Dataset, tmp_path: Path
):
    first, _ = pair
    home = other.folder.parents[1]
    named_alike = Path(shutil.copytree(first, tmp_path / "elsewhere" / "first"))
    with pytest.raises(BadData, match="expected another network"):
        po.evaluate(first, "other", against=first, home=home)
    for lower_is_better in ("hd95", "hausdorff95_normalised"):
        with pytest.raises(BadData, match=r"of another name(?s:.*)of which higher is better: dice"):
            po.evaluate(first, "other", against=named_alike, metric=lower_is_better, home=home)
