"""A report of runs as text: what it folds, what it leaves out, what it says of both."""

import csv
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from scripts.reports.curves import mean_curves
from scripts.reports.embedded import BLOCK, embedded
from scripts.reports.found import find
from scripts.reports.groups import groups
from scripts.reports.published import published
from scripts.reports.text import as_csv, as_latex, as_markdown, entries_of
from tests import processes
from tests.conftest import ROOT
from tests.scripts.reports_of_digits import TOP1, kept, of_seed, study, write

PICTURE = "accuracy_against_macs.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study(made := tmp_path_factory.mktemp("study"))
    return made


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of the only group in `folder`, by name."""
    (group,) = groups(find([folder]))
    return {entry["name"]: entry for entry in entries_of(group)}


def test_seeds_are_folded_and_paired_with_the_same_network_with_plain_convolutions(folder: Path) -> None:
    found = entries(folder)
    assert set(found) == {"resnet20", "resnet20_ghost", "resnet20_lccl", "resnet20_sic"}
    for layer, accuracies in TOP1.items():
        row = found["resnet20" if layer == "conv" else f"resnet20_{layer}"]
        assert (row["n"], row["seeds"]) == (3, [1, 2, 3])
        assert row["top1"] == pytest.approx(np.mean(accuracies))
        assert row["top1_std"] == pytest.approx(np.std(accuracies, ddof=1))
        if layer == "conv":
            assert row["difference"] is row["difference_std"] is row["difference_n"] is None
        else:
            pairs = np.subtract(accuracies, TOP1["conv"])
            assert (row["difference"], row["difference_n"]) == (pytest.approx(pairs.mean()), 3)
            assert row["difference_std"] == pytest.approx(pairs.std(ddof=1))
    lccl = kept("lccl")
    shares = list(lccl["gate_sparsity"].values())
    assert found["resnet20_lccl"]["gates_closed"] == pytest.approx(100 * np.mean(shares))
    assert found["resnet20_lccl"]["times_fewer_macs"] == pytest.approx(lccl["baseline_macs"] / lccl["macs_effective"])
    assert found["resnet20_sic"]["eager_ms"] == pytest.approx(kept("sic")["macs"] / 1e7)
    assert found["resnet20_ghost"]["eager_ms"] is None
    assert found["resnet20_sic"]["commands"][1] == "python train.py model/layer=sic seed=2"


def test_other_recipes_sizes_and_data_are_other_groups(tmp_path: Path) -> None:
    record = kept("sic")
    smoothed, larger = of_seed(record, 2, 80.0), of_seed(record, 3, 80.0)
    smoothed["config"]["label_smoothing"] = 0.2
    larger["config"]["data"] = larger["config"]["data"] | {"input_size": 32}
    for path, run in {"a": record, "b": smoothed, "c": larger, "d": of_seed(record, 4, 80.0, data="mnist")}.items():
        write(tmp_path / path, run)
    titles = [group.title for group in groups(find([tmp_path]))]
    assert sorted(titles) == [
        "digits, 16 px, 40 epochs, label_smoothing=0.1",
        "digits, 16 px, 40 epochs, label_smoothing=0.2",
        "digits, 32 px, 40 epochs",
        "mnist, 16 px, 40 epochs",
    ]


def test_what_is_folded_of_different_code_or_twice_says_so(tmp_path: Path) -> None:
    record = kept("sic")
    write(tmp_path / "a", of_seed(record, 1, 90.0))
    write(tmp_path / "b", of_seed(record, 2, 91.0, git_sha="f" * 40 + "-dirty", machine="a GPU"))
    write(tmp_path / "c", of_seed(record, 2, 92.0))
    (group,) = groups(find([tmp_path]))
    (line,) = group.lines
    assert line.notes == [
        "runs of 2 commits of this code",
        "runs on 2 machines",
        "files differed from the commit",
        "seed 2 ran 2 times",
    ]
    assert "resnet20_sic: runs of 2 commits of this code; " in as_markdown([group])
    assert "runs of 2 commits" in as_latex([group])
    assert "Machine: a CPU, a GPU. Code: commits d5313b5122, ffffffffff." in as_markdown([group])


BROKEN: dict[str, tuple[Any, str]] = {
    "half": ('{"top1": 9', "broken or half-written"),
    "empty": ("", "broken or half-written"),
    "list": ("[]", "not what a run writes"),
    "foreign": ('{"config": {}, "data": "digits"}', "it has no model, layer, epochs"),
    "words": ({"top1": "90"}, "its top1 is '90'"),
    "nan": ({"top1": float("nan")}, "its top1 is nan"),
    "share": ({"top1": 101.0}, "its top1 is 101.0, which is no per cent"),
    "config": ({"config": {"seed": 1}}, "its config has no data, model or seed"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_result_is_named_and_left_out(
    case: str, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content, reason = BROKEN[case]
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "result.json"
    path.write_text(content if isinstance(content, str) else json.dumps(kept("sic") | content))
    found = find([folder, tmp_path])
    assert len(found.runs) == 12
    assert reason in found.left_out[path]
    assert f"left out: {path}: " in caplog.text


def test_the_same_run_in_two_places_counts_once(tmp_path: Path) -> None:
    first = write(tmp_path / "a", kept("sic"))
    second = write(tmp_path / "b", kept("sic"))
    found = find([tmp_path, first])
    assert [run.path.parent for run in found.runs] == [first]
    assert found.left_out == {second / "result.json": "the same run is in another file"}
    with pytest.raises(ValueError, match="folders: there is no .*nowhere; give folders with runs in them"):
        find([tmp_path / "nowhere"])


def test_a_run_directory_has_one_result(tmp_path: Path) -> None:
    """Neither its configuration nor the result before it was given more epochs is another one."""
    run = write(tmp_path, kept("sic"))
    (run / "config.json").write_text(json.dumps(kept("sic")["config"]))
    (run / "result_20_epochs.json").write_text(json.dumps(kept("sic") | {"epochs": 20}))
    found = find([tmp_path])
    assert [each.path.name for each in found.runs] == ["result.json"]
    assert not found.left_out


def test_curves_are_means_over_seeds_of_what_a_run_did_last(tmp_path: Path) -> None:
    """A resumed run, which did its second epoch again, and one whose file was moved beside its result."""
    files = {"a/csv/version_0": "0,50,2\n1,60,", "a/csv/version_1": "1,70,1\n2,80,", "b": "0,70,4\n1,80,3"}
    for folder, rows in files.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "metrics.csv").write_text(f"epoch,val/top1,train/loss\n{rows}\n")
    found = mean_curves([tmp_path / "a", tmp_path / "b"])
    assert found == {"val/top1": [(1, 60), (2, 75)], "train/loss": [(1, 3), (2, 2)]}
    assert mean_curves([tmp_path / "a", tmp_path]) == {}


def test_speeds_of_one_recipe_come_from_one_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, text in {"a": '[{"recipe": "1", "eager_ms": 2}]', "b": '[{"recipe": "1"}]', "c": '"none"'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "speed.json").write_text(f'{{"machine": "{name}", "rows": {text}}}')
    found = find([tmp_path])
    assert found.speeds == {"1": {"recipe": "1", "eager_ms": 2, "machine": "a"}}
    assert "b/speed.json: other measured speeds of the recipe 1 are in another file" in caplog.text
    assert "c/speed.json: not what scripts/benchmark.py benchmark=study writes" in caplog.text


def test_markdown_says_what_it_shows(folder: Path) -> None:
    heading, _, *rows, _, legend = as_markdown(groups(find([folder]))).splitlines()
    assert heading.startswith(
        "| network | n | test top-1, % | difference from plain, points | parameters | million MACs"
    )
    assert "deployed" not in heading  # nothing was measured
    ghost = next(row for row in rows if "ghost" in row)
    assert ghost.startswith("| resnet20_ghost | 3 | 91.33 ± 0.29 | -0.67 ± 0.76 | 138,826 | 5.24 |  | 1.92 |")
    assert legend.startswith("Trained on digits, 16 px, 40 epochs: 12 runs of 4 networks, 3 seeds (1, 2, 3).")
    assert "sample standard deviation" in legend
    assert "no epoch was chosen on the test set" in legend


def test_latex_is_escaped_and_csv_can_be_read(folder: Path) -> None:
    made = groups(find([folder]))
    latex = as_latex(made).splitlines()
    row = next(line for line in latex if line.startswith(r"resnet20\_ghost & 3 & 91.33 $\pm$ 0.29 & "))
    heading = next(line for line in latex if line.startswith("network & "))
    columns = re.search(r"\\begin\{tabular\}\{(l?r*)\}", as_latex(made))
    assert columns is not None
    assert row.count("&") == heading.count("&") == len(columns[1]) - 1
    assert r"top-1, \%" in heading
    rows = list(csv.DictReader(io.StringIO(as_csv(made))))
    assert {row["name"]: float(row["top1"]) for row in rows}["resnet20_sic"] == 89.0
    assert rows[0]["seeds"] == "1; 2; 3"


def test_a_table_goes_into_its_place_in_a_text_that_people_write(tmp_path: Path) -> None:
    path = tmp_path / "text.md"
    path.write_text("before\n<!-- report: a -->\nold\n<!-- end -->\nbetween\n<!-- report: b -->\n<!-- end -->\nafter\n")
    path.write_text(embedded("| new |", path, ["a"]))
    assert path.read_text() == (
        "before\n<!-- report: a -->\n\n| new |\n\n<!-- end -->\nbetween\n<!-- report: b -->\n<!-- end -->\nafter\n"
    )
    with pytest.raises(ValueError, match=r"text.md has a place for the report of a, b, and none for that of c"):
        embedded("| new |", path, ["c"])
    path.write_text("what somebody wrote\n")
    with pytest.raises(
        ValueError, match=r"text.md is there already and would be lost; put the lines <!-- report: a -->"
    ):
        embedded("| new |", path, ["a"])


def test_published_figures_are_those_of_the_kept_table() -> None:
    preface, tables = published()
    lines = (ROOT / "results" / "tables.md").read_text().splitlines()
    assert sum(len(table.rows) for table in tables) == sum(line.startswith("| ") for line in lines) - len(tables)
    assert all(len(row) == len(table.heading) for table in tables for row in table.rows)
    assert any("of accuracy, printed" in paragraph for paragraph in preface)


PLACES = [
    (path, match["folders"])
    for path in (ROOT / "README.md", ROOT / "results" / "README.md")
    for match in BLOCK.finditer(path.read_text())
]


@pytest.mark.parametrize(("path", "folders"), PLACES, ids=[folders for _, folders in PLACES])
def test_the_tables_in_our_texts_are_up_to_date(path: Path, folders: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python scripts/report.py folders=[FOLDER] format=markdown out=FILE` writes them anew."""
    monkeypatch.chdir(ROOT)
    names = folders.split()
    table = as_markdown(groups(find([Path(name) for name in names])))
    assert embedded(table, path, names) == path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(ROOT.glob(f"results/**/{PICTURE}")), ids=lambda path: path.parent.name)
