"""How figures of a report look: the Okabe-Ito palette, marks that differ in form, text that scales with the page."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

WIDTH = 5.6  # inches; two lie side by side on a wide page, so that 9 points are about 12 pixels
SMALL, TEXT = 8, 9  # points
DPI = 150
NOTHING = "no fold of any trial is finished yet"


@dataclass(frozen=True)
class Picture:
    """A figure with its caption, or the reason why there is none."""

    name: str  # of its file, without a suffix
    caption: str
    figure: Figure | None
    missing: str = ""

    @property
    def svg(self) -> str:
        """An <svg> element; empty where there is no figure."""
        return "" if self.figure is None else svg(self.figure)

    @property
    def files(self) -> dict[str, bytes]:
        """The figure as SVG and PNG; empty where there is none."""
        if self.figure is None:
            return {}
        return {f"{self.name}.svg": svg(self.figure).encode(), f"{self.name}.png": png(self.figure)}


def picture(name: str, caption: str, drawn: Figure | str) -> Picture:
    """Picture of a figure, or of the sentence that says why there is none (`drawn`)."""
    return Picture(name, caption, None, drawn) if isinstance(drawn, str) else Picture(name, caption, drawn)


def svg(figure: Figure) -> str:
    """The figure as an <svg> element."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.set_dpi(DPI)
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def axes_of(height: float) -> tuple[Figure, Axes]:
    """A figure of the page's width, and its only axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot(1, 1, 1)


def label(axes: Axes, x: str, y: str) -> None:
    """Labels, small ticks and a faint grid."""
    axes.set_xlabel(x, fontsize=TEXT)
    axes.set_ylabel(y, fontsize=TEXT)
    axes.tick_params(labelsize=SMALL)
    axes.grid(alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_wide(values: Sequence[float]) -> bool:
    """Whether positive numbers span a factor above 20, for which axes are logarithmic."""
    return len(values) > 1 and min(values) > 0 and max(values) / min(values) > 20


def positions(values: Sequence[object]) -> tuple[list[float], list[str]]:
    """Positions of values on an axis, and the labels of its ticks, empty for numbers."""
    if all(map(is_number, values)):
        return [float(value) for value in values], []  # type: ignore[arg-type]
    names = sorted({str(value) for value in values})
    return [float(names.index(str(value))) for value in values], names


def scaled(values: Sequence[object], *, is_log: bool) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Values scaled to [0, 1], logarithmic if `is_log`, and the labels of both ends; missing ones are nan."""
    known = [value for value in values if value is not None]
    if not all(map(is_number, known)):
        names = sorted({str(value) for value in known})
        places = [math.nan if value is None else names.index(str(value)) for value in values]
        return np.array(places) / max(1, len(names) - 1), (names[0], names[-1])
    numbers = np.array([math.nan if value is None else float(value) for value in values])  # type: ignore[arg-type]
    ends = f"{np.nanmin(numbers):.3g}", f"{np.nanmax(numbers):.3g}"
    numbers = np.log(numbers) if is_log else numbers
    spread = np.nanmax(numbers) - np.nanmin(numbers)
    return (numbers - np.nanmin(numbers)) / (spread or 1), ends
