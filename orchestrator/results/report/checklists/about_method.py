"""Answers of a study to checklist items on method: network, training, selection, machines. None: no fact."""

from __future__ import annotations

from orchestrator.results.report.facts import REFIT, StudyFacts
from orchestrator.results.report.prose import cost_sentence, frozen_sentence, listed, methods, settings_text
from orchestrator.training.recipe import ENCODER


def goal(study: StudyFacts) -> str | None:
    return (
        f"Development and validation of {study.network} for the segmentation of polyps in still colonoscopy "
        "images, by a "
        f"search over its hyperparameters for the highest {study.objective}."
    )


def use(study: StudyFacts) -> str | None:
    return (
        "For research on the segmentation of polyps in still images: not a medical device, and not for decisions about "
        "patients."
    )


def explained(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    return (
        "No method of explanation is part of the program; single images are shown with truth and prediction, the worst "
        "first, and probabilities with their calibration."
    )


def model(study: StudyFacts) -> str | None:
    found = {"parameters": "{:,.0f} parameters, frozen ones included", "gmacs": "{:.3g} GMACs for an image"}
    size = [text.format(study.metrics[name]) for name, text in found.items() if name in study.metrics]
    how = f" ({listed(size)}, of the selected configuration)" if size else ""
    return f"{study.chosen_network}{how}. Input: RGB image; output: probability of a polyp for each pixel."


def software(study: StudyFacts) -> str | None:
    return ", ".join(f"{name} {version}" for name, version in study.versions.items()) or None


def initial(study: StudyFacts) -> str | None:
    if study.initial is None or study.champion is None:
        return study.initial
    encoder = {name: study.champion.recipe[name] for name in ENCODER if name in study.champion.recipe}
    how = f"In training: {settings_text(encoder)}." if encoder else ""
    options = (
        f"Options of the network: {settings_text(study.champion.options)}." if study.champion.options else ""
    )
    return " ".join(part for part in (study.initial, options, frozen_sentence(study), how) if part)


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
    outside = (
        f"those outside the folds are of one network, {study.champion.network}; "
        if len(study.champion.scores) > 1
        else ""
    )
    return (
        f"No score of this report is that of an ensemble: {outside}in cross-validation each image is predicted by the "
        "network of its own fold."
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


def output(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    chosen = "chosen on validation images" if study.champion.is_swept else "a parameter of the trial"
    return f"Probability of each pixel; mask at {study.champion.threshold:.3f} or more, {chosen}."


def full_model(study: StudyFacts) -> str | None:
    if study.champion is None:
        return None
    again = " A refit on all images of the folds is on record." if study.fits_of.get(REFIT) else ""
    return (
        f"`orchestrator best {study.name} --export FOLDER` writes the selected network: weights, ONNX, configuration, "
        f"model card.{again}"
    )


def runs(study: StudyFacts) -> str | None:
    fits = ", ".join(f"{count:,} of kind {kind}" for kind, count in study.fits_of.items())
    return f"{len(study.trials):,} configurations; fits: {fits or 'none'}."


def seeds(study: StudyFacts) -> str | None:
    return (
        f"Seed {study.seed} of split and search; each fold has a seed of its own, the same over all trials."
    )


def hardware(study: StudyFacts) -> str | None:
    return cost_sentence(study) if study.costs else None


def machine(study: StudyFacts) -> str | None:
    return f"{study.machine}; {software(study) or 'versions not recorded'}; {hardware(study) or 'no fit yet'}"


def protocol(study: StudyFacts) -> str | None:
    return (
        "Technical information: search space (space.toml), split (splits.json) and the record of every fit are in the "
        f"study's folder; digest of the split {study.split_digest}, revision of the code {study.code}."
    )


def available(study: StudyFacts) -> str | None:
    return (
        f"Program: polyp-orchestrator {study.program} (Apache-2.0), revision {study.code}. Commands: "
        + "; ".join(f"`{command}`" for command in study.commands)
        + "."
    )


def _one_line(text: str) -> str:
    kept = (line.split("#")[0].strip() for line in text.splitlines())
    return "`" + " ".join(line for line in kept if line) + "`"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
