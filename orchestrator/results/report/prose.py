"""Sentences and numbers of a report that follow from the facts alone: methods, cost, sample size, flow of images."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from orchestrator.common.display import counted
from orchestrator.results.report.facts import AGAIN, REFIT, CostFacts, DatasetFacts, Interval, StudyFacts
from orchestrator.results.views.score_lines import ScoreLine, interval_text
from orchestrator.scoring.formatting import percent

# Board power in data sheets, in watts.
WATTS = {
    "V100-SXM": 300,
    "V100-PCIE": 250,
    "V100": 300,
    "A100": 400,
    "H100": 700,
    "H200": 700,
    "B200": 1000,
    "P100": 250,
    "A10": 150,
    "A30": 165,
    "A40": 300,
    "A6000": 300,
    "L4": 72,
    "L40": 300,
    "L40S": 350,
    "T4": 70,
    "RTX 2080 Ti": 250,
    "RTX 3090": 350,
    "RTX 4090": 450,
    "RTX 5090": 575,
}
CPU_WATTS = 15  # of a process that computes on a processor: about a core, with its share of memory
ONE_POINT = 0.01  # Dice
SAMPLERS = {
    "surrogate": "a Gaussian process model of the scores on single folds",
    "tpe": "a multivariate tree-structured Parzen estimator",
    "gp": "a Gaussian process",
    "random": "random search",
}


def methods(study: StudyFacts) -> str:
    """A paragraph for a paper: what was done, with the numbers of this study."""
    return " ".join(sentence for sentence in _method_sentences(study) if sentence)


def _method_sentences(study: StudyFacts) -> list[str]:
    sources = [one for one in study.datasets if one.role == "searched on"]
    num_cases = sum(one.num_cases for one in sources)
    return [
        f"We trained {study.network} on {listed([one.name for one in sources])} ({num_cases:,} images"
        f"{_left_out(sources)}).",
        f"{_held_out(study)} {_grouping(study)}.",
        _search_sentence(study),
        *training_sentences(study),
        *_champion_sentences(study),
        *study.nested[:1],
    ]


def _held_out(study: StudyFacts) -> str:
    kept = (
        f"{study.num_test:,} images were held out as a test set; the others" if study.num_test else "Images"
    )
    folds = (
        f"{len(study.splits)} folds" if len(study.splits) > 1 else "one pair of training and validation set"
    )
    return f"{kept} were divided into {folds} (split {study.split}, digest {study.split_digest})."


def _left_out(sources: Sequence[DatasetFacts]) -> str:
    skipped = sum(one.num_skipped for one in sources)
    dropped = sum(one.num_dropped for one in sources)
    parts = [f"{skipped} files that could not be used were left out"] if skipped else []
    parts += [f"{dropped} images were dropped by the split"] if dropped else []
    return f"; {listed(parts)}" if parts else ""


def _search_sentence(study: StudyFacts) -> str:
    states = [trial.state for trial in study.trials]
    searched = sorted({name for trial in study.trials for name in trial.searched})
    if not states:
        return "No configuration was tried yet."
    words = {
        "complete": "trained on all folds",
        "stopped": f"stopped early by racing over folds ({study.race})",
        "failed": "not trained to the end, because training failed",
        "open": "not over",
    }
    counts = [f"{were(n)} {word}" for state, word in words.items() if (n := states.count(state))]
    again = study.fits_of.get(AGAIN, 0)
    hours = sum(cost.device_hours for cost in study.costs if cost.kind != REFIT)
    return (
        f"{len(states)} configurations of {listed(searched) or 'no parameter'} were proposed by "
        f"{SAMPLERS.get(study.sampler, study.sampler)} (seed {study.seed}), {_first_ones(study)}: "
        f"{listed(counts)}. {study.num_fits} fits of the search"
        + (f" and {again} of the re-evaluation" if again else "")
        + f" took, including those that were cut short, {duration(hours)} of device time."
    )


def _first_ones(study: StudyFacts) -> str:
    if len(study.networks) < 2:
        return "the first one being the baseline of the search space"
    return f"the first {len(study.networks)} being the baselines of the networks"


def training_sentences(study: StudyFacts) -> list[str]:
    """How the selected configuration is trained: no setting that is not the program's default is left out."""
    champion = study.champion
    if champion is None:
        return []
    of_network = f" with {settings_text(champion.options)}" if champion.options else ""
    return [
        f"The selected configuration is {study.chosen_network}{of_network}, trained with "
        f"{settings_text(champion.recipe)}; every other training setting has the program's default.",
        frozen_sentence(study),
    ]


