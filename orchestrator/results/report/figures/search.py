"""All figures of a search with their captions, in the order of the page."""

from __future__ import annotations

from orchestrator.results.report.facts import StudyFacts
from orchestrator.results.report.figures.fits import fold_figure, timeline
from orchestrator.results.report.figures.importance import conditional_caption, importance
from orchestrator.results.report.figures.style import Picture, picture
from orchestrator.results.report.figures.trials import front, history, parallel, slices


def search_pictures(study: StudyFacts) -> list[Picture]:
    """All figures of a search; those that cannot be drawn have the reason instead."""
    return [
        picture(
            "history",
            f"{study.goal} of every trial, in the order of its start. A trial that was stopped is drawn at the mean "
            "over the folds that it finished, which are not the same images: it may be far off."
            + _unseen(study)
            if study.is_mean
            else f"{study.goal} of every trial with all its folds, in the order of its start.",
            history(study),
        ),
        picture(
            "race_timeline",
            "When every fit was trained. Colors are folds; a hatched bar is a fit that was cut before its last "
            "epoch; a "
            "triangle is the verdict that stopped a trial.",
            timeline(study),
        ),
        picture(
            "importance",
            "Share of the differences between trials that each parameter explains (fANOVA, Hutter et al. 2014), over "
            f"trials with all their folds. With few trials it is rough.{conditional_caption(study)}",
            importance(study),
        ),
        picture(
            "slices",
            f"{study.goal} against each searched parameter. Circles: trials with all folds; triangles: "
            "stopped by the "
            f"race, on the folds that they finished.{_unseen(study)}",
            slices(study),
        ),
        picture(
            "parallel_coordinates",
            "A line for each trial, through its parameters to its score; the darker, the better. Gray and dotted: "
            f"stopped by the race, on the folds that it finished, so that it may seem better than it "
            f"is.{_unseen(study)}",
            parallel(study),
        ),
        picture(
            "folds",
            "The best trials, fold by fold (symbols), all at the trial's one threshold. Bar: 95 % interval of the mean "
            "over all images, at thresholds chosen on other folds.",
            fold_figure(study),
        ),
        *(
            [
                picture(
                    "front",
                    "Trials by two objectives; no trial beats the filled ones in all objectives.",
                    front(study),
                )
            ]
            if study.secondary
            else []
        ),
    ]


def _unseen(study: StudyFacts) -> str:
    """Sentence on the trials that a figure lacks, as they have no finished fold; empty if there are none."""
    count = sum(study.worth(trial) is None for trial in study.trials)
    return (
        f" Not shown, as they have no finished fold: {count} of {len(study.trials)} trials." if count else ""
    )
