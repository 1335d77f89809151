"""An evaluation for people and as CSV."""

import csv
from io import StringIO
from typing import Any

from models.columns import columns

SHOWN = 30  # classes, and pairs of classes that are taken for each other


def as_table(found: dict[str, Any]) -> str:
    """The totals, each class's accuracy, and the most frequent mistakes."""
    images = found["images"]
    rows = [
        ("top-1", f"{found['top1']:.2f} %", f"{found['right']:,} of {images:,} images"),
        ("top-5", f"{found['top5']:.2f} %", ""),
        ("loss", f"{found['loss']:.4f}", ""),
        ("parameters", f"{found['params']:,}", ""),
        ("MACs", f"{found['macs']:,}", ""),
    ]
    if found["macs_effective"] is not None:
        rows.append(("  closed gates skipped", f"{found['macs_effective']:,.0f}", ""))
    if found["recorded_top1"] is not None:
        rows.append(("the run's own top-1", f"{found['recorded_top1']:.2f} %", ""))
    if found["answers_changed_by_deploy"] is not None:
        rows.append(("other answers", f"{found['answers_changed_by_deploy']:,}", "of the deployed network"))
    return "\n".join([*columns(rows, left=1), "", *_classes(found), "", *_mistakes(found)])


def _classes(found: dict[str, Any]) -> list[str]:
    """The worst classes first."""
    worst = sorted(found["classes"], key=lambda each: (each["top1"] is None, each["top1"], each["name"]))
    rows = [("class", "images", "right", "top-1 %")]
    for each in worst[:SHOWN]:
        top1 = "-" if each["top1"] is None else f"{each['top1']:.2f}"
        rows.append((each["name"], f"{each['images']:,}", f"{each['right']:,}", top1))
    return [*columns(rows, left=1), *_more(len(worst))]


def _mistakes(found: dict[str, Any]) -> list[str]:
    names = [each["name"] for each in found["classes"]]
    pairs = [
        (count, names[true], names[answer])
        for true, row in enumerate(found["confusion"])
        for answer, count in enumerate(row)
        if count and true != answer
    ]
    most = sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))
    rows = [("images", "class", "taken for"), *((f"{count:,}", *pair) for count, *pair in most[:SHOWN])]
    return [*columns(rows), *_more(len(most))] if most else ["no mistakes"]


def _more(number: int) -> list[str]:
    return [f"... and {number - SHOWN:,} more (format=json lists all)"] if number > SHOWN else []


def as_csv(found: dict[str, Any]) -> str:
    """The confusion matrix: a row for each class, its images and top-1, then a column for each answer."""
    names = [each["name"] for each in found["classes"]]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "images", "right", "top1", *names])
    for each, row in zip(found["classes"], found["confusion"], strict=True):
        writer.writerow([each["name"], each["images"], each["right"], each["top1"], *row])
    return text.getvalue().rstrip("\n")
