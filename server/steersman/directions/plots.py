"""Heads as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from steersman.directions.heads import Heads

_DPI = 150
# Of orange and blue: the colour-blind can tell them apart.
_COLOURS = "PuOr_r"


def draw(heads: Heads, path: Path) -> None:
    """Draw the contribution of every head, with the chosen ones framed."""
    values = np.array(list(heads.contributions.values()))
    layers, number = values.shape
    width, height = max(4.5, 0.22 * number + 2), max(3.0, 0.16 * layers + 1.2)
    figure = Figure(figsize=(min(width, 14), min(height, 14)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap=_COLOURS, norm=CenteredNorm(), aspect="auto", origin="lower")
    for layer, chosen in heads.chosen.items():
        for head in chosen:
            place = (head - 0.5, layer - 0.5)
            axes.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor="black", linewidth=1.2))
    axes.set_xlabel("head (framed: chosen)")
    axes.set_ylabel("layer")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, label="contribution to short reasoning")
    figure.savefig(path, dpi=_DPI)
