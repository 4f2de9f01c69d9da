"""The colours of plots: those of Okabe and Ito, distinct for every common kind of colour blindness."""

import matplotlib as mpl

BLUE, ORANGE, GREEN, RED, SKY, PINK, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#F0E442",
)
BLACK, GRAY = "#222222", "#7F7F7F"
FOLD_COLORS = (BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW)


def fold_color(fold: int, num_folds: int) -> str:
    """Color of a fold: one of seven; of more folds, steps of a scale whose order everybody can see."""
    if num_folds <= len(FOLD_COLORS):
        return FOLD_COLORS[fold]
    return mpl.colors.to_hex(mpl.colormaps["cividis"](fold / (num_folds - 1)))
