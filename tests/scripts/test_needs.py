"""What a published accuracy that is not run would need: hours by hand, and how every format shows it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hydra import initialize_config_dir

from conf import schema
from scripts import tables
from scripts.published.comparison import Comparison, compare
from scripts.published.needs import DATA, needs
from scripts.published.recipes import data_name
from scripts.published.rows import NOT_RUN, Row, read
from tests.conftest import ROOT

COMMAND = "python train.py experiment=shift/cifar10 model/backbone=shift_resnet20 model.backbone.expansion="


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        yield


def row() -> Row:
    return next(row for row in read("shift") if row.network[-1] == "model.backbone.expansion=1" and row.is_measured)


def measured(**images_per_second: float) -> dict[str, Any]:
    """Throughput of expansions: the MACs of expansion 1, and twice and eight times as many."""
    macs = {"one": 5_948_032, "three": 2 * 5_948_032, "six": 8 * 5_948_032}
    names = {"one": "1", "three": "3", "six": "6"}
    rows = [
        {
            "command": COMMAND + names[name],
            "experiment": "shift/cifar10",
            "macs": macs[name],
            "images_per_second": speed,
        }
        for name, speed in images_per_second.items()
    ]
    return {"device": "a GPU", "rows": rows}


def test_hours_are_epochs_times_images_over_the_measured_speed() -> None:
    found = needs(row(), measured(one=800.0, three=10.0))
    assert found
    assert (found.command, found.data, found.images, found.epochs) == (COMMAND + "1", "CIFAR-10, 170 MB", 45_000, 164)
    assert found.gpu_hours == pytest.approx(2.5625)  # 9,225 seconds
    assert (found.measured_on, found.scaled_from) == ("a GPU", None)
    assert found.in_short == "CIFAR-10, 164 epochs, 2.6 GPU hours"


def test_a_network_that_is_not_measured_has_the_speed_of_the_nearest_in_macs() -> None:
    found = needs(row(), measured(six=1.0, three=400.0))
    assert found
    assert found.images_per_second == pytest.approx(800.0)
    assert found.scaled_from == "model/backbone=shift_resnet20 model.backbone.expansion=3"
    assert found.in_short == "CIFAR-10, 164 epochs, ~2.6 GPU hours"


def test_of_another_recipe_it_is_rough_and_of_images_of_this_size() -> None:
    others = {"device": "a GPU", "rows": []}
    for experiment, speed in (("lccl/cifar10_resnet20", 400.0), ("lccl/imagenet_resnet18", 1.0)):
        entry = measured(three=speed)["rows"][0] | {"experiment": experiment, "macs": 4_000_000}
        others["rows"].append(entry | {"command": f"python train.py experiment={experiment} model=another"})
    found = needs(row(), others)
    assert found
    assert found.images_per_second == pytest.approx(400 * 4_000_000 / 5_948_032)
    assert found.scaled_from == "model=another"
    assert found.in_short == "CIFAR-10, 164 epochs, roughly 8 GPU hours"
    others["rows"][0]["macs"] *= 2
    assert needs(row(), others).images_per_second == 400.0  # of more MACs: not slower than this one


def test_nothing_measured_is_no_number() -> None:
    found = needs(row(), {"device": "a GPU", "rows": []})
    assert found
    assert (found.gpu_hours, found.measured_on) == (None, None)
    assert found.in_short == "CIFAR-10, 164 epochs, hours not measured"


def test_a_row_without_a_recipe_says_so() -> None:
    done = compare(replace(row(), experiment=None), [])
    assert done.status == "not run: no recipe"
    assert json.loads(tables.as_json([done]))[0]["needs"] is None


def test_every_format_says_what_is_needed() -> None:
    run = needs(row(), measured(three=400.0))
    done = [Comparison(row(), None, NOT_RUN, needs=run)] * 2  # as a top-1 and a top-5 have one recipe
    cells = (COMMAND + "1", "CIFAR-10, 170 MB", "45,000 x 164")
    speed, hours = "800 (from model/backbone=shift_resnet20 model.backbone.expansion=3)", "~2.6"
    status = "not run: needs CIFAR-10, 164 epochs, ~2.6 GPU hours"
    assert f"| {' | '.join((*cells, speed, hours))} |" in tables.as_markdown(done).splitlines()
    for text in (tables.as_markdown(done), tables.as_table(done), tables.as_html(done)):
        assert text.count(COMMAND) == 1
        assert text.count(status) == 2
        assert "measured in bf16-mixed on one a GPU" in text
        assert all(cell in text for cell in (*cells, speed, hours))
    (entry, _) = json.loads(tables.as_json(done))
    assert entry["needs"]["gpu_hours"] == pytest.approx(2.5625)
    assert {"command", "data", "images", "epochs", "measured_on", "scaled_from"} <= entry["needs"].keys()


def test_every_recipe_is_of_a_known_data_set() -> None:
    assert {data_name(f"experiment/{row.experiment}") for row in read() if row.is_measured} == set(DATA)
