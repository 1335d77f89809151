"""The comparison with published figures: what a printed figure is, each status, the files, and the command."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from conf import binding
from scripts import tables
from scripts.published import comparison
from scripts.published import our_accuracies as runs_module
from scripts.published.comparison import Comparison, compare, outcome
from scripts.published.recipes import data_name, overrides
from scripts.published.rows import FOLDER, NOT_RUN, Figure, Row, read
from tests import processes
from tests.conftest import ROOT

FIGURES = [
    ("1248424", 1_248_424, 0.5, "1,248,424"),
    ("569 M", 569e6, 0.5e6, "569 M"),
    ("1.594928 M", 1_594_928, 0.5, "1.594928 M"),
    ("2.61E7", 2.61e7, 0.5e5, "2.61E7"),
    ("72.0", 72.0, 0.05, "72.0"),
    ("7.32x", 7.32, 0.005, "7.32x"),
    ("27.40 %", 27.4, 0.005, "27.40 %"),
]


@pytest.mark.parametrize(("printed", "value", "half_unit", "shown"), FIGURES)
def test_a_figure_knows_its_last_digit(printed: str, value: float, half_unit: float, shown: str) -> None:
    figure = Figure.parse(printed)
    assert (figure.printed, figure.value) == (shown, pytest.approx(value, rel=1e-12))
    assert figure.half_unit == pytest.approx(half_unit)


def test_what_is_no_figure_is_refused() -> None:
    with pytest.raises(ValueError, match="'569 Mio' is no figure; write it as 1248424, 1.25 M"):
        Figure.parse("569 Mio")


def row(printed: str = "569 M", tolerance: float = 0.0, recorded: str = "exact", reason: str = "") -> Row:
    first = next(row for row in read("mobilenet") if row.quantity == "macs")
    return replace(first, figure=Figure.parse(printed), tolerance=tolerance, recorded=recorded, reason=reason)


OUTCOMES = [
    (row(), 568_740_352, "exact", "exact"),
    (row(), 569_500_000, "exact", "exact"),  # the very edge of the last digit
    (row(), 569_500_001, "differs", "differs (by 0.088 %)"),
    (row(tolerance=1), 574_000_000, "within", "within 0.88 %"),
    (row(tolerance=1), 575_000_000, "differs", "differs (by 1.1 %)"),
    (row("15.0 M", tolerance=2), 14_724_042, "within", "within 1.9 %"),  # 1.84: never less than it is
    (row("407 M", recorded="differs", reason="not known why"), 468_488_704, "differs", "differs (not known why)"),
]


@pytest.mark.parametrize(("published", "ours", "expected", "status"), OUTCOMES)
def test_each_status(published: Row, ours: float, expected: str, status: str) -> None:
    assert outcome(published, ours) == expected
    assert Comparison(published, ours, expected).status == status


def test_worse_than_recorded() -> None:
    assert Comparison(row(), 600e6, "differs").is_worse
    assert Comparison(row(recorded="within"), None, "not built").is_worse
    assert not Comparison(row(recorded="differs"), 569e6, "exact").is_worse
    accuracy = next(row for row in read("mobilenet") if row.quantity == "top1")
    assert not Comparison(accuracy, 10.0, "differs").is_worse


def test_the_files_parse_and_their_experiments_exist() -> None:
    rows = read()
    assert sum(not row.is_measured for row in rows) >= 120
    assert {row.experiment for row in rows if row.is_measured} - {None} <= {
        str(path.relative_to(ROOT / "conf/experiment").with_suffix(""))
        for path in (ROOT / "conf/experiment").rglob("*.yaml")
    }
    assert all(row.experiment for row in rows if row.is_measured)
    assert all(row.reason for row in rows if row.recorded == "differs")
    assert all(row.recorded == "exact" for row in rows if row.is_counted)


def test_printed_figures_and_counts_of_layer_tables_are_told_apart() -> None:
    """In every format, in the totals and for machines; a count has more digits than a paper prints."""
    rows = [row for row in read("ghostnet") if row.row == "GhostNet 1.0x" and row.quantity == "macs"]
    assert [(row.is_counted, row.figure.printed) for row in rows] == [(False, "141 M"), (True, "141,150,512")]
    done = [Comparison(row, 141_150_512.0, "exact") for row in rows]
    assert tables.summary(done) == "1 printed (1 exact); 1 counted from layer tables (1 exact); 0 of accuracy, printed"
    printed, counted = json.loads(tables.as_json(done))
    assert (printed["published"], printed["printed"], printed["counted"]) == (141_000_000, "141 M", None)
    assert (counted["published"], counted["printed"], counted["counted"]) == (None, None, 141_150_512)
    for line in (
        "| GhostNet 1.0x | macs | 141 M |  | 141,150,512 | exact | Han et al. 2020, arXiv:1911.11907 |",
        "| GhostNet 1.0x | macs |  | 141,150,512 | 141,150,512 | exact | counted from the layer table |",
    ):
        assert line in tables.as_markdown(done).splitlines()
    assert "<td>141 M</td><td></td>" in tables.as_html(done)
    heading, first, second = tables.as_table(done).splitlines()[1:4]
    assert first.index("141 M") == heading.index("printed")
    assert second.index("141,150,512") == heading.index("counted")


def test_printed_figures_are_rounded_as_papers_round() -> None:
    """To four digits at most, except where a repository's own script prints its counts."""
    printed = [row for row in read() if not row.is_measured and not row.is_counted]
    digits = [re.sub(r"\D", "", row.figure.printed).strip("0") for row in printed]
    assert {row.row for row, all_ in zip(printed, digits, strict=True) if len(all_) > 4} == {
        "ShiftResNet-20, expansion 3",
        "ResNet-20, shortcut B",
        "SqueezeNet 1.0, complex bypass",
    }


