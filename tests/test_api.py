"""`import orchestrator as po`: a study in a notebook, and the command line as its client."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import orchestrator as po
from orchestrator.cli import app
from orchestrator.common.errors import BadData, BadMachine, BadStudy, UserError, for_python
from orchestrator.data.images import read_image
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.stated_fields import FIELDS
from orchestrator.data.statement import all_fields
from orchestrator.launch.kinds import KINDS
from orchestrator.results.best_networks import Trainer
from orchestrator.results.bundle_scores import BundleScores
from orchestrator.search.study_spec import spec_fields
from orchestrator.study.housekeeping import remove_dataset

ROOT = Path(__file__).parents[1]
TINY = """
network = "unet"

[fixed]
base_channels = 4
image_size = 32
batch_size = 4
epochs = 1
augmentation = "none"

[search]
learning_rate = { log_uniform = [1e-4, 1e-2] }

[baseline]
learning_rate = 1e-3
"""
LONGEST = 60  # lines of a function in cli/


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with drawn frames and a space, and a home that holds both a dataset and nothing else."""
    folder = tmp_path_factory.mktemp("notebook")
    draw_dataset(folder / "frames", num_cases=24, size=32)
    groups = folder / "frames" / "groups.csv"
    add_dataset(folder / "home", "drawn", folder / "frames", groups=groups, allow_empty=True)
    (folder / "tiny.toml").write_text(TINY)
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(folder / "home"))


def test_importing_the_package_imports_no_heavy_library():
    heavy = ["torch", "ray", "mlflow", "optuna", "numpy", "pydantic", "rich", "typer", "pandas"]
    program = f"import orchestrator, sys; sys.exit(str(found) if (found := {{*{heavy}}} & sys.modules.keys()) else 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_name_of_the_package_is_there_and_an_unknown_one_is_not():
    assert all(getattr(po, name).__doc__ for name in po.__all__)
    assert {*po.__all__} <= {*dir(po)}
    with pytest.raises(AttributeError, match="no attribute 'studdy'"):
        _ = po.studdy


def test_a_study_says_everything_that_is_wrong_in_one_error():
    with pytest.raises(UserError) as refused:
        po.Study(
            "nosuch", data="nosuch", trials=0, name="a/b", constraints=["cost<=1"], tracking_uri="ftp://x"
        )
    said = str(refused.value)
    for words in ("expected a TOML file", "trials: ", "a limit of one of", "letters, digits", "ftp"):
        assert words in said, said


def test_a_study_needs_a_budget_and_knows_a_misspelled_option():
    with pytest.raises(UserError, match="a search needs one"):
        po.Study("tiny.toml", data="drawn", progress=None)
    with pytest.raises(UserError, match="no option is named trails; did you mean trials"):
        po.Study("tiny.toml", data="drawn", trails=3, progress=None)


