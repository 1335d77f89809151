"""The network of a run as a file, from the command line."""

import json
import shutil
from pathlib import Path

import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import nn

from models.build import Input
from models.load import LoadedRun, load_run
from models.run_directory import CHECKPOINT, run_directories
from scripts import export
from tests import processes
from tests.conftest import FinishedRun

pytestmark = pytest.mark.slow


def test_an_onnx_file_gives_the_logits_of_the_run(finished_run: FinishedRun, tmp_path: Path) -> None:
    out = tmp_path / "made" / "model.onnx"
    done = processes.run("scripts/export.py", f"run={finished_run.directory}", f"out={out}", status=0)
    first, second, third = done.stdout.splitlines()
    assert first == f"{out}: {out.stat().st_size / 1e6:.1f} MB"
    assert second.startswith("on 16 test images its logits differ from PyTorch's by at most ")
    assert "ms in ONNX Runtime, " in third
    assert "6 gated convolutions are exported as dense products" in done.stderr
    assert "initializer" not in done.stderr  # what the exporter's optimiser says of each
    run, images = load_run(finished_run.directory), torch.randn(3, 1, 16, 16)
    (logits,) = onnxruntime.InferenceSession(out).run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), run.net(images), rtol=0, atol=1e-4)
    said = {each.key: json.loads(each.value) for each in onnx.load(out).metadata_props}
    assert said["input"] == {"num_classes": 10, "size": 16, "channels": 1}
    assert said["preprocessing"]["mean"] == run.config["data"]["mean"]
    assert said["classes"] == list("0123456789")


def test_a_deployed_network_as_an_exported_program(finished_run: FinishedRun, tmp_path: Path) -> None:
    out = tmp_path / "model.pt2"
    command = ["scripts/export.py", f"run={finished_run.directory}", f"out={out}", "format=torch_export", "deploy=true"]
    assert "ms in the exported program, " in processes.run(*command, status=0).stdout
    run, images = load_run(finished_run.directory), torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(torch.export.load(out).module()(images), run.net(images), rtol=0, atol=1e-4)


def test_a_model_folder_is_exported_as_its_run_is(finished_run: FinishedRun, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    done = processes.run("scripts/export.py", f"run={finished_run.directory / 'model'}", f"out={out}", status=0)
    assert "on 16 random images its logits differ" in done.stdout
    assert "a model folder names no data set" in done.stderr


def test_the_weights_alone_have_the_names_of_the_network(finished_run: FinishedRun, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run.directory, run)
    out = run / "model.safetensors"  # even there it hides no run
    command = ["scripts/export.py", f"run={run}", f"out={out}", "format=safetensors"]
    assert processes.run(*command, status=0).stdout == f"{out}: {out.stat().st_size / 1e6:.1f} MB, the weights alone\n"
    expected = load_run(run).net.state_dict()
    assert run in run_directories(tmp_path)
    processes.run("scripts/export.py", f"run={run / CHECKPOINT}", "format=safetensors", status=0)
    assert (run / "weights.safetensors").read_bytes() == out.read_bytes()
    weights = safetensors.torch.load_file(out)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    done = processes.run("scripts/export.py", f"run={tmp_path}", status=1)
    assert "has neither result.json nor config.json; give the directory of a run" in done.stderr


@pytest.mark.parametrize("wrong", [1e-3, float("nan")])
def test_what_computes_something_else_is_refused(wrong: float, plain) -> None:
    run = LoadedRun(nn.Flatten(), Input(10, 16, 1), (), None, plain("data=digits"))
    with pytest.raises(
        ValueError, match="ONNX Runtime gives logits that differ from PyTorch's by .*: nothing was writ"
    ):
        export.compared(run, lambda images: run.net(images) + wrong, "ONNX Runtime")


def test_random_images_take_the_place_of_a_data_set_that_is_not_there(plain, tmp_path: Path) -> None:
    config = plain("data=cifar10", f"data.root={tmp_path / 'nowhere'}")
    run = LoadedRun(nn.Flatten(), Input(10, 32, 3), (), None, config)
    assert export.compared(run, run.net, "itself").startswith("on 16 random images its logits differ")
