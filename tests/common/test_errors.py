"""Mistakes: one or several, with options on the command line and parameters in Python."""

from __future__ import annotations

import pickle

import pytest

from orchestrator.common.errors import (
    BadData,
    BadMachine,
    Several,
    UserError,
    for_python,
    python_errors,
    python_errors_of,
)


@pytest.mark.parametrize(
    ("option", "parameter"),
    [
        (
            "a search needs one: --trials, --gpu-hours or --epochs",
            "a search needs one: trials=, gpu_hours= or epochs=",
        ),
        ("use --race none", "use race='none'"),
        ("leave --port out, or name 5001", "leave port= out, or name 5001"),
        ("found --workers-per-fit 4", "found workers_per_fit=4"),
        ("add --refit, or --skip-bad", "add refit=True, or skip_bad=True"),
        ("; --no-near-duplicates skips it", "; near_duplicates=False skips it"),
        (
            "--shm-gb: expected less than --memory-gb, found 9",
            "shm_gb: expected less than memory_gb=, found 9",
        ),
        ("--constraint keeps none, --part '*' takes all", "constraints= keeps none, parts='*' takes all"),
        ("or with --data Kvasir-SEG=NAME", "or with data={'Kvasir-SEG': NAME}"),
        (
            "--weights 'U-Net=FILE' or --random needs none",
            "weights={'U-Net': FILE} or imagenet=False needs none",
        ),
        ("as in --mask-values 128-255", "as in mask_values='128-255'"),
        ("use --address http://127.0.0.1:8265", "use address='http://127.0.0.1:8265'"),
        ("use --trial N to take one anyway", "use trial=N to take one anyway"),
        ("--splits /home/me/splits.json goes on", "splits='/home/me/splits.json' goes on"),
    ],
)
def test_an_option_becomes_the_parameter_of_the_same_meaning(option: str, parameter: str):
    assert for_python(option) == parameter


@pytest.mark.parametrize(
    "text",
    [
        "`orchestrator best --export FOLDER` writes it",
        "as orchestrator data add drawn frames --part 'x'",
        "start the container with --shm-size=8g",
        "a--trials, ---trials and -trials are none",
    ],
)
def test_commands_and_options_of_other_programs_stay(text: str):
    assert for_python(text) == text


@python_errors(out="page")
def refuse() -> None:
    raise Several(
        [BadMachine("--device cuda", "none here; use --device cpu"), BadData("--out /x", "is a folder")]
    )


def test_a_mistake_names_parameters_for_python_and_options_on_the_command_line():
    with pytest.raises(UserError) as refused:
        refuse()
    mistake = refused.value
    assert mistake.problems == ("device='cuda': none here; use device='cpu'", "page='/x': is a folder")
    assert str(mistake).splitlines()[1:] == [f"  {problem}" for problem in mistake.problems]
    mistake.name_options()
    assert mistake.problems == ("--device cuda: none here; use --device cpu", "--out /x: is a folder")


def test_a_mistake_that_went_to_another_process_is_as_it_was_raised():
    mistake = BadData("--fold", ["needs a number below --trials", "second"])
    mistake.name_parameters({})
    assert str(mistake).startswith("fold: 2 problems\n  needs a number below trials=")
    assert str(pickle.loads(pickle.dumps(mistake))).startswith(
        "--fold: 2 problems\n  needs a number below --trials"
    )


@python_errors_of
class Door:
    def __init__(self, number: int) -> None:
        if number < 0:
            raise BadData("--seed", "is negative")

    @property
    def way(self) -> str:
        """Where it leads."""
        raise BadData("--home", "is not there")

    def open(self) -> str:
        return self._inside()

    def _inside(self) -> str:
        raise BadData("--cache", "is not there")


def test_all_that_a_class_offers_names_parameters():
    for ask in (lambda: Door(-1), lambda: Door(1).way, lambda: Door(1).open()):
        with pytest.raises(BadData, match=r"^(seed|home|cache): is "):
            ask()
    assert Door.way.__doc__ == "Where it leads."
