"""What a study answers to items of reporting checklists. None: the study has no fact for it.

An answer is made of facts alone: what a study does not record is left to people, and "Does not apply" is said only
where the study's own options say so.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.results.report.champion_figures import calibration_error
from orchestrator.results.report.facts import REFIT, StudyFacts
from orchestrator.results.report.prose import (
    cost_sentence,
    flow_sentence,
    images_for_one_point,
    listed,
    methods,
    score_text,
    threshold_range,
)
from orchestrator.results.report.search_figures import importances
from orchestrator.scoring.formatting import percent, points
from orchestrator.scoring.statistics import few_groups

Fact = Callable[[StudyFacts], str | None]
NOT_APPLICABLE = "Does not apply: "


def goal(study: StudyFacts) -> str | None:
    return (
        f"Development and validation of {study.network} for the segmentation of polyps in still colonoscopy "
        "images, by a "
        f"search over its hyperparameters for the highest {study.objective}."
    )


def sources(study: StudyFacts) -> str | None:
    return "; ".join(
        f"{one.name} ({one.role}{f', {one.layout}' if one.layout else ''}): {one.num_cases:,} images, content "
        "fingerprint "
        f"{one.fingerprint}{''.join(f', {what}: {said}' for what, said in one.card.items())}"
        for one in study.datasets
    )


def stated(*fields: str) -> Fact:
    """What is stated of all datasets of a study, by field; None where something is not stated of one of them."""

    def answer(study: StudyFacts) -> str | None:
        known = [one for one in study.datasets if any(field in one.card for field in fields)]
        if len(known) < len(study.datasets):
            return None
        return "; ".join(
            f"{one.name}: {', '.join(one.card[field] for field in fields if field in one.card)}"
            for one in known
        )

    return answer


def excluded(study: StudyFacts) -> str | None:
    return ". ".join(flow_sentence(one) for one in study.datasets) + "."


def inclusion(study: StudyFacts) -> str | None:
    rules = [
        f"{one.name}, inclusion: {rule}" for one in study.datasets if (rule := one.card.get("inclusion"))
    ]
    return " ".join([*(f"{rule}." for rule in rules), excluded(study) or ""])


def subsets(study: StudyFacts) -> str | None:
    """Which images of the datasets are used at all."""
    dropped = [
        f"{count} of {one.name} ({why})" for one in study.datasets for why, count in one.dropped.items()
    ]
    chosen = f"all but {listed(dropped)}" if dropped else "all"
    return f"Of the images of the datasets {chosen} are used."


def preprocessing(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    params = study.champion.params
    named = {name: params[name] for name in ("image_size", "augmentation", "scales") if name in params}
    settings = ", ".join(f"{name} {value}" for name, value in named.items())
    masks = "; ".join(f"{one.name}: {remark}" for one in study.datasets for remark in one.remarks)
    return (
        f"Images are resized to the network's square input and scaled to [0, 1] ({settings}). {masks}".strip()
    )


def missing(study: StudyFacts) -> str | None:
    skipped = [
        f"{count} of {one.name} ({why})" for one in study.datasets for why, count in one.skipped.items()
    ]
    centers = [one.name for one in study.datasets if not one.num_centers]
    groups = [one.name for one in study.datasets if one.num_groups is None]
    lines = [f"Pairs of image and mask that could not be used were left out: {listed(skipped) or 'none'}."]
    if centers:
        lines.append(f"The center is unknown in {listed(centers)}.")
    if groups:
        lines.append(
            f"Patient and video are unknown in {listed(groups)}: only near-duplicates are groups there."
        )
    return " ".join(lines)


def partitions(study: StudyFacts) -> str | None:
    folds = "; ".join(f"{name}: {train:,} training, {val:,} validation" for name, train, val in study.splits)
    return f"Split {study.split} (digest {study.split_digest}): {folds}; hold-out test: {study.num_test:,} images."


def level(study: StudyFacts) -> str | None:
    by = "patient or video (group)" if study.groups_known else "group where it is known, else by image"
    near = (
        "near-duplicate images were not looked for"
        if study.num_near_duplicates is None
        else f"{study.num_near_duplicates:,} pairs of near-duplicate images were found, and are in one partition"
    )
    return f"Disjoint by {by}; {near}."


def sample(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    parts = [
        f"{score_text(line)}; about {count:,} images for ± 1 point"
        for line in study.champion.scores
        if (count := images_for_one_point(line)) is not None
    ]
    return f"Width of the interval that was reached: {'. '.join(parts)}." if parts else None


def model(study: StudyFacts) -> str | None:
    found = {"parameters": "{:,.0f} parameters, frozen ones included", "gmacs": "{:.3g} GMACs for an image"}
    size = [text.format(study.metrics[name]) for name, text in found.items() if name in study.metrics]
    how = f" ({listed(size)}, of the selected configuration)" if size else ""
    return f"{study.chosen_network}{how}. Input: RGB image; output: probability of a polyp for each pixel."


def software(study: StudyFacts) -> str | None:
    return ", ".join(f"{name} {version}" for name, version in study.versions.items()) or None


def initial(study: StudyFacts) -> str | None:
    return study.initial


def training(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    settings = ", ".join(f"{name} {_value(value)}" for name, value in study.champion.params.items())
    budget = ", ".join(f"{value} {key}" for key, value in study.budget.items()) or "no limit by a number"
    return (
        f"{methods(study)} Selected configuration: {settings}. Budget: {budget}. Search space: "
        f"{_one_line(study.space)}."
    )


def selection(study: StudyFacts) -> str | None:
    return " ".join(study.selection) or None


def ensemble(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    return (
        "No ensemble is in the scores of this report: those outside the folds are of one network, "
        f"{study.champion.network}; in cross-validation each image is predicted by the network of its own fold."
    )


def metrics(study: StudyFacts) -> str | None:
    return (
        f"Trials are ranked by {study.objective}. Reported: Dice, IoU, precision, recall, F2 and accuracy of "
        "each image at "
        "its own size, averaged over images; on an image without a polyp Dice is 1 if nothing is predicted, else 0."
    )


def statistics(study: StudyFacts) -> str | None:
    found = [
        "95 % intervals of the mean over whole groups: studentized bootstrap or Student's t on the jackknife, the wider"
    ]
    if study.gains:
        found.append(
            "trials are compared image by image (clustered signed ranks) and over folds (Nadeau-Bengio), "
            "corrected for the "
            "number of trials (Holm)"
        )
    return f"{'; '.join(found)}."


def sensitivity(study: StudyFacts) -> str | None:
    """What is known of other thresholds, seeds, folds and hyperparameters."""
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
    return " ".join(found)


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


def diagnostic(study: StudyFacts) -> str | None:
    """Sensitivity and specificity of images."""
    if study.champion is None:
        return None
    (found, with_polyp), (empty, without) = study.champion.found, study.champion.left_empty
    parts = (
        [f"a mask touches the polyp in {found:,} of {with_polyp:,} validation images with one"]
        if with_polyp
        else []
    )
    parts += (
        [f"{empty:,} of {without:,} validation images without a polyp were left empty"] if without else []
    )
    return f"{'; '.join(parts)}." if parts else None


def subgroups(study: StudyFacts) -> str | None:
    if study.champion is None or not study.champion.strata:
        return None
    return "; ".join(map(score_text, study.champion.strata))


def characteristics(study: StudyFacts) -> str | None:
    return "; ".join(
        f"{one.name}: {one.num_cases:,} images, {_or_unknown(one.num_groups)} groups, "
        f"{one.num_centers or 'unknown'} centers, {one.num_empty:,} images without a polyp"
        for one in study.datasets
    )


def failures(study: StudyFacts) -> str | None:
    champion = study.champion
    if champion is None:
        return None
    missed = int((champion.dice < 0.5).sum())
    worst = ", ".join(f"{one.case_id} ({percent(one.dice)})" for one in champion.worst[:5])
    return (
        f"Dice below 50 percent on {missed:,} of {len(champion.dice):,} validation images; the worst: {worst}. "
        "Pictures are "
        "in the report."
    )


def limits(study: StudyFacts) -> str | None:
    """Those that the facts show."""
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
        found.append("one fold: nothing says what other training sets would change")
    if empty := [one.name for one in study.datasets if not one.num_empty]:
        found.append(f"no image without a polyp in {listed(empty)}: nothing is known of false alarms there")
    for line in study.champion.scores if study.champion is not None else ():
        if line.num_groups is not None and (few := few_groups(line.num_groups)):
            found.append(f"{line.name}: {few}")
    return f"{'; '.join(found)}. Research only: not a medical device." if found else None


def available(study: StudyFacts) -> str | None:
    return (
        f"Program: polyp-orchestrator {study.program} (Apache-2.0), revision {study.code}. Commands: "
        + "; ".join(f"`{command}`" for command in study.commands)
        + "."
    )


def protocol(study: StudyFacts) -> str | None:
    return (
        "Technical information: search space (space.toml), split (splits.json) and the record of every fit are in the "
        f"study's folder; digest of the split {study.split_digest}, revision of the code {study.code}."
    )


def hardware(study: StudyFacts) -> str | None:
    return cost_sentence(study) if study.costs else None


def machine(study: StudyFacts) -> str | None:
    return f"{study.machine}; {software(study) or 'versions not recorded'}; {hardware(study) or 'no fit yet'}"


def runs(study: StudyFacts) -> str | None:
    fits = ", ".join(f"{count:,} of kind {kind}" for kind, count in study.fits_of.items())
    return f"{len(study.trials):,} configurations; fits: {fits or 'none'}."


def seeds(study: StudyFacts) -> str | None:
    return (
        f"Seed {study.seed} of split and search; each fold has a seed of its own, the same over all trials."
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


def output(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    chosen = "chosen on validation images" if study.champion.is_swept else "a parameter of the trial"
    return f"Probability of each pixel; mask at {study.champion.threshold:.3f} or more, {chosen}."


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


def full_model(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    again = " A refit on all images of the folds is on record." if study.fits_of.get(REFIT) else ""
    return (
        f"`orchestrator best {study.name} --export FOLDER` writes the selected network: weights, ONNX, configuration, "
        f"model card.{again}"
    )


def compared_sets(study: StudyFacts) -> str | None:
    """Differences between training and evaluation data that are on record."""
    parts = [
        f"{one.name} ({one.role}): {percent(one.num_empty / one.num_cases)} % without a polyp, median frame "
        f"{one.frame[1]} x {one.frame[0]}"
        for one in study.datasets
    ]
    return f"{level(study)} {'; '.join(parts)}."


def spread(study: StudyFacts) -> str | None:
    """Mean and interval of the sets, and the folds one by one."""
    if study.champion is None:
        return None
    folds = ", ".join(percent(line.scores["dice"]) for line in study.champion.folds)
    return f"{all_scores(study)}" + (f"; Dice of the folds: {folds}" if folds else "")


def _one_line(text: str) -> str:
    kept = (line.split("#")[0].strip() for line in text.splitlines())
    return "`" + " ".join(line for line in kept if line) + "`"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _or_unknown(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"