def settings_text(settings: Mapping[str, object]) -> str:
    """ "image size 352, learning rate 0.01 and nesterov on"."""
    return listed([f"{name.replace('_', ' ')} {_setting(value)}" for name, value in settings.items()])


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " / ".join(map(_setting, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def frozen_sentence(study: StudyFacts) -> str:
    """Which part of the network is trained; empty where all of it is, or that is unknown."""
    everything = study.metrics.get("parameters", 0.0)
    trained = study.metrics.get("trained", everything)
    if trained == everything:
        return ""
    return f"Of its {everything:,.0f} parameters {trained:,.0f} were trained; the others stayed frozen."


def _champion_sentences(study: StudyFacts) -> list[str]:
    champion = study.champion
    if champion is None:
        return []
    sentences = []
    if champion.is_swept:
        rest = (
            "cross-validated scores use, for each fold, the threshold that the other folds chose"
            if champion.is_cross_fitted
            else "its validation score uses that same threshold, and is therefore a little too good"
        )
        sentences.append(f"The threshold of the probability was chosen on validation images; {rest}.")
    sentences += study.selection[:1]
    if study.reevaluated:
        sentences.append(
            f"{len(study.reevaluated)} finalists were re-evaluated before one was chosen, by the score over search "
            "and re-evaluation."
        )
    outside = [f"{line.name} ({counted(line.num_cases, 'image')})" for line in champion.scores[1:]]
    if outside:
        sentences.append(
            f"One network of the selected configuration, {champion.network}, was scored once, after the "
            f"search, on these images: {listed(outside)}, which had no part in it."
        )
    if any(half_width(line.interval) is not None for line in champion.scores):
        unit = (
            "whole groups (patients or videos, with their near-duplicates)"
            if study.groups_known
            else "whole groups where they are known, else single images with their near-duplicates,"
        )
        sentences.append(
            f"Intervals are 95 % intervals of the mean over images, with {unit} as the unit of resampling."
        )
    return sentences


def _grouping(study: StudyFacts) -> str:
    whole = (
        "Images of one patient or video stayed in one part"
        if study.groups_known
        else "Patients and videos are not known for all images"
    )
    if study.num_near_duplicates is None:
        return f"{whole}; near-duplicate images were not looked for"
    return f"{whole}; {study.num_near_duplicates:,} pairs of near-duplicate images were found and kept in one part"


def energy(study: StudyFacts) -> tuple[float | None, str]:
    """Kilowatt hours at the devices' full power, None where a device's is not known; and the assumption in words."""
    powers = {cost.device: _power(cost) for cost in study.costs}
    if unknown := [device for device, power in powers.items() if power is None]:
        return None, f"the power of {listed(unknown)} is not known to this program"
    kwh = sum(cost.device_hours * (powers[cost.device] or 0) for cost in study.costs) / 1000
    named = "; ".join(f"{device}: {power} W" for device, power in powers.items())
    return kwh, (
        f"if every device drew its full power while it trained ({named}); not counting the rest of the machines, "
        "cooling and idle time"
    )


def _power(cost: CostFacts) -> int | None:
    if not cost.is_gpu:
        return CPU_WATTS if cost.device != "unknown" else None
    names = sorted(WATTS, key=len, reverse=True)
    return next((WATTS[n] for n in names if re.search(rf"\b{re.escape(n)}(?![0-9])", cost.device)), None)


def energy_sentence(study: StudyFacts) -> str:
    """The estimate with its assumption, or why there is none."""
    kwh, how = energy(study)
    return f"Energy is not estimated: {how}." if kwh is None else f"About {kwh:.2g} kWh {how}."


def cost_sentence(study: StudyFacts) -> str:
    """Hours by device, racing's savings, energy."""
    if not study.costs:
        return "No fit is on record yet."
    devices: dict[str, float] = {}
    for cost in study.costs:
        devices[cost.device] = devices.get(cost.device, 0) + cost.device_hours
    where = listed([f"{duration(spent)} on {device}" for device, spent in devices.items()])
    saved = study.hours_saved
    racing = (
        ""
        if saved is None
        else f" The race left out, or cut, {study.num_saved} fits of trials that it stopped, saving about "
        f"{duration(saved)} at the mean of the finished fits."
    )
    return f"Device time of training and validation: {where}.{racing} {energy_sentence(study)}"


def images_for_one_point(line: ScoreLine) -> int | None:
    """Images needed for an interval of ± 1 Dice point, if they spread as these do; None where that is unknown."""
    half = half_width(line.interval)
    return None if half is None or half == 0 else math.ceil(line.num_cases * (half / ONE_POINT) ** 2)


def half_width(interval: Interval | None) -> float | None:
    """Half of the length of an interval; None without an interval."""
    known = interval is not None and all(map(math.isfinite, interval))
    return (interval[1] - interval[0]) / 2 if known and interval is not None else None


def flow(one: DatasetFacts) -> list[tuple[str, int]]:
    """Flow of a dataset's files: step, and how many are left after it or lost by it."""
    steps = [("pairs of image and mask found", one.num_cases + one.num_skipped)]
    steps += [(f"left out at import: {why}", -count) for why, count in one.skipped.items()]
    steps += [("images of the dataset", one.num_cases)]
    steps += [(f"dropped: {why}", -count) for why, count in one.dropped.items()]
    if one.role == "searched on":
        steps += [("held out for the test", -one.num_test)] if one.num_test else []
        other = one.num_cases - one.num_dropped - one.num_test - one.num_in_folds
        steps += [("in no fold", -other)] if other else []
        return [*steps, ("divided into folds", one.num_in_folds)]
    return [*steps, ("to be scored once, after the search", one.num_cases - one.num_dropped)]


def flow_sentence(one: DatasetFacts) -> str:
    """The flow of a dataset's files in one line."""
    steps = [f"{name} {count:,}" if count >= 0 else f"{name} ({-count:,})" for name, count in flow(one)]
    return f"{one.name}: {'; '.join(steps)}"


def threshold_range(by_threshold: Sequence[float], loss: float = ONE_POINT) -> tuple[float, float]:
    """The widest run of thresholds around the best one whose mean Dice is at most `loss` below it."""
    best = max(range(1, 256), key=lambda place: by_threshold[place])
    low = high = best
    while low > 1 and by_threshold[low - 1] >= by_threshold[best] - loss:
        low -= 1
    while high < 255 and by_threshold[high + 1] >= by_threshold[best] - loss:
        high += 1
    return low / 256, high / 256


def hours(value: float) -> str:
    """Hours to three digits."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def duration(value: float) -> str:
    """Hours as "12.3 minutes" or "4.56 hours"."""
    return f"{hours(60 * value)} minutes" if value < 1 else f"{hours(value)} hours"


def score_text(line: ScoreLine) -> str:
    """ "cross-validation: Dice 80.00 (95 % 75.00 to 85.00), n = 100"."""
    ends = f" (95 % {interval_text(line.interval)})" if half_width(line.interval) is not None else ""
    return f"{line.name}: Dice {percent(line.scores['dice'])}{ends}, n = {line.num_cases:,}"


def were(number: int) -> str:
    """ "1 was", "2 were"."""
    return f"{number:,} {'was' if number == 1 else 'were'}"


def listed(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