def test_what_can_be_refused_cheaply_is_refused_before_images_are_compared(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("orchestrator.study.loading.find_near_duplicates", None)
    with pytest.raises(BadStudy, match="no study of this home"):
        _ = po.Study("tiny.toml", data="drawn", trials=1, warm_start=["gone"], progress=None).store.name
    with pytest.raises(BadStudy, match="of this space stays within"):
        po.Study("tiny.toml", data="drawn", trials=1, constraints=["parameters<=10"], progress=None)


def test_a_comparison_names_every_mistake_at_once():
    with pytest.raises(UserError) as refused:
        po.compare("gone", "lost:3", metric="dise")
    assert all(words in str(refused.value) for words in ("gone", "lost", "dise"))


def test_a_report_names_every_mistake_at_once_and_writes_nothing(folder: Path):
    (folder / "mine.html").write_text("mine")
    with pytest.raises(UserError) as refused:
        po.report("gone", "gone", page="mine.html", checklists=["quaide"])
    assert all(words in str(refused.value) for words in ("each study once", "QUAIDE", "exists already"))
    assert (folder / "mine.html").read_text() == "mine"


def test_a_dataset_takes_the_options_of_the_command(folder: Path):
    with pytest.raises(UserError, match="expected a CSV file"):
        po.add_dataset("other", "frames", groups="nosuch.csv")
    po.add_dataset(
        "other", "frames", groups="none", mask_values=["255"], allow_empty=True, stated={"licence": "CC0"}
    )
    added = po.datasets()["other"]
    assert not added.groups_known and all_fields(added.folder)["licence"] == "CC0"
    remove_dataset(folder / "home", "other", folder / "home" / "cache")


class Examples(doctest.DocTestFinder):
    """Finds examples of functions that are decorated, too."""

    def _from_module(self, module, object):
        return super()._from_module(module, inspect.unwrap(object) if callable(object) else object)


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted({one.__module__ for one in map(po.__getattr__, po.__all__)}))
def test_examples_do_what_they_say(module: str, finished: po.Study):
    assert finished.store.exists()
    examples = Examples().find(importlib.import_module(module))
    found = [doctest.DocTestRunner().run(example) for example in examples if example.examples]
    assert not any(one.failed for one in found)
    assert found or ".api." not in module


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> po.Study:
    """A study of one trial and two folds that was run in a thread, its statuses, and its exported network."""
    seen: list[object] = []
    found: list[object] = []
    study = po.Study(
        folder / "tiny.toml",
        data="drawn",
        splits="k-fold:2",
        trials=1,
        rescore=0,
        name="demo",
        home=folder / "home",
        address="local",
        device="cpu",
        lanes=1,
        progress=None,
    )
    thread = threading.Thread(target=lambda: found.append(study.run(seen.append)))
    thread.start()
    thread.join()
    study.export(folder / "exported")
    assert found and seen
    return study


@pytest.mark.slow
def test_a_study_runs_outside_the_main_thread_and_shows_its_results(finished: po.Study, folder: Path):
    (row,) = finished.leaderboard(as_dicts=True)
    best = finished.best()
    assert best.number == row["trial"] == 0 and best.params["learning_rate"] == 1e-3
    table = finished.leaderboard()
    assert list(table["trial"]) == [0] and table["scores.dice"][0] == row["scores"]["dice"]
    assert po.load_study().name == po.load_study("demo").name == "demo"
    assert po.load_study("demo").spec == finished.spec


@pytest.mark.slow
def test_a_notebook_asks_for_what_the_command_asks_for(finished: po.Study, folder: Path):
    where = {"address": "local", "device": "cpu"}
    both = finished.best(trial=0, ensemble="folds", **where)
    assert len(both.as_dict()["members"]) == 2 and "2 networks" in " ".join(both.reasons)
    finished.export(folder / "ensemble", ensemble="folds", formats="onnx", **where)
    names = {path.name for path in (folder / "ensemble").iterdir()}
    assert "model.onnx" in names and "pipeline.onnx" not in names
    with pytest.raises(BadStudy, match="trial 7 has not finished"):
        finished.best(trial=7)
    with pytest.raises(BadStudy, match="two or more different systems"):
        po.compare("demo", "demo:0")
    for ask in (finished.leaderboard, finished.best, finished.networks):
        with pytest.raises(BadStudy, match="metric"):
            ask("dise")
    assert finished.damage() == []


@pytest.mark.slow
def test_an_exported_network_predicts_arrays_and_files_alike(finished: po.Study, folder: Path):
    bundle = po.load_bundle(folder / "exported")
    image = next((folder / "frames" / "images").iterdir())
    mask, pixels = bundle.predict(image), read_image(image)
    assert mask.dtype == bool and mask.shape == pixels.shape[:2]
    assert np.array_equal(mask, bundle.predict(pixels))
    assert np.array_equal(mask, bundle.network.predict(pixels)[1])
    assert 0 <= bundle.probability(pixels).min() <= bundle.probability(pixels).max() <= 1


def test_every_option_of_a_study_is_one_of_search_with_its_help():
    command = typer.main.get_command(app).commands["search"]  # type: ignore[attr-defined]
    options = {one.name: one for one in command.params}
    for field in spec_fields():
        own = options[field.name]
        assert own.help == field.option.help and own.envvar == field.option.env
        assert own.opts[0] == field.option.flag or own.opts[0] == f"--{field.name.replace('_', '-')}"


