"""What a lane is handed: text that only jobs come out of."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from formula import formula_study
from toy_jobs import Toy

from orchestrator.common.stored_json import Unreadable
from orchestrator.search.forecast.plan import some_configurations
from orchestrator.search.forecast.time_job import TimeJob
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.score_job import ScoreJob
from orchestrator.search.space.space_file import parse_space
from orchestrator.training.jobs import deserialized, serialized

SPACE = parse_space("""
network = "pranet"
[search]
learning_rate = { log_uniform = [1e-5, 1e-3] }
[fixed]
scales = "0.75, 1, 1.25"
pretrained = false
min_component_area = 1e-3
[baseline]
learning_rate = 1.2345678901234567e-4
""")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return formula_study(tmp_path_factory.mktemp("home"), num_trials=2)


def test_a_fit_comes_out_as_it_went_in_and_under_its_name(study):
    for spec in fold_specs(SPACE.configuration(SPACE.baseline_params()), study.plan):
        assert deserialized(serialized(spec)) == spec and deserialized(serialized(spec)).fit_id == spec.fit_id


def test_every_other_kind_of_job_comes_out_as_it_went_in(study):
    configuration = tuple(some_configurations(SPACE, 2, 0))
    jobs = [
        TimeJob(Path("/tmp/speeds.json"), configuration, study.plan, (1, 2, 4)),
        ScoreJob("f1", "test", {"a": "ab12"}, ("a/1", "a/2"), others=("f2",)),
        Toy(epochs=3, marker=Path("there"), seconds=float("inf")),
    ]
    assert [deserialized(serialized(job)) for job in jobs] == jobs


class Evil:
    def __reduce__(self):
        return pytest.fail, ("a job ran code",)


@pytest.mark.parametrize(
    "payload", [pickle.dumps(Evil()), b"", b'["Path", {}]', b'["Toy", {"epochs": []}]', b"[" * 99_999]
)
def test_what_is_no_job_is_refused(payload):
    with pytest.raises(Unreadable):
        deserialized(payload)


def test_what_no_lane_can_do_is_not_sent():
    with pytest.raises(TypeError, match=r"pathlib\..*Path is not a kind of job"):
        serialized(Path())
