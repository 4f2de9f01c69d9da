import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from orchestrator.search.ledger import Ledger
from orchestrator.search.searcher import OptunaSearcher
from orchestrator.search.space import parse_space

SPACE = parse_space("""
network = "unet"
[search]
learning_rate = { log_uniform = [1e-5, 1e-1] }
[baseline]
learning_rate = 1e-4
""")


def score(params: dict) -> float:
    return 1 / (1 + abs(params["learning_rate"] - 1e-3))


@pytest.fixture
def journal(tmp_path):
    return optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.journal"))
    )


def searcher(journal, tmp_path, num_trials: int = 4, seed: int = 0) -> OptunaSearcher:
    study = optuna.create_study(storage=journal, study_name="s", direction="maximize", load_if_exists=True)
    return OptunaSearcher(study, SPACE, Ledger(tmp_path), num_trials=num_trials, seed=seed)


def run(searcher: OptunaSearcher, num_trials: int) -> list[float]:
    """Suggest and tell; return the learning rates that were asked for."""
    asked = []
    for index in range(num_trials):
        config = searcher.suggest(f"tune-{index}")
        asked.append(config["params"]["learning_rate"])
        searcher.on_trial_complete(f"tune-{index}", {"dice": score(config["params"])})
    return asked


def test_the_papers_setting_is_always_trial_0(journal, tmp_path):
    config = searcher(journal, tmp_path).suggest("tune-0")
    assert config["number"] == 0
    assert config["params"]["learning_rate"] == 1e-4


def test_the_budget_counts_trials_of_earlier_runs(journal, tmp_path):
    run(searcher(journal, tmp_path), 3)
    later = searcher(journal, tmp_path)
    assert later.num_remaining == 1
    run(later, 1)
    assert later.suggest("tune-9") == Searcher.FINISHED


def test_an_interrupted_trial_is_taken_up_under_its_number(journal, tmp_path):
    first = searcher(journal, tmp_path)
    run(first, 2)
    before = first.suggest("tune-2")
    again = searcher(journal, tmp_path).suggest("tune-0")
    assert again == before


def test_a_trial_that_died_before_it_had_its_parameters_is_given_those_it_would_have_had(journal, tmp_path):
    undisturbed = run(searcher(optuna.storages.InMemoryStorage(), tmp_path), 3)
    first = searcher(journal, tmp_path)
    run(first, 2)
    first.study.ask()
    assert run(searcher(journal, tmp_path), 1) == undisturbed[2:]


def test_a_trial_that_tune_only_stopped_stays_open(journal, tmp_path):
    first = searcher(journal, tmp_path)
    first.suggest("tune-0")
    first.on_trial_complete("tune-0", {"fold": 1})
    assert first.study.trials[0].state == TrialState.RUNNING


def test_a_failed_trial_is_told_as_failed_with_its_error(journal, tmp_path):
    first = searcher(journal, tmp_path)
    first.suggest("tune-0")
    first.ledger.write_failure(0, "the loss became nan")
    first.on_trial_complete("tune-0", error=True)
    trial = first.study.trials[0]
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["error"] == "the loss became nan"


def test_a_trial_is_told_once(journal, tmp_path):
    first = searcher(journal, tmp_path)
    first.suggest("tune-0")
    first.study.tell(0, 0.5)
    first.on_trial_complete("tune-0", {"dice": 0.9})
    assert first.study.trials[0].value == 0.5


def test_an_interrupted_study_asks_what_an_undisturbed_one_asks(tmp_path):
    def storage(name: str):
        return optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(tmp_path / name))
        )

    whole = run(searcher(storage("a"), tmp_path, 14), 14)
    parts = run(searcher(storage("b"), tmp_path, 14), 12) + run(searcher(storage("b"), tmp_path, 14), 2)
    assert parts == whole


def test_seeds_differ(tmp_path):
    asked = [run(searcher(optuna.storages.InMemoryStorage(), tmp_path, 3, seed), 3)[1:] for seed in (0, 1)]
    assert asked[0] != asked[1]
