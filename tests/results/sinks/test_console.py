"""What a running study prints."""

from __future__ import annotations

from pathlib import Path

from formula import carry_out, formula_study

from orchestrator.results.sinks.console import ConsoleSink
from orchestrator.search.forecast.width import WidthChoice
from orchestrator.search.race.rules import Verdict
from orchestrator.study.sinks import AllSinks
from orchestrator.training.ray.lanes import Shape


def test_a_fold_a_trial_and_a_pause_are_a_line_each(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=2)
    carry_out(study, [1e-4, 1e-3])
    said: list[str] = []
    first, second = study.store.trials()
    console = ConsoleSink(study.store, say=said.append, show=lambda *_: None)
    with AllSinks([console]) as report:
        report.started(study, Shape(1, 2, 1, 0, "cpu"))
        assert "2 trials finished already" in said[0] and "1 lane of 2 workers on cpu" in said[0]
        report.width_chosen(WidthChoice(2, "2 workers per fit: on 4 GPUs 40 trials take 3 h"))
        report.fold_finished(1, 0, second.records[0], second.configuration.masks)
        report.judged(1, Verdict("go", "it leads", None, {}))
        report.judged(1, Verdict("pause", "others lead", None, {}))
        report.trial_finished(second)
        report.trial_finished(first)
    fold, pause, best, last = said[-4:]
    assert fold.startswith("trial 1 fold 0  dice") and "best epoch 3/3" in fold
    assert pause == "trial 1 waits: others lead"
    assert (
        "trial 1 done  dice 100.00 at one threshold for all folds, best so far" in best
        and "best so far" not in last
    )


def test_an_event_reaches_every_sink_and_each_is_closed(tmp_path: Path):
    said: list[str] = []
    study = formula_study(tmp_path, num_trials=1)
    carry_out(study, [1e-4])
    sinks = [ConsoleSink(study.store, say=said.append, show=lambda *_: None) for _ in range(2)]
    with AllSinks(sinks) as report:
        report.trial_finished(study.store.trials()[0])
    assert len(said) == 2 and said[0] == said[1]
