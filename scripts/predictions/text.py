"""Predictions as lines of text: for people, as JSON, as CSV."""

import csv
import json
from dataclasses import dataclass
from io import StringIO

from conf.schema import PredictionFormat

TOP = 5  # classes of each image


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an `image`, each with its probability, or the `problem` of a file without."""

    image: str
    problem: str
    top: list[tuple[str, float]]


def header(kind: PredictionFormat) -> list[str]:
    """The lines before the first prediction."""
    if kind != PredictionFormat.csv:
        return []
    return [_csv(["image", "problem", *(f"{name}{rank}" for rank in range(1, TOP + 1) for name in ("class", "p"))])]


def line(prediction: Prediction, kind: PredictionFormat) -> str:
    """One line, also where a name has line breaks in it."""
    if kind == PredictionFormat.json:
        top = [{"class": name, "probability": probability} for name, probability in prediction.top]
        return json.dumps({"image": prediction.image, "problem": prediction.problem or None, "top": top})
    if kind == PredictionFormat.csv:
        pairs = [(name, f"{probability:.6g}") for name, probability in prediction.top]
        return _csv([prediction.image, prediction.problem, *(cell for pair in pairs for cell in pair)])
    top = "  ".join(f"{100 * probability:5.1f} % {name}" for name, probability in prediction.top)
    return f"{prediction.image}  {top or f'cannot be read: {prediction.problem}'}"


def _csv(cells: list[str]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
