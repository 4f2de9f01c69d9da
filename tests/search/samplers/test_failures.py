"""What samplers avoid after configurations have failed."""

from __future__ import annotations

import numpy as np

from orchestrator.search.samplers.failures import first_likely_to_work, likely_failures

WORKED = np.array([[0.0], [0.2]])
ASKED = np.array([[0.5], [0.59], [0.61], [0.9]])


def test_nothing_is_avoided_before_one_has_failed_and_one_has_worked():
    none = np.empty((0, 1))
    assert likely_failures(WORKED, none) is None and likely_failures(none, WORKED) is None
    assert first_likely_to_work(ASKED, WORKED, none).tolist() == [0.5]


def test_what_is_nearer_to_a_failure_is_avoided():
    many = np.linspace(0, 0.2, 9)[:, None]
    avoided = likely_failures(many, np.array([[1.0]]))  # one of ten
    assert avoided is not None and avoided(ASKED).tolist() == [False, False, True, True]


def test_it_keeps_twice_as_far_away_where_more_than_a_tenth_fail():
    avoided = likely_failures(WORKED, np.array([[1.0]]))  # one of three
    assert avoided is not None and avoided(np.array([[0.46], [0.47]])).tolist() == [False, True]


def test_a_random_configuration_is_the_first_that_is_not_nearer_to_a_failure():
    failed = np.array([[1.0]])
    assert first_likely_to_work(ASKED[::-1], WORKED, failed).tolist() == [0.59]
    assert first_likely_to_work(ASKED[2:], WORKED, failed).tolist() == [0.61]  # none is
