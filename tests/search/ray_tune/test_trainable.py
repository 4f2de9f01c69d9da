import logging
from pathlib import Path

import pytest
import ray
import toy_jobs
from formula import FormulaJobRunner, formula_study
from ray import tune
from ray.exceptions import RayError

from orchestrator.common.errors import FitFailed
from orchestrator.search.ray_tune.trainable import FoldTrial
from orchestrator.study.runnable_study import RunnableStudy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(toy_jobs.__file__).parent)}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def study(tmp_path) -> RunnableStudy:
    return formula_study(tmp_path, num_trials=1)


@pytest.fixture
def dispatcher():
    actor = ray.remote(toy_jobs.HastyDispatcher).options(num_cpus=0, max_concurrency=100).remote()
    yield actor
    ray.kill(actor)


def config(study: RunnableStudy, number: int, learning_rate: float) -> dict:
    """What the searcher would suggest."""
    return {
        "number": number,
        "params": {**study.space.fixed, "network": "unet", "learning_rate": learning_rate},
        "folds": [0, 1, 2, 3, 4],
    }


def begin(study: RunnableStudy, dispatcher) -> FoldTrial:
    trainable = tune.with_parameters(
        FoldTrial, space=study.space, plan=study.plan, ledger=study.store.ledger, dispatcher=dispatcher
    )
    return trainable(config(study, 0, 1e-3))


def fits_of(trial: FoldTrial) -> list[str]:
    return [spec.fit_id for spec in trial.waiting.values()]


def lane_takes(dispatcher) -> str:
    return ray.get(dispatcher.take.remote(0))[0]


def test_the_folds_of_a_visit_are_asked_for_at_once_and_updates_of_any_are_returned(study, dispatcher):
    trial = begin(study, dispatcher)
    trial.step()
    first, second = lane_takes(dispatcher), ray.get(dispatcher.take.remote(1))[0]
    ray.get(dispatcher.progress.remote(1, second, {"epoch": 0}))
    (told,) = trial.step()["updates"]
    assert told == {"fold": 1, "fit_id": second, "rows": [{"epoch": 0}], "done": False}
    assert first != second


def test_folds_that_are_on_record_are_read(study, dispatcher):
    trial = begin(study, dispatcher)
    work = FormulaJobRunner(study.store.ledger)
    for spec in trial.waiting.values():
        work(spec, None, 0, lambda row: True)
    result = trial.step()
    assert result["all_finished"]
    assert [(update["fold"], update["done"]) for update in result["updates"]] == [
        (fold, True) for fold in range(5)
    ]


def test_a_trial_fails_with_the_first_fold_that_does_and_lets_the_others_go(study, dispatcher):
    trial = begin(study, dispatcher)
    trial.step()
    fit_id = lane_takes(dispatcher)
    ray.get(dispatcher.end.remote(0, fit_id, "failed", "the loss became nan"))
    with pytest.raises(FitFailed, match="fold 0: the loss became nan"):
        trial.step()
    assert study.store.ledger.failure(0) == "fold 0: the loss became nan"
    others = ray.get(dispatcher.follow.remote(dict.fromkeys(fits_of(trial)[1:], 0)))
    assert {update.state for update in others.values()} == {"stopped"} and len(others) == 4


def test_a_bug_in_a_trial_is_on_record_with_its_traceback(study, dispatcher):
    trial = begin(study, dispatcher)
    trial.waiting[0] = None
    with pytest.raises(AttributeError):
        trial.step()
    first, *rest = study.store.ledger.failure(0).splitlines()
    assert first == "AttributeError: 'NoneType' object has no attribute 'fit_id'"
    assert rest[0].startswith("Traceback")


def test_a_trial_whose_dispatcher_is_gone_has_not_failed(study, dispatcher):
    trial = begin(study, dispatcher)
    ray.kill(dispatcher)
    with pytest.raises(RayError):
        trial.step()
    assert study.store.ledger.failure(0) is None


def test_a_trial_that_is_reused_lets_the_fits_of_the_one_before_go(study, dispatcher):
    trial = begin(study, dispatcher)
    trial.step()
    before = fits_of(trial)
    trial.reset_config(config(study, 1, 1e-2))
    update = ray.get(dispatcher.follow.remote(dict.fromkeys(before, 0)))
    assert {of.state for of in update.values()} == {"stopped"} and len(update) == 5


def test_a_fit_that_another_trial_let_go_is_asked_for_again(study, dispatcher):
    trial = begin(study, dispatcher)
    trial.step()
    fit_id = lane_takes(dispatcher)
    ray.get(dispatcher.end.remote(0, fit_id, "stopped"))
    trial.step()
    trial.step()
    assert trial.num_seen[fit_id] == 0
    assert fit_id not in ray.get(dispatcher.follow.remote({fit_id: 0}))
