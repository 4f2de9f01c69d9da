"""Answers of a study to checklist items on data: sources, exclusions, partitions. None: no fact."""

from __future__ import annotations

from orchestrator.results.report.checklists.item import Fact
from orchestrator.results.report.facts import StudyFacts
from orchestrator.results.report.prose import flow_sentence, listed, settings_text
from orchestrator.scoring.formatting import percent

PREPARING = ("image_size", "augmentation", "augmentation_strength", "scales", "sampling", "tta")


def timing(study: StudyFacts) -> str | None:
    """Whether data was collected for the study, and what its owners say of when and how it was."""
    known = [
        (one.name, [one.card[key] for key in ("dates", "inclusion") if key in one.card])
        for one in study.datasets
    ]
    collected = "; ".join(f"{name}: {', '.join(said)}" for name, said in known if said)
    return (
        "The model was developed and tested on stored images alone, all of which existed before the search "
        f"began{f' (collection: {collected})' if collected else ''}."
    )


def reference(study: StudyFacts) -> str | None:
    masks = "; ".join(f"{one.name}: {remark}" for one in study.datasets for remark in one.remarks)
    return (
        "The reference standard of an image is the mask that comes with it in its dataset, polyp against background, "
        f"for each pixel. {masks}".strip()
    )


def annotation_of_test(study: StudyFacts) -> str | None:
    """Whose masks the images outside the folds have."""
    outside = [one for one in study.datasets if one.role == "external"]
    parts = (
        ["Images of the hold-out test have the masks of their datasets, as those trained on have"]
        if study.num_test
        else []
    )
    parts += [f"{one.name}: {one.card.get('annotators', 'the masks of the dataset')}" for one in outside]
    return f"{'; '.join(parts)}." if parts else None


def sources(study: StudyFacts) -> str | None:
    return "; ".join(
        f"{one.name} ({one.role}{f', {one.layout}' if one.layout else ''}): {one.num_cases:,} images, content "
        "fingerprint "
        f"{one.fingerprint}{''.join(f', {what}: {said}' for what, said in one.card.items())}"
        for one in study.datasets
    )


def stated(*fields: str) -> Fact:
    """Function that answers with the owners' statements in these fields; None unless each dataset has one."""

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
    settings = settings_text(
        {name: study.champion.recipe[name] for name in PREPARING if name in study.champion.recipe}
    )
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


def characteristics(study: StudyFacts) -> str | None:
    return "; ".join(
        f"{one.name}: {one.num_cases:,} images, {_or_unknown(one.num_groups)} groups, "
        f"{one.num_centers or 'unknown'} centers, {one.num_empty:,} images without a polyp"
        for one in study.datasets
    )


def compared_sets(study: StudyFacts) -> str | None:
    """Differences between training and evaluation data that are on record."""
    parts = [
        f"{one.name} ({one.role}): {percent(one.num_empty / one.num_cases)} % without a polyp, median frame "
        f"{one.frame[1]} x {one.frame[0]}"
        for one in study.datasets
    ]
    return f"{level(study)} {'; '.join(parts)}."


def _or_unknown(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"
