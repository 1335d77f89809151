"""The confusion matrix of an evaluation as a picture."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

WITH_NUMBERS = 20  # classes; with more there is no room


def confusion_figure(found: dict[str, Any]) -> Figure:
    """A row for each class, a column for each answer, the share of the class's images as a colour and in percent."""
    names = [each["name"] for each in found["classes"]]
    counts = np.array(found["confusion"])
    shares = 100 * counts / np.maximum(1, counts.sum(1, keepdims=True))
    side = min(20.0, max(4.0, 0.5 * len(names))) + 2.5
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, label="images of the class, %", shrink=0.7)
    axes.set(xlabel="answer", ylabel="class")
    axes.set_title(f"top-1 {found['top1']:.2f} % of {found['images']:,} test images")
    if len(names) <= WITH_NUMBERS:
        for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):
            colour = "white" if shares[row, column] > 50 else "black"
            axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    size = max(3.0, min(9.0, 250 / len(names)))
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    return figure
