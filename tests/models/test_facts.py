"""Facts that `orchestrator models` shows without building networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import cli, models
from orchestrator.api import networks


def test_the_stored_facts_are_of_this_source_and_of_every_network():
    stored = json.loads((networks.MODELS / "facts.json").read_text("utf-8"))
    assert stored["source"] == networks.source_digest(), "`make network-facts` counts the networks again"
    assert tuple(networks.networks()) == models.names()


def test_printed_sizes_are_met_within_one_percent():
    # ResUNet's paper prints the weights of 3 x 3 convolutions alone: see test_sizes.py.
    printed = {
        name: one for name, one in networks.networks().items() if one["published"] and name != "resunet"
    }
    for one in printed.values():
        counts = (one["parameters"], one["with_statistics"])
        assert min(abs(count / one["published"] - 1) for count in counts) <= 0.01
    assert len(printed) >= 11


def test_the_table_of_networks_in_the_docs_is_the_one_that_the_command_prints():
    page = (Path(__file__).parents[2] / "docs" / "spaces.md").read_text("utf-8")
    printed = CliRunner().invoke(cli.app, ["models", "--markdown"]).stdout
    table, _, sentence = printed.strip().rpartition("\n\n")
    assert table == networks.markdown_table(networks.networks().values())
    assert table in page, "put what `orchestrator models --markdown` prints into docs/spaces.md"
    assert sentence.startswith(
        "12 sizes are published; the largest difference is +5.43 % (resunet; its paper: 3 x 3"
    )


def test_the_difference_to_print_is_that_of_the_nearer_count():
    known = networks.networks()
    assert known["resunet_pp"]["difference_percent"] == 0  # with BatchNorm's statistics, as Keras counts
    assert known["hrnet_w18_small_v2"]["difference_percent"] == pytest.approx(0.89)
    assert known["hrnet_w18_small_v2"]["published_in"] == "the authors' repository, 19 classes"
    assert known["pranet"]["published_in"] is known["pranet"]["difference_percent"] is None


@pytest.mark.parametrize("name", ["unet", "colonsegnet"])
def test_stored_facts_are_those_of_the_network_when_it_is_built(name: str):
    assert networks.networks()[name] == json.loads(json.dumps(networks.facts_of(name)))


def test_facts_of_another_source_are_not_shown(tmp_path, monkeypatch):
    (tmp_path / "facts.json").write_text('{"source": "another", "networks": [{"name": "nonsense"}]}')
    monkeypatch.setattr(networks, "MODELS", tmp_path)
    monkeypatch.setattr(models, "names", lambda: ("canny",))
    monkeypatch.setattr(networks, "facts_of", lambda name: {"name": name})
    assert networks.networks() == {"canny": {"name": "canny"}}


def test_models_are_listed_without_torch():
    program = """
import sys
from orchestrator.cli import app
app(["models", "show", "unet"], standalone_mode=False)
sys.exit("torch was imported" if "torch" in sys.modules else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