def test_the_pictures_in_our_texts_are_up_to_date(path: Path, tmp_path: Path) -> None:
    """`python scripts/report.py folders=[FOLDER] format=png out=FOLDER/accuracy_against_macs.png` draws them anew."""
    drawn = tmp_path / PICTURE
    processes.run("scripts/report.py", f"folders=[{path.parent}]", "format=png", f"out={drawn}", status=0)
    now, before = (matplotlib.image.imread(file) for file in (drawn, path))
    assert now.shape == before.shape
    assert np.mean(np.abs(now - before) > 0.1) < 1e-3


@pytest.mark.slow
def test_a_thousand_results_make_a_page_in_ten_seconds(tmp_path: Path) -> None:
    layers = [json.loads(path.read_text()) for path in sorted((ROOT / "results" / "digits" / "layers").glob("*.json"))]
    for number in range(1000):
        record = layers[number // 3 % len(layers)]
        variant = number // 3 // len(layers)
        run = of_seed(record, number % 3 + 1, 80 + number % 7, model=f"{record['model']}_{variant}")
        run["config"]["model"]["layer"]["variant"] = variant
        write(tmp_path / "runs", run)
    out, start = tmp_path / "report.html", time.perf_counter()
    done = processes.run("scripts/report.py", f"folders=[{tmp_path / 'runs'}]", f"out={out}", status=0)
    assert time.perf_counter() - start < 10
    assert "1000 runs in 1 group" in done.stderr
    assert out.read_text().count("<tbody data-name=") == 334


@pytest.mark.slow
def test_the_command_says_what_is_wrong(tmp_path: Path, folder: Path) -> None:
    nothing = processes.run("scripts/report.py", f"folders=[{tmp_path}]", status=1)
    assert "no finished run in there; name folders that have some" in nothing.stderr
    unsaid = processes.run("scripts/report.py", f"folders=[{folder}]", "format=png", status=1)
    assert "format=png needs a file: out=picture.png" in unsaid.stderr
    write(tmp_path, of_seed(kept("sic"), 1, 50.0, data="other"))
    command = "scripts/report.py", f"folders=[{folder},{tmp_path}]", "format=png", f"out={tmp_path / 'drawn.png'}"
    assert "cannot be compared with the rest: other, 16 px, 40 epochs" in processes.run(*command, status=0).stderr
    rows = json.loads(processes.run("scripts/report.py", f"folders=[{folder}]", "format=json", status=0).stdout)
    assert [len(group["rows"]) for group in rows["groups"]] == [4]
