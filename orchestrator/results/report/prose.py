"""Sentences and numbers of a report that follow from the facts alone: methods, cost, sample size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.results.report.facts import DatasetFacts, Interval, ScoreFacts, StudyFacts
from orchestrator.scoring.formatting import percent

WATTS = {"V100": 300, "A100": 400, "H100": 700, "H200": 700, "L4": 72, "T4": 70}  # board power in data sheets
CPU_WATTS = 15  # of a core that computes, with its share of memory
ONE_POINT = 0.01  # Dice


def methods(study: StudyFacts) -> str:
    """A paragraph for a paper: what was done, with the numbers of this study."""
    return " ".join(sentence for sentence in _method_sentences(study) if sentence)


def _method_sentences(study: StudyFacts) -> list[str]:
    sources = [one for one in study.datasets if one.role == "searched on"]
    external = [one for one in study.datasets if one.role != "searched on"]
    num_cases = sum(one.num_cases for one in sources)
    sentences = [
        f"We trained {study.network} on {_listed([one.name for one in sources])} ({num_cases:,} images).",
        f"Images were split into {len(study.splits)} folds ({study.split}), after {study.num_test} images had been set "
        f"aside as a hold-out test set; {_grouping(study)}.",
        _search_sentence(study),
        "Binarisation thresholds were chosen on validation images; reported cross-validated scores use, for each fold, "
        "the threshold chosen on the other folds.",
        *study.selection[:2],
    ]
    if study.champion is not None:
        held_out = [line.name for line in study.champion.scores if "hold-out" in line.name]
        names = held_out + [f"{one.name} ({one.num_cases:,} images)" for one in external]
        if names:
            sentences.append(
                f"The selected model was scored once on {_listed(names)}, which the search never saw."
            )
    sentences.append(
        "Intervals are 95 % intervals of the mean over images, with whole groups as the unit of resampling."
    )
    return sentences


def _search_sentence(study: StudyFacts) -> str:
    states = [trial.state for trial in study.trials]
    searched = sorted({name for trial in study.trials for name in trial.searched})
    stopped = states.count("stopped")
    early = f" and {stopped} were stopped early by racing over folds" if stopped else ""
    return (
        f"{len(states)} configurations of {_listed(searched)} were proposed by {_sampler(study.sampler)}, of which "
        f"{states.count('complete')} were trained on all folds{early}; the baseline configuration was always trained "
        f"on all folds. In total {study.num_fits} fits took {study.hours:.1f} device hours."
    )


def _grouping(study: StudyFacts) -> str:
    whole = (
        "images of one patient or video stayed in one part" if study.groups_known else "groups were unknown"
    )
    if study.num_near_duplicates is None:
        return f"{whole}, and near-duplicates were not looked for"
    return f"{whole}, and {study.num_near_duplicates} pairs of near-duplicate images were kept together"


def _sampler(name: str) -> str:
    known = {
        "surrogate": "a Gaussian process that accounts for the number of folds behind each score",
        "tpe": "a multivariate tree-structured Parzen estimator",
        "gp": "a Gaussian process",
        "random": "random search",
    }
    return known.get(name, name)


def energy(study: StudyFacts) -> tuple[float, str]:
    """Kilowatt hours at the devices' full power, and the assumption in words."""
    watts, names = 0.0, []
    for device, count in study.devices.items():
        power = next((value for name, value in WATTS.items() if name in device), CPU_WATTS)
        watts += power * count
        names.append(f"{device}: {power} W")
    mean = watts / max(1, sum(study.devices.values()))
    return (
        study.hours * mean / 1000,
        f"at full power while training ({'; '.join(names)}), without cooling and idle time",
    )


def images_for_one_point(line: ScoreFacts) -> int | None:
    """Images needed for an interval of ± 1 Dice point, if they spread as these do; None where that is unknown."""
    half = half_width(line.interval)
    return None if half is None or half == 0 else math.ceil(line.num_cases * (half / ONE_POINT) ** 2)


def half_width(interval: Interval | None) -> float | None:
    """Half of the interval's length."""
    known = interval is not None and all(map(math.isfinite, interval))
    return (interval[1] - interval[0]) / 2 if known and interval is not None else None


def flow(one: DatasetFacts) -> str:
    """What became of the cases of a dataset, in a line."""
    parts = [f"{one.num_cases + one.num_skipped:,} files found", f"{one.num_skipped} could not be used"]
    if one.num_dropped:
        parts.append(f"{one.num_dropped} dropped as near-duplicates of training images")
    left = f"{one.num_cases - one.num_dropped:,} images remain ({one.num_empty} without a polyp)"
    return f"{one.name}: {'; '.join(parts)}; {left}"


def interval_text(interval: Interval | None) -> str:
    """ "80.0 to 90.0", in percent; a dash where it is unknown."""
    if interval is None or not all(map(math.isfinite, interval)):
        return "–"
    return f"{percent(interval[0])} to {percent(interval[1])}"


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
