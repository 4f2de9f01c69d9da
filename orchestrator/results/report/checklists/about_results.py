"""Answers of a study to checklist items on results: scores, failures, limits. None: no fact."""

from __future__ import annotations

from orchestrator.results.report.checklists.about_method import training
from orchestrator.results.report.checklists.item import NOT_APPLICABLE
from orchestrator.results.report.facts import StudyFacts
from orchestrator.results.report.figures.champion import calibration_error
from orchestrator.results.report.figures.importance import conditional_importances, importances
from orchestrator.results.report.prose import images_for_one_point, listed, score_text, threshold_range
from orchestrator.scoring.formatting import percent, points
from orchestrator.scoring.statistics import few_groups


def sample(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    parts = [
        f"{score_text(line)}; about {count:,} images for ± 1 point"
        for line in study.champion.scores
        if (count := images_for_one_point(line)) is not None
    ]
    return f"Width of the interval that was reached: {'. '.join(parts)}." if parts else None


def internal(study: StudyFacts) -> str | None:
    return _lines(study, is_external=False)


def external(study: StudyFacts) -> str | None:
    if not any(one.role == "external" for one in study.datasets):
        return f"{NOT_APPLICABLE}the study was given no external dataset."
    return _lines(study, is_external=True)


def _lines(study: StudyFacts, *, is_external: bool) -> str | None:
    if study.champion is None:
        return None
    lines = [line for line in study.champion.scores if line.name.endswith("(unseen)") == is_external]
    return "; ".join(map(score_text, lines)) or None


def all_scores(study: StudyFacts) -> str | None:
    return None if study.champion is None else "; ".join(map(score_text, study.champion.scores))


def spread(study: StudyFacts) -> str | None:
    """Mean and interval of the sets, and the folds one by one."""
    if study.champion is None:
        return None
    folds = ", ".join(percent(line.scores["dice"]) for line in study.champion.folds)
    return f"{all_scores(study)}" + (f"; Dice of the folds: {folds}" if folds else "")


def subgroups(study: StudyFacts) -> str | None:
    if study.champion is None or not study.champion.strata:
        return None
    return "; ".join(map(score_text, study.champion.strata))


def diagnostic(study: StudyFacts) -> str | None:
    """Sensitivity and specificity of images."""
    if study.champion is None:
        return None
    found, with_polyp = study.champion.found.num, study.champion.found.total
    empty, without = study.champion.left_empty.num, study.champion.left_empty.total
    parts = (
        [f"a mask touches the polyp in {found:,} of {with_polyp:,} validation images with one"]
        if with_polyp
        else []
    )
    parts += (
        [f"{empty:,} of {without:,} validation images without a polyp were left empty"] if without else []
    )
    return f"{'; '.join(parts)}." if parts else None


def failures(study: StudyFacts) -> str | None:
    champion = study.champion
    if champion is None:
        return None
    missed = int((champion.dice < 0.5).sum())
    worst = ", ".join(f"{one.case_id} ({percent(one.dice)})" for one in champion.worst[:5])
    return (
        f"Dice below 50 percent on {missed:,} of {len(champion.dice):,} validation images; the worst: {worst}. "
        "Pictures are in the report."
        + (f" By kind of image: {strata}." if (strata := subgroups(study)) is not None else "")
    )


def baseline(study: StudyFacts) -> str | None:
    """The winner against the baseline, where that has all its folds."""
    gain = next((one for one in study.gains if one.what == "baseline"), None)
    if gain is None:
        return None
    return (
        f"The baseline configuration is trial {gain.other}, trained and validated like all others; the winner's "
        "lead over "
        f"it is {points(gain.difference)} points of Dice (corrected p {gain.p_value:.2g})."
    )


def sensitivity(study: StudyFacts) -> str | None:
    """Sentences on the effect of other thresholds, seeds, folds and hyperparameters."""
    champion, found = study.champion, list[str]()
    if champion is None:
        return None
    low, high = threshold_range(champion.by_threshold.tolist())
    found.append(f"Threshold: mean Dice is within one point of its best from {low:.2f} to {high:.2f}.")
    if study.reevaluated:
        shown = "; ".join(f"trial {n}: {percent(a)} and {percent(b)}" for n, a, b, _ in study.reevaluated)
        found.append(f"Other folds and seeds (Dice in percent, search and re-evaluation): {shown}.")
    if shares := importances(study):
        listed_shares = ", ".join(f"{name} {percent(share)} %" for name, share in shares.items())
        found.append(
            f"Hyperparameters (share of the variance of {study.objective}, fANOVA): {listed_shares}."
        )
    if some := conditional_importances(study):
        listed_some = ", ".join(
            f"{name} {percent(a)} % of {count} trials" for name, (a, count) in some.items()
        )
        found.append(f"Hyperparameters that only some trials have, among these: {listed_some}.")
    found.append("The program does not examine robustness to blur, light and compression.")
    return " ".join(found)


def calibration(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    return (
        f"Expected calibration error over the pixels of validation images: {calibration_error(study.champion):.4f}; "
        "reliability diagram in the report."
    )


def analysis(study: StudyFacts) -> str | None:
    parts = [part for part in (training(study), calibration(study)) if part]
    return " ".join(parts) or None


def limits(study: StudyFacts) -> str | None:
    """The limitations that the facts show."""
    found = []
    if not study.groups_known:
        found.append(
            "patients and videos are not known for all images, which may lie on both sides of a split"
        )
    if study.num_near_duplicates is None:
        found.append("near-duplicate images were not looked for")
    if not any(one.role == "external" for one in study.datasets):
        found.append("no external dataset")
    if not study.num_test:
        found.append("no hold-out test")
    if len(study.splits) == 1:
        found.append("one fold: nothing shows what other training sets would change")
    if empty := [one.name for one in study.datasets if not one.num_empty]:
        found.append(
            f"no image without a polyp in {listed(empty)}: nothing is known about false alarms there"
        )
    for line in study.champion.scores if study.champion is not None else ():
        if line.num_groups is not None and (few := few_groups(line.num_groups)):
            found.append(f"{line.name}: {few}")
    return f"{'; '.join(found)}. Research only: not a medical device." if found else None
