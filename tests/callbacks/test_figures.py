"""Accuracy against MACs: what is drawn where, and that names cover nothing."""

import copy
import json
import random
from itertools import combinations, pairwise
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from callbacks.figures import CURRENT, accuracy_figure
from tests.conftest import ROOT

Record = dict[str, Any]


def on_digits() -> list[Record]:
    return [
        json.loads(path.read_text()) for path in sorted((ROOT / "results" / "digits" / "layers").glob("resnet20*.json"))
    ]


def study() -> list[Record]:
    """Made-up results of 25 networks, three seeds each: more of them, and closer together, than any study has."""
    draw, records, real = random.Random(1), [], on_digits()
    for number in range(25):
        record = copy.deepcopy(real[number % len(real)])
        if number >= len(real):
            record["model"] += f"_budget_ratio{number - 14}"
            record["config"]["model"]["budget_ratio"] = number - 14
            record["macs"] = round(record["baseline_macs"] / (number - 14) * draw.uniform(0.8, 1))
        used = record["macs_effective"] or record["macs"]
        top1 = 94 - 1.2 * np.log(record["baseline_macs"] / used) - abs(draw.gauss(0, 0.5))
        for seed in (1, 2, 3):
            config = record["config"] | {"seed": seed}
            records.append(record | {"seed": seed, "config": config, "top1": top1 + draw.gauss(0, 0.15)})
    return records


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def drawn(axes: Axes) -> tuple[list[Bbox], list[tuple[str, Bbox]]]:
    """The boxes of points, bars and lines, and of the names, as the renderer has them."""
    axes.figure.draw_without_rendering()
    boxes = []
    for line in axes.lines:
        corners = line.get_transform().transform(line.get_path().vertices)
        if line.get_marker() != "None":
            radius = line.get_markersize() / 2 * axes.figure.dpi / 72
            boxes += [Bbox([corner - radius, corner + radius]) for corner in corners]
        if line.get_linestyle() != "None":
            boxes += [Bbox([np.minimum(*ends) - 0.5, np.maximum(*ends) + 0.5]) for ends in pairwise(corners)]
    for bars in axes.collections:
        for ends in bars.get_segments():
            low, high = axes.transData.transform(ends)
            boxes.append(Bbox([low - 0.5, high + 0.5]))
    names = [(text.get_text(), Bbox(text.get_window_extent())) for text in axes.texts if not text.arrow_patch]
    for text in axes.texts:
        if text.arrow_patch:  # whose extent would be that of the line, too
            bare = axes.annotate(text.get_text(), text.xy, text.xyann, textcoords="offset points", fontsize=8)
            bare.set(ha="center", va="center")
            names.append((text.get_text(), bare.get_window_extent()))
            bare.remove()
    return boxes, names


@pytest.mark.parametrize(("records", "least"), [(on_digits(), 19), (study(), 20)], ids=["digits", "25 by 3 seeds"])
def test_names_cover_nothing(records: list[Record], least: int) -> None:
    axes = axes_of(accuracy_figure(records, records[10]))
    boxes, names = drawn(axes)
    assert len({name for name, _ in names}) >= least
    assert not [(one, other) for (one, a), (other, b) in combinations(names, 2) if a.overlaps(b)]
    assert not [name for name, box in names if box.count_overlaps(boxes)]
    frame = axes.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and box.y1 <= frame.y1 for _, box in names)


def test_few_ticks_with_plain_numbers() -> None:
    for records in (on_digits(), study(), on_digits()[:1]):
        axes = axes_of(accuracy_figure(records))
        axes.figure.draw_without_rendering()
        low, high = axes.get_xlim()
        texts = [tick.label1.get_text() for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        assert 2 <= len(texts) <= 9
        assert all(float(text) > 0 for text in texts)
        assert not axes.xaxis.get_minor_ticks()
    assert "0.2" in [tick.label1.get_text() for tick in axes_of(accuracy_figure(on_digits())).xaxis.get_major_ticks()]


def test_seeds_are_one_point_with_a_bar_and_what_is_shown_is_explained() -> None:
    records = [record for record in study() if record["model"] in ("resnet20", "resnet20_sic", "resnet20_lccl")]
    current = next(record for record in records if record["model"] == "resnet20_sic")
    figure = accuracy_figure(records, current)
    axes = axes_of(figure)
    for model, colour in (("resnet20_sic", CURRENT), ("resnet20_lccl", None)):
        runs = [record for record in records if record["model"] == model]
        macs, mean = runs[0]["macs_effective"] or runs[0]["macs"], fmean(run["top1"] for run in runs)
        (point,) = [
            line
            for line in axes.lines
            if line.get_marker() == "o"
            and line.get_linestyle() == "None"
            and list(line.get_xdata()) == [pytest.approx(macs)]
        ]
        assert list(point.get_ydata()) == [pytest.approx(mean)]
        assert colour is None or same_color(point.get_color(), colour)
        bars = [bar.get_segments()[0] for bar in axes.collections if bar.get_segments()[0][0][0] == pytest.approx(macs)]
        spread = stdev(run["top1"] for run in runs)
        assert [list(bar[:, 1]) for bar in bars] == [[pytest.approx(mean - spread), pytest.approx(mean + spread)]]
    gated = records[[record["model"] for record in records].index("resnet20_lccl")]
    ends = [list(line.get_xdata()) for line in axes.lines]
    assert [pytest.approx(gated["macs_effective"]), gated["macs"]] in ends
    (legend,) = figure.legends
    said = [text.get_text() for text in legend.get_texts()]
    assert said[0] == "a network, mean of 3 runs; bar: sample standard deviation"
    assert "this run's network" in said
    assert {text.get_text() for text in axes.texts} == {"plain", "sic", "lccl"}
    assert axes.get_title().startswith("resnet20 on digits")


def test_the_steps_are_the_front() -> None:
    cheap, worse, best = (on_digits()[0] | {"model": name} for name in ("cheap", "worse", "best"))
    for record, macs, top1, knob in ((cheap, 1e6, 80.0, 1), (worse, 2e6, 79.0, 2), (best, 4e6, 90.0, 3)):
        record |= {"macs": int(macs), "top1": top1, "backbone": record["model"]}
        record["config"] = record["config"] | {"label_smoothing": knob / 10}
    (steps,) = [
        line for line in axes_of(accuracy_figure([best, worse], cheap)).lines if "steps" in line.get_drawstyle()
    ]
    assert list(zip(steps.get_xdata(), steps.get_ydata(), strict=True)) == [(1e6, 80.0), (4e6, 90.0)]


def test_the_names_of_several_backbones_stay_whole() -> None:
    records = on_digits()[:3]
    records[1]["backbone"] = "vgg16"
    axes = axes_of(accuracy_figure(records))
    assert {text.get_text() for text in axes.texts} == {record["model"] for record in records}
    assert axes.get_title().startswith("Networks on digits")
    assert axes_of(accuracy_figure(records, title="Mine")).get_title() == "Mine"
