from __future__ import annotations

import json
import subprocess
import sys

from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.common.errors import UserError


def invoked(*words: str):
    return CliRunner().invoke(app, ["reproduce", *words])


def test_without_a_paper_all_papers_and_their_tables_are_listed():
    done = invoked()
    assert done.exit_code == 0
    for word in (
        "gmsrf",
        "parallel-res2net",
        "mediaeval-depthwise",
        "attention-unet",
        "resunetpp",
        "CVC-ClinicDB",
    ):
        assert word in done.output
    assert {"I", "II"} == json.loads(invoked("--list", "--json").output)["gmsrf"]["tables"].keys()


def test_all_mistakes_are_reported_before_anything_is_done(tmp_path):
    (tmp_path / "RESULTS.md").write_text("my own")
    done = invoked(
        *("gmsrf", "I", "--home", str(tmp_path), "--out", str(tmp_path / "RESULTS.md"), "--only", "vnet"),
    )
    assert isinstance(done.exception, UserError)
    told = str(done.exception)
    assert (
        "was not written by this command" in told
        and "vnet" in told
        and "orchestrator data add Kvasir-SEG" in told
    )


def test_a_dataset_for_another_table_than_the_chosen_one_is_refused(tmp_path):
    done = invoked("parallel-res2net", "1", "--home", str(tmp_path), "--data", "CVC-300=mine")
    assert isinstance(done.exception, UserError)
    assert "CVC-300 is not needed; needed are EndoCV2021, CVC-ClinicDB" in str(done.exception)


def test_trials_without_a_search_are_refused(tmp_path):
    done = invoked("gmsrf", "I", "--home", str(tmp_path), "--trials", "5")
    assert isinstance(done.exception, UserError) and "which only --tuned runs" in str(done.exception)


def test_the_list_needs_no_torch_and_no_ray():
    code = (
        "import sys; from typer.testing import CliRunner; from orchestrator.cli import app; "
        "CliRunner().invoke(app, ['reproduce']); print(sorted({'torch', 'ray', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
