"""The wheel: models/ and its presets as the package `cheapconv`, whole, and used from another folder."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
from hydra.utils import instantiate

from models.build import Input, build
from models.load import LAYOUT
from models.model_folder import write_model
from models.run_directory import CHECKPOINT, CONFIG
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
IMAGES = {"mean": [0.5], "std": [0.25], "border": 0.0, "centre_crop": None}
USE = """
import importlib
import pkgutil
import sys
import torch
from torch import nn
import cheapconv
from cheapconv import rebuild, scope
from cheapconv.cost import count
from cheapconv.inference.deploy import deploy
from cheapconv.kernels import native
from cheapconv.layers.lccl import LCCL
from cheapconv.load import load_run

NEED_IT = ("classifier", "divergence", "evaluator", "strategies", "sync_norm")
LIGHTNING = [f"cheapconv.training.{name}" for name in NEED_IT]
TRITON = "cheapconv.kernels.triton_gated_conv"
for module in pkgutil.walk_packages(cheapconv.__path__, "cheapconv."):
    if module.name not in (*LIGHTNING, TRITON):
        importlib.import_module(module.name)
assert "models" not in sys.modules and "pytorch_lightning" not in sys.modules and "hydra" not in sys.modules
net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, bias=False))
found = rebuild.survey(net, scope.spatial, (1, 3, 8, 8))
rebuild.rebuild(net, found, {conv.name: LCCL for conv in found.places})
assert isinstance(net[2], LCCL)
assert count(net, (3, 8, 8)).macs == 64 * (27 * 16 + 9 * 16 * 16 + 9 * 16), count(net, (3, 8, 8)).macs
images = torch.randn(2, 3, 8, 8)
fast = deploy(net)
with torch.inference_mode():
    torch.testing.assert_close(fast(images), net.eval()(images), rtol=1e-4, atol=1e-4)
print("kernel", native.library() is not None)
run = load_run(sys.argv[1])
print("logits", [round(value, 4) for value in run.net(torch.ones(1, 1, 16, 16))[0].tolist()])
folder, ones = load_run(sys.argv[2]), torch.ones(1, 1, 16, 16)
assert torch.equal(folder.net(ones), run.net(ones))
import timm
assert count(timm.create_model("resnet20_sic"), (3, 32, 32)).macs == int(sys.argv[3])
"""


def run(wheel: Path, code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`code` in a process that starts in `folder`, with the wheel's content beside the installed dependencies."""
    ZipFile(wheel).extractall(folder / "site")
    own = {"PYTHONPATH": str(folder / "site"), "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **own}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("models", "conf/model"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("cheapconv-*.whl"))


def test_the_wheel_has_every_file_of_models(wheel: Path) -> None:
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info" not in name}
    files = [
        path.relative_to(ROOT / "models")
        for path in (ROOT / "models").rglob("*")
        if path.suffix in (".py", ".c", ".md")
    ]
    presets = (ROOT / "conf" / "model").rglob("*.yaml")
    assert packed == {
        *(f"cheapconv/{path}" for path in files),
        *(f"cheapconv/configurations/{path.relative_to(ROOT / 'conf' / 'model')}" for path in presets),
    }


def test_the_example_of_its_readme_runs_in_another_folder(wheel: Path, tmp_path: Path) -> None:
    example = (ROOT / "models" / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    done = run(wheel, example, tmp_path)
    assert done.stdout.startswith("40551040 42044032 ['stage1.0.conv1', ")


def test_it_works_in_another_folder(wheel: Path, plain: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    config = plain("model=resnet20_lccl", "model.backbone.depth=8", "data=digits")
    net = build(**instantiate(config["model"], _convert_="all"), input=Input(10, 16, 1)).net.eval()
    state = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CONFIG).write_text(json.dumps(config))
    torch.save({"layout": LAYOUT, "state_dict": state}, tmp_path / "run" / CHECKPOINT)
    preset = instantiate(plain("model=resnet20_sic")["model"], _convert_="all")
    macs = build(**preset, input=Input(10, 32, 3)).cost.macs
    data_state = {"classes": list("0123456789"), "preprocessing": IMAGES}
    write_model(tmp_path / "folder", net.state_dict(), config, data_state)
    done = run(wheel, USE, tmp_path, str(tmp_path / "run"), str(tmp_path / "folder"), str(macs))
    compiler = shutil.which(os.environ.get("CC", "cc"))
    logits = [round(value, 4) for value in net(torch.ones(1, 1, 16, 16))[0].tolist()]
    assert done.stdout.splitlines() == [f"kernel {compiler is not None}", f"logits {logits}"]
    assert [path.suffix for path in (tmp_path / "cache" / "cheapconv").iterdir()] == [".so"] * (compiler is not None)
