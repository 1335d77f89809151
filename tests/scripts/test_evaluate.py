"""python scripts/evaluate.py on a finished run: the numbers that its result has, whoever counts them."""

import csv
import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from models.load import load_run
from scripts.benchmarks.gated_networks import test_batches as batches_of_test
from tests import processes
from tests.conftest import FinishedRun

pytestmark = pytest.mark.slow
SCRIPT = "scripts/evaluate.py"
COUNTS = ("right", "images", "confusion", "macs", "macs_effective", "macs_effective_std", "top5")


def evaluated(*arguments: str) -> dict[str, Any]:
    return json.loads(processes.run(SCRIPT, *arguments, "format=json", status=0).stdout)


def test_it_counts_what_the_run_counted_deployed_too(finished_run: FinishedRun) -> None:
    found, result = (
        evaluated(f"run={finished_run.directory}", "deploy=true"),
        json.loads((finished_run.directory / "result.json").read_text()),
    )
    assert found["images"] == 360
    assert found["right"] == round(360 * result["top1"] / 100)
    assert found["recorded_top1"] == result["top1"]
    assert found["top5"] == result["top5"]
    assert found["macs_effective"] == result["macs_effective"]
    assert found["answers_changed_by_deploy"] <= 1  # by rounding
    run = load_run(finished_run.directory)
    pairs = [(labels, run.net(images).argmax(1)) for images, labels in batches_of_test(run.config, "a run")]
    labels, answers = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    expected = confusion_matrix(labels, answers, labels=range(10))
    assert abs(expected - found["confusion"]).sum() <= 2 * found["answers_changed_by_deploy"]
    assert [each["images"] for each in found["classes"]] == expected.sum(1).tolist()
    assert found["classes"][3]["top1"] == 100 * found["confusion"][3][3] / sum(found["confusion"][3])


def test_two_processes_count_as_one_does_from_a_model_folder(finished_run: FinishedRun) -> None:
    options = [f"run={finished_run.directory}/model", "data=digits", "data.batch_size=128", "format=json"]
    one = evaluated(*options)
    done, other = processes.run_ranks(2, SCRIPT, *options, "trainer=ddp", "trainer.devices=2")
    assert (done.returncode, other.returncode, other.stdout) == (0, 0, ""), done.stderr
    two = json.loads(done.stdout)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert {key: two[key] for key in COUNTS} == {key: one[key] for key in COUNTS}
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)


def test_it_writes_a_table_a_matrix_and_a_picture(finished_run: FinishedRun, tmp_path: Path) -> None:
    run = f"run={finished_run.directory}"
    said = processes.run(SCRIPT, run, status=0).stdout
    top1 = json.loads((finished_run.directory / "result.json").read_text())["top1"]
    assert said.startswith(f"top-1                     {top1:.2f} %")
    rows = list(csv.reader(StringIO(processes.run(SCRIPT, run, "format=csv", status=0).stdout)))
    assert rows[0] == ["class", "images", "right", "top1", *"0123456789"]
    assert [sum(map(int, row[4:])) for row in rows[1:]] == [int(row[1]) for row in rows[1:]]
    processes.run(SCRIPT, run, "format=png", f"out={tmp_path}/a.png", status=0)
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 500


def test_what_cannot_be_tested_is_refused_in_one_message(finished_run: FinishedRun, tmp_path: Path) -> None:
    run = f"run={finished_run.directory}"
    shutil.copytree(finished_run.directory / "model", tmp_path / "model")
    for arguments, message in (
        ([f"run={tmp_path}/model"], "does not say what it was tested on; choose the data set with data=..."),
        ([run, "data=fashion_mnist"], "was trained on 10 classes, from 0 to 9; "),
        ([run, "data.rot=/elsewhere"], "data.rot: InMemoryData takes no such argument; did you mean root?"),
        ([run, "format=png"], "format=png needs a file: out=confusion.png"),
        ([run, f"out={tmp_path}"], f"out={tmp_path} is a folder; give the name of a file"),
    ):
        done = processes.run(SCRIPT, *arguments, status=1)
        assert done.stdout == ""
        assert message in done.stderr
        assert "Traceback" not in done.stderr