def test_no_function_of_the_command_line_is_longer_than_a_screen():
    files = sorted((ROOT / "orchestrator" / "cli").rglob("*.py"))
    found = {
        f"{file.name}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: lines for name, lines in found.items() if lines > LONGEST} == {}


def test_mistakes_in_options_and_in_data_are_one_flat_list(folder: Path):
    with pytest.raises(UserError) as refused:
        po.Study("tiny.toml", data="no", trials=1, constraints=("size<=3",), sampler="nsga2", progress=None)
    assert [type(one).__name__ for one in refused.value.each] == ["BadStudy", "BadStudy", "BadData"]


def test_one_name_may_be_given_where_several_could_be(folder: Path):
    with pytest.raises(UserError) as refused:
        po.report("nobody", checklists="claimm")
    assert "did you mean claim?" in str(refused.value) and "nobody" in str(refused.value)
    with pytest.raises(BadData, match="found no part named 'train'"):
        po.add_dataset("parts", "frames", parts="train", allow_empty=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"without_mask": "emty"}, "without_mask: expected refuse or empty, found 'emty'"),
        ({"stated": {"license": "CC0"}}, "no field is named license; did you mean licence?"),
    ],
)
def test_options_of_a_new_dataset_that_mean_nothing_are_refused_before_it_is_read(options, said):
    with pytest.raises(BadData) as refused:
        po.add_dataset("none", "frames", allow_empty=True, **options)
    assert said in str(refused.value)


def test_near_duplicates_of_no_dataset_are_refused():
    with pytest.raises(BadData, match="expected one dataset or more, found none"):
        po.near_duplicates()


def test_a_forecast_names_every_number_that_cannot_be():
    study = po.Study("tiny.toml", "drawn", splits="k-fold:2", trials=3, device="cpu", progress=None)
    with pytest.raises(BadMachine) as refused:
        study.plan(gpus=0, sampled=-1, failures=float("nan"))
    assert [line.partition(":")[0] for line in refused.value.problems] == ["gpus", "sampled", "failures"]


def test_a_job_names_every_variable_that_a_cluster_would_show_to_everybody():
    with pytest.raises(UserError) as refused:
        po.submit(
            "best",
            env={"MY_TOKEN": "x", "MODE": "fast", "DB": "postgresql://me:pw@db/x"},
            address="127.0.0.1:1",
        )
    assert "show MY_TOKEN" in str(refused.value) and "show DB" in str(refused.value)
    assert "MODE" not in str(refused.value)


def test_a_comparison_of_nothing_says_that_none_was_given():
    with pytest.raises(BadStudy, match="two or more different systems, found none"):
        po.compare()


# The functions of commands; of classes, their methods take what the class does not.
FUNCTIONS: dict[str, list[object]] = {
    "search": [po.Study, po.StudySpec],
    "plan": [po.Study, po.StudySpec, po.Study.plan],
    "fit": [po.fit],
    "status": [po.load_study, po.StoredStudy.status],
    "leaderboard": [po.load_study, po.StoredStudy.leaderboard],
    "best": [po.load_study, po.StoredStudy.best, po.StoredStudy.export, Trainer, po.BestTrial.hand_over],
    "report": [po.report],
    "compare": [po.compare],
    "sync": [po.sync],
    "ui": [po.ui],
    "reproduce": [po.reproduce, po.papers],
    "evaluate": [po.evaluate, BundleScores.write, BundleScores.log],
    "predict": [po.predict],
    "export verify": [po.verify_export],
    "doctor": [po.check_machine],
    "clean": [po.freeable],
    "submit": [po.submit, po.jobs, po.job],
    "studies": [po.studies],
    "studies remove": [po.remove_study],
    "data add": [po.add_dataset, FIELDS],
    "data list": [po.datasets],
    "data show": [po.dataset],
    "data check": [po.check_dataset],
    "data draw": [po.draw_dataset],
    "data split": [po.split],
    "data leaks": [po.near_duplicates],
    "data layouts": [po.layouts],
    "data preview": [po.preview],
    "data cache": [po.cached, po.prune_cache],
    "data remove": [po.remove_dataset],
    "data describe": [po.describe_dataset, FIELDS],
    "space check": [po.check_space],
    "space combine": [po.combine_spaces],
    "space schema": [po.space_schema],
    "models": [po.networks],
    "models show": [po.network],
}
# What only a command does: it prints, asks, draws into files, opens pages, waits for a job, moves aliases.
OF_COMMANDS = frozenset(
    {
        "all",
        "ask",
        "attach",
        "browser",
        "champion",
        "csv",
        "detach",
        "json",
        "latex",
        "list",
        "markdown",
        "methods",
    }
    | {
        "no-browser",
        "no-champion",
        "no-refit",
        "no-allow-empty",
        "on-interrupt",
        "overwrite",
        "plot",
    }
    | {"price", "prune", "sheet", "stop", "watch", "yes"}
)


