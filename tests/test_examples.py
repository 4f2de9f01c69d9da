"""The examples that are scripts: what they run exists, and what they print is what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orchestrator.results.views.tables import comparison_dicts
from orchestrator.search.space.builds import check_builds
from orchestrator.search.space.space_file import load_space
from orchestrator.selection.comparison import NetworkScores, compare_networks

GAINS = Path(__file__).parents[1] / "examples" / "what_tuning_gains"


def test_shellcheck_finds_nothing_in_the_script():
    shellcheck = Path(sys.executable).with_name("shellcheck")
    found = subprocess.run([shellcheck, GAINS / "run.sh"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("name", ["lite0", "unet"])
def test_its_search_spaces_can_be_built(name: str):
    check_builds(load_space(GAINS / f"{name}.toml"))


def write_scores(folder: Path, study: str, tuned: list[float]) -> None:
    scores = NetworkScores(np.array([0.8, 0.6, 0.65, 0.75]), np.array(tuned), ["a", "b", "c", "d"])
    for file, place in (("validation", "validation"), ("outside", "Kvasir-SEG")):
        rows = comparison_dicts(compare_networks("paper", "tuned", {place: scores}))
        found = rows if file == "validation" else {"compared": rows}
        (folder / f"{study}.{file}.json").write_text(json.dumps(found))


def table_of(folder: Path) -> list[str]:
    table = [sys.executable, GAINS / "table.py", folder]
    return subprocess.run(table, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_table_has_the_scores_and_leaves_out_a_study_that_is_not_over(tmp_path: Path):
    write_scores(tmp_path, "unet-7", [0.9, 0.8, 0.7, 0.8])
    (tmp_path / "lite0-7.validation.json").write_text("[]")
    lines = table_of(tmp_path)
    assert len(lines) == 4 and lines[2].startswith(
        "| unet | 7 | Kvasir-SEG, five folds | 4 (4) | 70.0 | 80.0 | +10.0 ("
    )
    assert lines[3].startswith("| unet | 7 | Kvasir-SEG, held out | 4 (4) | 70.0 | 80.0 | +10.0 (")


def test_several_seeds_have_their_mean_with_an_interval_over_them(tmp_path: Path):
    write_scores(tmp_path, "unet-7", [0.9, 0.8, 0.7, 0.8])
    write_scores(tmp_path, "unet-8", [0.9, 0.8, 0.7, 0.88])
    # Gains of 10 and 12: 11 +- t(0.975, 1 degree of freedom) = 12.71 times a standard error of 1.
    assert (
        table_of(tmp_path)[-1] == "| unet | 2 | Kvasir-SEG, held out | 70.0 | 81.0 | +11.0 (-1.7 to +23.7) |"
    )