def test_a_wrong_key_is_refused(tmp_path: Path) -> None:
    text = (FOLDER / "sic.yaml").read_text().replace("within:", "whithin:", 1)
    (tmp_path / "sic.yaml").write_text(text)
    with pytest.raises(ValueError, match="no such key whithin; there are differs, printed"):
        read(folder=tmp_path)
    with pytest.raises(ValueError, match="paper=sik: there are sic"):
        read("sik", tmp_path)


def test_accuracies_come_from_runs_of_the_recipe() -> None:
    """Two seeds are averaged; a run of another recipe does not count."""
    (base,) = runs_module.finished_runs(ROOT / "results/fashion_mnist")[:1]
    same = [base | {"top1": top1, "data": "cifar10"} for top1 in (93.0, 94.0)]
    first = next(row for row in read("reference") if row.row == "ResNet-20" and row.quantity == "top1_error")
    none = {"l2": 0.0, "l1": 0.0}  # a part that records of before do not have
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "needs", lambda row: None)
        patch.setattr(runs_module, "recipe", lambda *overrides: base["config"] | {"gate_penalty": none})
        other = base | {"top1": 10.0, "data": "cifar10", "config": base["config"] | {"label_smoothing": 0.3}}
        done = compare(first, [*same, other])
        assert (done.ours, done.outcome) == (6.5, "differs")
        assert compare(first, [base]).outcome == NOT_RUN  # of another data set
        followed = ("lccl/imagenet_resnet34", "lccl/cifar100_resnet110", "gconv/cifar10_resnet44_plain")
        names = [data_name(f"experiment/{name}") for name in followed]
        assert names == ["imagenet", "cifar100", "cifar10"]
        for part, other in (("trainer", {"limit_train_batches": 2}), ("callbacks", {"ema": {"decay": 0.9}})):
            config = base["config"] | {part: base["config"][part] | other}
            assert compare(first, [base | {"data": "cifar10", "config": config}]).outcome == NOT_RUN


@pytest.mark.slow
def test_every_accuracy_row_makes_a_recipe(plain) -> None:
    """The row's network fits its experiment, at the row's input size, and is the one that the row's counts are of.

    One network for each experiment suffices where the networks are built for their counts anyway.
    """
    rows = read()
    built = {row.network for row in rows if not row.is_measured}
    recipes = {(row.experiment, "" if row.network in built else row.network): row for row in rows if row.is_measured}
    for row in recipes.values():
        config = plain(*overrides(row), "run_dir=here")
        assert config["model"] == plain(*row.network, config="complexity")["model"]
        binding.check({"model": config["model"], "data": config["data"]})


def test_the_exit_status_tells(monkeypatch, composed, capsys) -> None:
    config = composed(config="tables")
    done = [Comparison(row(), 600e6, "differs"), Comparison(row(), 569e6, "exact")]
    monkeypatch.setattr("scripts.published.comparison.compare_all", lambda rows, runs: done)
    with pytest.raises(SystemExit, match="1"):
        tables.main(config)
    assert "recorded: exact" in capsys.readouterr().err
    done.pop(0)
    tables.main(config)
    assert "1 printed (1 exact)" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_checks_every_row() -> None:
    done = processes.run("scripts/tables.py", "format=json", status=0)
    rows = json.loads(done.stdout)
    # No row is better than recorded either: then the record is out of date.
    counted = [row for row in rows if row["recorded"] != NOT_RUN]
    assert [row for row in counted if not row["status"].startswith(row["recorded"])] == []
    keys = [
        tuple(row[key] for key in ("paper", "table", "row", "quantity", "printed", "counted", "source")) for row in rows
    ]
    assert len(set(keys)) == len(keys)
    kept = (ROOT / "results/tables.md").read_text()  # is up to date
    assert [row for row in rows if f" | {row['status']} | {row['source']} |\n" not in kept] == []
    needed = [row["needs"] for row in rows if row["status"].startswith(NOT_RUN)]
    lines = [f"| {run['command']} | {run['data']} | {run['images']:,} x {run['epochs']} | " for run in needed]
    assert len(lines) == 274
    assert [line for line in lines if line not in kept] == []
