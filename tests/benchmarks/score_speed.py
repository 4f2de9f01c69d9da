"""Scores of masks and maps: ours against MONAI, MedPy and pysodmetrics, the same numbers from all.

    pip install monai medpy pysodmetrics
    python tests/benchmarks/score_speed.py
    python tests/benchmarks/score_speed.py --cases 50 --side 512 --rounds 5

masks     dice, iou, precision, recall, f2, accuracy, and of the outlines HD95, NSD and boundary F, of an image: ours in
          one pass; MONAI's confusion matrix, Hausdorff distance and surface Dice; MedPy's functions of a mask, without
          NSD, which it has not. Neither has boundary F: they do less.
maps      weighted F, structure and enhanced-alignment measure of a probability map: ours against pysodmetrics, whose
          class for each is given the map and the mask as 8-bit images, as its documentation has it.

An alternative that is not installed is said, and has no column. CPU seconds of one thread, rounds in turn. Whatever
two have both must agree, by 1e-4 (1e-2 pixels for HD95 of MONAI, whose arithmetic is float32), or `RuntimeError` ends
the run. MedPy's HD95 is one percentile of both outlines together and so another number: only its Hausdorff distance is
compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import torch
from rows import Row, add_rows_option, save_rows, spread
from threshold_sweep import Case, drawn_case

from orchestrator.scoring.distances import TOLERANCE, distances
from orchestrator.scoring.metrics import scores_of_masks
from orchestrator.scoring.papers.pranet import (
    e_measure_pranet,
    s_measure_pranet,
    stretched,
    weighted_f_pranet,
)

Scores = dict[str, float]


def ours(case: Case) -> Scores:
    predicted, truth = case[0] >= 0.5, case[1]
    return {**scores_of_masks(predicted, truth), **distances(predicted, truth)}


def by_monai(case: Case) -> Scores:
    from monai.metrics import HausdorffDistanceMetric, SurfaceDiceMetric
    from monai.metrics.confusion_matrix import compute_confusion_matrix_metric, get_confusion_matrix

    predicted, truth = (torch.from_numpy(one)[None, None].float() for one in (case[0] >= 0.5, case[1]))
    matrix = get_confusion_matrix(predicted, truth, include_background=True)
    names = {"dice": "f1 score", "iou": "threat score", "precision": "precision", "recall": "recall"}
    found = {
        name: float(compute_confusion_matrix_metric(theirs, matrix))
        for name, theirs in {**names, "accuracy": "accuracy"}.items()
    }
    tolerance = TOLERANCE * float(np.hypot(*case[1].shape))
    far = HausdorffDistanceMetric(include_background=True, percentile=95)(predicted, truth)
    near = SurfaceDiceMetric(class_thresholds=[tolerance], include_background=True)(predicted, truth)
    return {**found, "hausdorff95": float(far), "nsd": float(near)}


def by_medpy(case: Case) -> Scores:
    from medpy.metric import binary

    predicted, truth = case[0] >= 0.5, case[1]
    found = {
        "dice": binary.dc(predicted, truth),
        "iou": binary.jc(predicted, truth),
        "precision": binary.precision(predicted, truth),
        "recall": binary.recall(predicted, truth),
        "hausdorff": binary.hd(predicted, truth),
    }
    binary.hd95(predicted, truth)
    return {name: float(value) for name, value in found.items()}


def our_maps(case: Case) -> Scores:
    return {
        "weighted_f": weighted_f_pranet([case]),
        "s_measure": s_measure_pranet([case]),
        "e_measure": e_measure_pranet([case]),
    }


def by_pysodmetrics(case: Case) -> Scores:
    import py_sod_metrics

    stored, truth = np.round(case[0] * 255).astype(np.uint8), case[1].astype(np.uint8) * 255
    measures = {
        "weighted_f": py_sod_metrics.WeightedFmeasure(),
        "s_measure": py_sod_metrics.Smeasure(),
        "e_measure": py_sod_metrics.Emeasure(),
    }
    for measure in measures.values():
        measure.step(pred=stored, gt=truth, normalize=True)
    wfm, sm = measures["weighted_f"].get_results()["wfm"], measures["s_measure"].get_results()["sm"]
    curve = measures["e_measure"].get_results()["em"]["curve"]
    return {"weighted_f": float(wfm), "s_measure": float(sm), "e_measure": float(np.mean(curve))}


PAIRS: tuple[tuple[str, str, Callable[[Case], Scores], Callable[[Case], Scores]], ...] = (
    ("masks: scores and outlines", "monai", ours, by_monai),
    ("masks: scores and outlines", "medpy", ours, by_medpy),
    ("maps: weighted F, S and E measure", "py_sod_metrics", our_maps, by_pysodmetrics),
)


def compare(
    cases: Sequence[Case], first: Callable[[Case], Scores], second: Callable[[Case], Scores], rounds: int
) -> Iterator[tuple[float, float]]:
    """CPU milliseconds of an image of both, a pair a round. `RuntimeError`: their scores differ."""
    for case in cases:
        found, expected = first(case), second(case)
        for name, value in expected.items():
            if abs(found[name] - value) > (1e-2 if name.startswith("hausdorff") else 1e-4):
                raise RuntimeError(f"{name}: {found[name]} here, {value} by {second.__name__}")
    for number in range(rounds):
        ways = (first, second) if number % 2 == 0 else (second, first)
        taken = {way: milliseconds(way, cases) for way in ways}
        yield taken[first], taken[second]


def milliseconds(way: Callable[[Case], Scores], cases: Sequence[Case]) -> float:
    began = time.process_time()
    for case in cases:
        way(case)
    return 1e3 * (time.process_time() - began) / len(cases)


def cases_of(number: int, side: int) -> list[Case]:
    """Polyps, each found at least in part, since libraries differ in what empty masks score; maps from 0 to 1, since
    each of both would stretch them.
    """
    rng, found = np.random.default_rng(0), []
    while len(found) < number:
        probabilities, mask = drawn_case(rng)
        probabilities = cv2.resize(probabilities, (side, side))
        mask = cv2.resize(mask.astype(np.uint8), (side, side)) > 0
        if mask.any() and (probabilities >= 0.5).any():
            found.append((stretched(probabilities), mask))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores of an image: ours against three libraries.")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--side", type=int, default=352, help="of the masks, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    add_rows_option(parser)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    cases, rows = cases_of(options.cases, options.side), []
    for what, package, first, second in PAIRS:
        if importlib.util.find_spec(package) is None:
            print(f"left out: {package} is not installed")
            continue
        mine, theirs = zip(*compare(cases, first, second, options.rounds), strict=True)
        bound = (
            "the nearest pixels of two outlines" if first is ours else "distances of all pixels to the mask"
        )
        rows.append(Row(what, package, "CPU ms an image", mine, theirs, bound=bound))
        print(
            f"{what}: {spread(mine)} ms, {package} {spread(theirs)}, {spread(rows[-1].ratios)} times as fast"
        )
    save_rows(options.rows, rows)


if __name__ == "__main__":
    main()
