"""Facts that `orchestrator models` shows without building networks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from orchestrator import models
from orchestrator.cli import networks
from orchestrator.cli.networks import all_facts, facts_of


def test_the_stored_facts_are_of_this_source_and_of_every_network():
    stored = json.loads((networks.MODELS / "facts.json").read_text("utf-8"))
    assert stored["source"] == networks.source_digest(), "`make network-facts` counts the networks again"
    assert tuple(all_facts()) == models.names()


@pytest.mark.parametrize("name", ["unet", "colonsegnet"])
def test_stored_facts_are_those_of_the_network_when_it_is_built(name: str):
    assert all_facts()[name] == json.loads(json.dumps(facts_of(name)))


def test_facts_of_another_source_are_not_shown(tmp_path, monkeypatch):
    (tmp_path / "facts.json").write_text('{"source": "another", "networks": [{"name": "nonsense"}]}')
    monkeypatch.setattr(networks, "MODELS", tmp_path)
    monkeypatch.setattr(models, "names", lambda: ("canny",))
    monkeypatch.setattr(networks, "facts_of", lambda name: {"name": name})
    assert all_facts() == {"canny": {"name": "canny"}}


def test_models_are_listed_without_torch():
    program = """
import sys
from orchestrator.cli import app
app(["models", "show", "unet"], standalone_mode=False)
sys.exit("torch was imported" if "torch" in sys.modules else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
