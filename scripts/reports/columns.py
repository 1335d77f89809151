"""What a table of a report shows of each network, for people and for machines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scripts.reports.groups import Line

Value = float | str | None
LEGEND = (
    "Top-1: mean +/- sample standard deviation over n runs with different seeds, after the last epoch; no epoch was "
    "chosen on the test set. Difference: from the same network with plain convolutions, mean +/- sample standard "
    "deviation of the differences seed by seed. One multiply-add is one MAC; a gate's own MACs are counted."
)


@dataclass(frozen=True)
class Column:
    """`title` says what it is, `value` is what a table is sorted by and what machines get, `text` what people read.

    `std` is the standard deviation of `value` where it has one.
    """

    key: str
    title: str
    value: Callable[[Line], Value]
    text: Callable[[Line], str]
    std: Callable[[Line], float | None] | None = None

    @property
    def is_number(self) -> bool:
        return self.key != "name"


def _number(key: str, title: str, value: Callable[[Line], float | None], written: Callable[[float], str]) -> Column:
    def text(line: Line) -> str:
        number = value(line)
        return "" if number is None else written(number)

    return Column(key, title, value, text)


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _three_digits(number: float) -> str:
    """1,234, 40.3, 6.10, 0.209."""
    return f"{number:#,.3g}" if abs(number) < 1 else f"{number:,.{2 if number < 10 else 1 if number < 100 else 0}f}"


def _millions(number: float) -> str:
    return _three_digits(number / 1e6)


def _top1(line: Line) -> str:
    return _mean_and_std(line.row.top1, line.row.top1_std)


def _difference(line: Line) -> str:
    if not line.difference:
        return ""
    text = _mean_and_std(line.difference.mean, line.difference.std, "+.2f")
    return text if line.difference.n == line.row.n else f"{text} (n = {line.difference.n})"


def _mean_and_std(mean: float, std: float | None, form: str = ".2f") -> str:
    return format(mean, form) if std is None else f"{mean:{form}} +/- {std:.2f}"


def _gates(line: Line) -> str:
    closed = line.row.gates_closed
    return f"{100 * closed[0]:.0f} ({100 * closed[1]:.0f} to {100 * closed[2]:.0f})" if closed else ""


COLUMNS = (
    Column("name", "network", lambda line: line.row.name, lambda line: line.row.name),
    _number("n", "n", lambda line: line.row.n, _whole),
    Column(
        "top1",
        "test top-1, %",
        lambda line: line.row.top1,
        _top1,
        lambda line: line.row.top1_std,
    ),
    Column(
        "difference",
        "difference from plain, points",
        lambda line: line.difference.mean if line.difference else None,
        _difference,
        lambda line: line.difference.std if line.difference else None,
    ),
    _number("params", "parameters", lambda line: line.row.params, _whole),
    _number("macs", "million MACs an image", lambda line: line.row.macs, _millions),
    _number("macs_effective", "closed gates skipped, million MACs", lambda line: line.row.macs_effective, _millions),
    _number("times_fewer_macs", "times fewer MACs", lambda line: line.times_fewer_macs, "{:.2f}".format),
    Column(
        "gates_closed",
        "gate positions closed, %: mean (least to most of a gate)",
        lambda line: 100 * line.row.gates_closed[0] if line.row.gates_closed else None,
        _gates,
    ),
    _number("eager_ms", "ms an image", lambda line: line.speed.get("eager_ms"), _three_digits),
    _number("deployed_ms", "ms an image, deployed", lambda line: line.speed.get("deployed_ms"), _three_digits),
    _number(
        "train_images_per_second", "training images/s", lambda line: line.speed.get("train_images_per_second"), _whole
    ),
)


def filled(lines: Sequence[Line]) -> list[Column]:
    """The columns that have something to say of at least one of `lines`."""
    return [column for column in COLUMNS if any(column.text(line) for line in lines)]
