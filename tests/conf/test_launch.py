"""What a user sees when the command is wrong: one message, at once, and a non-zero exit."""

import resource
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT


def train(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "train.py", *arguments], cwd=ROOT, capture_output=True, text=True)


MISTAKES = [
    ("model=resnet20_sicc", "error: model=resnet20_sicc: no such choice; did you mean resnet20_sic, "),
    ("model/layer=sci", "error: model/layer=sci: no such choice; did you mean sic?"),
    ("optimizer=adam", "error: optimizer=adam: no such choice; did you mean adamw?"),
    ("optimizer=timm", "error: optimizer.name needs a value: optimizer.name=..."),
    ("optimizer.lerning_rate=1", "error: optimizer.lerning_rate: SGD takes no such argument; there are: dampening, "),
    ("trainer.max_epoch=1", "error: trainer.max_epoch: Trainer takes no such argument; did you mean max_epochs, "),
    ("modell=resnet20", "error: modell: no such key; did you mean model?"),
    ("+foo=1", "error: foo: no such key; there are: callbacks, "),
    ("+model.foo=1", "error: model.foo: no such key; there are: backbone, budget_macs, budget_ratio, layer, scope"),
    ("seed=one", "error: seed: Value 'one' of type 'str' could not be converted to Integer"),
    ("model/scope=names", "error: model.scope.patterns needs a value: model.scope.patterns=..."),
    ("optimizer.lr=fast", "error: optimizer.lr=fast: must be a number\n"),
    ("seed=1,2", "error: Ambiguous value for argument 'seed=1,2'"),
]


@pytest.mark.parametrize(("argument", "message"), MISTAKES, ids=[argument for argument, _ in MISTAKES])
def test_a_mistake_ends_in_one_message(argument: str, message: str) -> None:
    done = train(argument)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_missing_package_is_named_and_how_to_install_it(tmp_path: Path, package: str) -> None:
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    done = train(f"logger={package}", f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 1
    assert f"error: logger.{package}: Requirement '{package}>=" in done.stderr
    assert f"pip install -U '{package}>=" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


DEVICES = [
    ("trainer.devices=0", "error: `Trainer(devices=0)` value is not a valid input using cpu accelerator."),
    (
        "trainer.accelerator=gpu",
        "error: No supported gpu backend found! (trainer.accelerator=auto trainer.devices=auto ",
    ),
    ("trainer.accelerator=cupu", "error: You selected an invalid accelerator name: `accelerator='cupu'`."),
    ("trainer.strategy=nonsense", "error: You selected an invalid strategy name: `strategy='nonsense'`."),
]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there are devices")
@pytest.mark.parametrize(("argument", "message"), DEVICES)
def test_devices_that_are_not_there(tmp_path: Path, argument: str, message: str) -> None:
    done = train(argument, f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_traceback_is_there_on_request(monkeypatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback" in train("model=resnet20_sicc").stderr


def test_help_lists_the_choices() -> None:
    done = train("--help")
    assert done.returncode == 0
    for word in ("resnet50_sic", "fashion_mnist", "cosine", "model=resnet20_lccl data=cifar10", "max_epochs: 40"):
        assert word in done.stdout


def test_nothing_heavy_is_imported_before_the_configuration_is_known() -> None:
    code = "import sys, train; sys.exit(any(name in sys.modules for name in ('torch', 'pytorch_lightning', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_wrong_type_is_found_without_importing_torch() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert train("data.batch_size=big").returncode == 1
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2  # seconds, whatever else runs