def options() -> dict[str, set[str]]:
    """Command -> its options without dashes, of all that have options."""
    found: dict[str, set[str]] = {}

    def walk(command: object, path: tuple[str, ...]) -> None:
        own = {
            word[2:]
            for one in command.params
            for word in (*one.opts, *one.secondary_opts)
            if word[:2] == "--"
        }
        for name, below in getattr(command, "commands", {}).items():
            walk(below, (*path, name))
        if path and not (hasattr(command, "commands") and " ".join(path) not in FUNCTIONS):
            found[" ".join(path)] = own

    walk(typer.main.get_command(app), ())
    del found["completion"]  # for shells
    return found


def test_every_command_has_a_function_which_the_documentation_names():
    rendered = {name for name in options() if name.startswith("cluster render ")}
    assert options().keys() - rendered == FUNCTIONS.keys()
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    exempt = {"BestTrial", "Bundle", "Display", "NoChampion", "StoredStudy", "StudySpec", "UserError"}
    assert {name for name in po.__all__ if name not in exempt and f"po.{name}" not in page} == set()


def test_every_option_of_a_command_is_a_parameter_of_its_function_as_errors_name_it():
    wrong = []
    for command, names in options().items():
        if command.startswith("cluster render "):
            known = {*KINDS[command.split()[-1]].fields, "out"}
        else:
            known = {name for one in FUNCTIONS[command] for name in parameters_of(one)}
        renamed = {"out": {"report": "page", "evaluate": "folder", "data split": "data"}.get(command, "out")}
        renamed |= {"export": "folder"} if command == "best" else {}
        for name in names.difference(OF_COMMANDS):
            spelled = for_python(f"--{name}", renamed).partition("=")[0]
            if spelled not in known and (command, name) != ("clean", "dry-run"):  # `freeable` is that
                wrong.append(f"{command} --{name}: {spelled}")
    assert not wrong


def parameters_of(one: object) -> set[str]:
    """Of a function, with its own name: `log` of scores is what --log asks for."""
    return {*one} if isinstance(one, dict) else {one.__name__, *inspect.signature(one).parameters}


def test_functions_work_outside_the_main_thread(folder: Path):
    found: list[object] = []

    def work() -> None:
        found.append(po.split("drawn", splits="k-fold:2").as_dict())
        found.append(
            po.fit("tiny.toml", "drawn", splits="k-fold:2", near_duplicates=False, device="cpu").scores
        )

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    split, scores = found
    assert split["name"] == "2-fold-seed0" and 0 <= scores["dice"] <= 1


def test_mistakes_name_parameters_in_python_and_options_on_the_command_line(folder: Path):
    with pytest.raises(UserError, match=r"^fold: needs a number below 2, found 7$"):
        po.fit("tiny.toml", "drawn", splits="k-fold:2", fold=7, near_duplicates=False, device="cpu")
    words = "fit tiny.toml --data drawn --splits k-fold:2 --fold 7 --no-near-duplicates --device cpu"
    refused = CliRunner().invoke(app, words.split()).exception
    assert str(refused) == "--fold: needs a number below 2, found 7"
    with pytest.raises(UserError, match=r"trials=, hours=, gpu_hours=, epochs= or until_unlikely=True"):
        po.Study("tiny.toml", data="drawn", progress=None)
