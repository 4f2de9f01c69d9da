"""Checks run side by side; one that hangs or breaks is a finding and hides no other."""

from __future__ import annotations

import time

import pytest

from orchestrator.common.errors import BadData
from orchestrator.doctor.checks.findings import (
    Check,
    Finding,
    failure,
    ok,
    run_checks,
    warning,
    worst_first,
    would_fail,
)


def broken():
    yield ok("so far so good")
    raise RuntimeError("no such thing")


def test_a_check_that_hangs_is_a_finding_and_the_others_are_reported():
    started = time.monotonic()
    checks = [
        Check("slow", lambda: time.sleep(60), 0.3),
        Check("quick", lambda: [ok("fine")]),
        Check("none", list),
    ]
    slow, quick = run_checks("n1", checks)
    assert (slow.check, slow.severity, slow.found) == (
        "slow",
        "failure",
        "no answer within 0.3 s",
    ) and slow.remedy
    assert quick == Finding("quick", "n1", "ok", "fine") and time.monotonic() - started < 30


def test_a_check_that_breaks_or_refuses_is_a_failure_with_its_words():
    def refused():
        raise BadData("Kvasir", ["a.png: is gone", "b.png: is gone; put them back"])

    before, first, second = run_checks("n1", [Check("breaks", broken), Check("data", refused)])
    assert "RuntimeError: no such thing" in first.found and second.found == "a.png: is gone; b.png: is gone"
    assert second.remedy == "put them back"
    assert before.severity == "ok" and would_fail([first]) and would_fail([second])


def test_what_is_not_ok_needs_a_remedy_and_shows_no_password():
    with pytest.raises(ValueError, match="needs a remedy"):
        Finding("home", "n1", "warning", "is slow")
    told = Finding("MLflow", "n1", *failure("http://me:hunter2@host is away", "start http://me:hunter2@host"))
    assert "hunter2" not in told.found + told.remedy


def test_warnings_do_not_fail_and_failures_come_first():
    findings = [
        Finding("a", "n", *ok("x")),
        Finding("b", "n", *warning("x", "y")),
        Finding("c", "n", *failure("x", "y")),
    ]
    assert [one.check for one in worst_first(findings)] == ["c", "b", "a"]
    assert not would_fail(findings[:2]) and would_fail(findings)
