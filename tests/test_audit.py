"""An audit that could not look anything up has not passed."""

from __future__ import annotations

from audit import FOUND, UNKNOWN, verdict

GOOD = {"name": "ray", "version": "2.60.0", "vulns": []}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}
BAD = {"name": "pillow", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
OURS = {"name": "polyp-orchestrator", "skip_reason": "distribution marked as editable"}


def test_only_what_was_looked_up_can_pass():
    assert verdict([GOOD, OURS])[0] == 0
    assert verdict([GOOD, SKIPPED])[0] == verdict([SKIPPED])[0] == verdict([])[0] == UNKNOWN
    assert "NOT AUDITED: 1 of 2 packages: torch" in verdict([GOOD, SKIPPED])[1]


def test_a_known_flaw_is_named_with_what_mends_it():
    code, lines = verdict([GOOD, SKIPPED, BAD])
    assert code == FOUND and "pillow 1: PYSEC-1, mended in 2" in lines
