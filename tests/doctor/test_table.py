"""How findings are shown: by node, worst first, with what mends them; many nodes in few lines."""

from __future__ import annotations

import json

from orchestrator.cli.doctor import show
from orchestrator.doctor.checks.findings import Finding, failure, ok, warning


def found(num_nodes: int) -> list[Finding]:
    each = [Finding("memory", f"n{node}", *ok(f"{node} GB are free")) for node in range(num_nodes)]
    return [
        *each,
        Finding("clock", "n3", *warning("+5.0 s", "`timedatectl set-ntp true`")),
        Finding("home", "n3", *failure("/shared [bold]\x1b[2J is not the driver's", "mount it")),
    ]


def test_the_worst_comes_first_with_its_remedy_below(capsys):
    show(found(4)[3:], as_json=False)
    lines = capsys.readouterr().out
    assert lines.index("failure") < lines.index("warning") < lines.index("3 GB are free")
    assert "-> mount it" in lines and "1 failure, 1 warning, 1 ok: something would fail" in lines
    assert "\x1b[2J" not in lines and "/shared [bold]" in lines


def test_of_many_nodes_only_the_first_shows_what_is_well(capsys):
    show(found(5), as_json=False)
    told = capsys.readouterr().out
    assert "0 GB are free" in told and "4 GB are free" not in told and "n4: 1 check ok" in told
    assert "/shared" in told


def test_json_holds_every_finding(capsys):
    show(found(5), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["fails"] and told["ok"] == 5 and told["findings"][5]["remedy"] == "`timedatectl set-ntp true`"
