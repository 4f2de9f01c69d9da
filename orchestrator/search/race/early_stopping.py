"""Rule that cuts a fit before its last epoch: only where it cannot catch up, because learning curves cross.

A fit is cut where even two generous extrapolations fall short of what the incumbent reached on the same fold: that it
gains more from here than any finished fit of the study did from that share of its schedule, and that it goes on rising
at its present rate until its last epoch. Where the trial leads on its finished folds, it may lose as much on this one,
because the mean over folds decides. Where it trails, that counts for nothing: other folds may compensate.

Samplers see the Dice that a cut fit would have reached by the usual gain. Its best so far is several points too low: a
model that took it for the result would find the best configuration less exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

from orchestrator.scoring.formatting import percent
from orchestrator.search.race.rules import Verdict

GRACE = 1 / 3  # share of the schedule before which nothing is cut
LATE = 0.8  # after which too little is saved: a record says more than a cut
MIN_FINISHED = 5  # finished fits, before which gains are not known
MORE_THAN_EVER = 1.5  # times the largest gain of any finished fit
MARGIN = 0.05  # of Dice; above the noise of images and seeds on one fold: the race decides what is closer


@dataclass(frozen=True)
class Curve:
    """Validation Dice of a fit, epoch by epoch."""

    dice: Sequence[float]
    num_epochs: int  # of its schedule; a finished fit may have ended earlier

    def best_at(self, share: float) -> float:
        """Highest Dice within this share of the schedule."""
        return max(self.dice[: max(1, round(share * self.num_epochs))])

    def gain_after(self, share: float) -> float:
        """Dice gained after this share of the schedule."""
        return self.best_at(1) - self.best_at(share)

    @property
    def share(self) -> float:
        return len(self.dice) / self.num_epochs


class Finished:
    """Learning curves of finished fits, and the largest gain of any from a share of its schedule on."""

    def __init__(self, curves: Iterable[Curve] = ()) -> None:
        self.curves = list(curves)
        self.gains: dict[
            float, tuple[int, float]
        ] = {}  # share -> number of curves considered, their largest gain

    def __len__(self) -> int:
        return len(self.curves)

    def append(self, curve: Curve) -> None:
        self.curves.append(curve)

    def usual_gain(self, share: float) -> float:
        """Median gain in Dice of the finished fits after a share of the schedule; needs at least one."""
        return median(one.gain_after(share) for one in self.curves)

    def largest_gain(self, share: float) -> float:
        """Largest gain in Dice of any finished fit after a share of its schedule; needs at least one."""
        known, largest = self.gains.get(share, (0, -math.inf))
        new = (one.gain_after(share) for one in islice(self.curves, known, None))
        largest = max(largest, *new) if known < len(self.curves) else largest
        self.gains[share] = len(self.curves), largest
        return largest


def cut(curve: Curve, finished: Finished, target: float, against: int, lead: float = 0.0) -> Verdict | None:
    """A verdict that stops a fit with which its trial can no longer reach trial `against`; None: it goes on.

    target: Dice of the best epoch of that trial on this fold. lead: Dice by which this fit may fall short of it
    (`lead_of`).
    """
    if not GRACE <= curve.share <= LATE or len(finished) < MIN_FINISHED:
        return None
    best = max(curve.dice)
    gain = finished.largest_gain(curve.share)
    rise = _rise(curve) * (curve.num_epochs - len(curve.dice))
    hope = best + max(MORE_THAN_EVER * gain, rise) + MARGIN
    if hope >= target - max(0.0, lead):
        return None
    ahead = f", less this trial's lead of {percent(lead)} on other folds" if lead > 0 else ""
    reason = (
        f"epoch {len(curve.dice)} of {curve.num_epochs}: best Dice {percent(best)}; even {percent(hope)}, more than "
        f"any fit gained from here, is below the {percent(target)} of trial {against} on this fold{ahead}"
    )
    numbers = {
        "best_dice": best,
        "expected": best + finished.usual_gain(curve.share),
        "hope": hope,
        "target": target,
        "epoch": len(curve.dice),
        "lead": lead,
    }
    return Verdict("stop", reason, against, numbers)


def expected_difference(verdict: Verdict) -> float | None:
    """Dice with which a cut fit would have ended, minus the incumbent's on its fold; None: the verdict cut no fit."""
    numbers = verdict.numbers
    if "best_dice" not in numbers:
        return None
    return numbers.get("expected", numbers["best_dice"]) - numbers["target"]  # older records lack it


def lead_of(
    own: Mapping[int, float], other: Mapping[int, float], fold: int, num_images: Sequence[float]
) -> float:
    """Dice by which a trial may fall short of the other on `fold` and still reach its mean over images.

    own, other: fold -> Dice of the best epoch, of finished folds; those that both have count.
    """
    shared = own.keys() & other.keys() - {fold}
    return math.fsum(num_images[f] * (own[f] - other[f]) for f in shared) / num_images[fold]


def _rise(curve: Curve) -> float:
    """Dice gained per epoch over the last third of the epochs so far, of the best epoch so far."""
    span = max(1, len(curve.dice) // 3)
    before = max(curve.dice[:-span], default=0.0)
    return max(0.0, max(curve.dice) - before) / span
