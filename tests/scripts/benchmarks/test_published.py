"""benchmark=published: what is measured, in which order, and that it goes on where it stopped; not how fast it is."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir

from conf import schema
from scripts.benchmarks import published
from scripts.benchmarks.published import in_order, measure
from scripts.benchmarks.training_step import training_step
from scripts.published.our_counts import network_cost
from scripts.published.recipes import command
from scripts.published.rows import Row, read
from tests.conftest import ROOT

TINY = """
paper: a paper
source: nowhere
convention: none
tables:
  - table: CIFAR-10
    experiment: cifar10_resnet
    rows:
      - row: ResNet-8
        network: model/backbone=resnet20 model.backbone.depth=8 data.batch_size=16
        published: {top1: 80.0}
      - row: ResNet-8 with other shortcuts
        network: model/backbone=resnet20 model.backbone.depth=8 model.backbone.shortcut=B data.batch_size=16
        published: {top1: 81.0, top5: 99.0}
"""


@pytest.fixture
def tiny_rows(tmp_path: Path) -> Iterator[list[Row]]:
    schema.register()
    (tmp_path / "tiny.yaml").write_text(TINY)
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        yield read(folder=tmp_path)


def test_one_of_each_experiment_comes_first_and_no_recipe_twice() -> None:
    rows = [row for row in read() if row.is_measured]
    ordered, number = in_order(rows), Counter(map(command, rows))
    experiments = {row.experiment for row in rows}
    first, rest = ordered[: len(experiments)], ordered[len(experiments) :]
    assert {row.experiment for row in first} == experiments
    assert sorted(map(command, ordered)) == sorted(number)
    for part in (first, rest):
        needed = [number[command(row)] for row in part]
        assert needed == sorted(needed, reverse=True)


def test_a_measurement_goes_on_where_it_stopped(tiny_rows: list[Row], tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "throughput.json"
    first = next(measure(tiny_rows, 0.0, out))
    assert first["command"].endswith("model.backbone.shortcut=B data.batch_size=16")  # of two figures
    assert first["images_per_second"] > 0
    assert first["macs"] == network_cost(tiny_rows[1].network[:-1]).macs
    kept = json.loads(out.read_text())
    assert kept["rows"] == [first]
    (second,) = measure(tiny_rows, 0.0, out)
    assert json.loads(out.read_text())["rows"] == [first, second]
    assert list(measure(tiny_rows, 0.0, out)) == []
    monkeypatch.setattr(published, "device_name", lambda device: "another")
    with pytest.raises(
        ValueError, match=r"throughput.json is of .+, and this is another; choose another benchmark.out"
    ):
        next(measure(tiny_rows, 0.0, out))


def test_a_batch_that_does_not_fit_is_halved(tiny_rows: list[Row], tmp_path: Path, monkeypatch) -> None:
    """A device with too little memory is not at hand, so its error is raised in its place."""
    tried: list[int] = []

    def of_little_memory(net: torch.nn.Module, config: dict, batch_size: int, precision: str):
        tried.append(batch_size)
        if batch_size > 4:
            raise torch.OutOfMemoryError("out of memory")
        return lambda: None

    monkeypatch.setattr(published, "training_step", of_little_memory)
    row = next(measure(tiny_rows, 0.0, tmp_path / "throughput.json"))
    assert tried == [16, 8, 4]
    assert (row["batch_size"], row["recipe_batch_size"]) == (4, 16)


def test_what_the_device_refuses_is_left_out(tiny_rows: list[Row], tmp_path: Path, monkeypatch, caplog) -> None:
    def refusing(net: torch.nn.Module, *others: object):
        raise RuntimeError("no kernel\nof this kind")

    monkeypatch.setattr(published, "training_step", refusing)
    assert list(measure(tiny_rows, 0.0, tmp_path / "throughput.json")) == []
    assert "model.backbone.shortcut=B data.batch_size=16 was left out: no kernel" in caplog.text


def test_a_step_trains_every_weight(plain) -> None:
    config = plain("model=resnet20", "data=fake", "run_dir=here")
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.LazyLinear(10)
    )
    net(torch.randn(2, 3, 32, 32))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    step = training_step(net, config, 8, "bf16-mixed")
    step()
    after = net.state_dict()
    assert [name for name, value in before.items() if torch.equal(value, after[name])] == []
    assert all(value.isfinite().all() for value in after.values())
    with pytest.raises(ValueError, match=r"trainer.precision=16-mixed: steps are timed in 32-true or bf16-mixed"):
        training_step(net, config, 8, "16-mixed")
