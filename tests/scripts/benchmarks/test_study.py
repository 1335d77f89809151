"""benchmark=study: which networks are measured, and what a row says of them; not how fast they are."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models.load import load_run
from scripts.benchmarks import study
from scripts.benchmarks.study import NOT_TRAINED, prepare, recipes, rows
from sweeps.table import recipe_key
from tests.conftest import ROOT, FinishedRun


def kept(folder: Path, name: str, **changed: Any) -> Path:
    """The directory of a run on digits with small batches, as a study keeps it: its result and no checkpoint."""
    record = json.loads((ROOT / "results/digits/layers" / f"{name}.json").read_text())
    record["config"] |= changed
    record["config"]["data"]["batch_size"] = 4
    record["config"]["model"]["backbone"]["depth"] = 8
    directory = folder / f"{name}_seed{record['config']['seed']}"
    directory.mkdir()
    (directory / "result.json").write_text(json.dumps(record))
    return directory


def test_seeds_are_one_row_and_what_is_no_result_is_named(tmp_path: Path, caplog) -> None:
    directories = [kept(tmp_path, "resnet20_sic", seed=1), kept(tmp_path, "resnet20_sic", seed=2)]
    directories.append(kept(tmp_path, "resnet20"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/result.json").write_text('{"config": ')
    assert recipes(tmp_path) == [directories[2], directories[0]]
    assert "left out: cannot read" in caplog.text
    (directories[1] / "last.ckpt").touch()
    assert recipes(tmp_path) == [directories[2], directories[1]]  # the seed whose weights are there
    with pytest.raises(ValueError, match=r"benchmark.results: .+ holds no result.json; give folders of finished runs"):
        recipes(tmp_path / "broken")


def test_a_folder_gets_a_file_with_a_row_for_each_recipe(tmp_path: Path) -> None:
    for name in ("resnet20_sic", "resnet20_lccl"):
        kept(tmp_path, name)
    measured = list(rows(results=[str(tmp_path)], rounds=2, seconds=0.0, threads=1))
    gated, plain = measured
    record = json.loads((tmp_path / "resnet20_sic_seed1/result.json").read_text())
    assert (plain["recipe"], plain["name"], plain["batch_size"]) == (recipe_key(record), "resnet20_sic", 4)
    assert min(plain["eager_ms"], plain["deployed_ms"], plain["train_images_per_second"]) > 0
    assert plain["deployed_error"] is None
    assert gated["eager_ms"] > 0
    assert (gated["deployed_ms"], gated["deployed_error"]) == (None, NOT_TRAINED)
    file = json.loads((tmp_path / "speed.json").read_text())
    assert file["rows"] == measured
    assert file["machine"]["threads"] == 1
    with pytest.raises(ValueError, match="benchmark.rounds=1: a spread takes at least 2"):
        next(rows(results=[str(tmp_path)], rounds=1, seconds=0.0, threads=1))


def test_times_are_for_one_image_and_medians(monkeypatch) -> None:
    network = study.Network("abcd", "net", 10, {"eager": str, "train": str, "deployed": str}, None)
    network.seconds = {"eager": [1.0, 2.0, 9.0], "deployed": [0.5, 0.5, 0.5], "train": [5.0, 4.0, 1.0]}
    row = network.row()
    assert (row["eager_ms"], row["deployed_ms"], row["train_images_per_second"]) == (200.0, 50.0, 2.5)
    assert (row["eager_spread"], row["deployed_spread"], row["train_spread"]) == (2.0, 0.0, 0.5)  # quartiles 1.5, 5.5


@pytest.mark.slow
def test_a_trained_network_is_deployed_with_its_own_weights(finished_run: FinishedRun) -> None:
    network = prepare(finished_run.directory, torch.device("cpu"))
    assert network.deployed_error is None
    eager, deployed = network.runs["eager"](), network.runs["deployed"]()
    assert isinstance(eager, torch.Tensor)
    torch.testing.assert_close(deployed, eager, rtol=1e-3, atol=1e-4)
    images = next(study.test_batches(load_run(finished_run.directory).config, "a run"))[0]
    torch.testing.assert_close(eager, load_run(finished_run.directory).net(images).detach(), rtol=1e-3, atol=1e-4)


def test_what_cannot_be_deployed_says_why(tmp_path: Path, monkeypatch) -> None:
    def refuse(net: torch.nn.Module):
        raise ValueError("its forward pass is not the same for all inputs")

    monkeypatch.setattr(study, "deploy", refuse)
    network = prepare(kept(tmp_path, "resnet20"), torch.device("cpu"))
    assert network.deployed_error == "its forward pass is not the same for all inputs"
    assert "deployed" not in network.runs


def test_a_result_from_elsewhere_calls_nothing_of_its_own(tmp_path: Path) -> None:
    optimizer = {"_target_": "os.system", "command": f"touch {tmp_path}/called"}
    directory = kept(tmp_path, "resnet20", optimizer=optimizer)
    with pytest.raises(ValueError, match=r"result.json names _target_: os.system, which no file in conf/ names"):
        prepare(directory, torch.device("cpu"))
    assert not (tmp_path / "called").exists()
