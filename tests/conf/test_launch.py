"""What a user sees when the command is wrong: one message, at once, and a non-zero exit."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException

from conf.launch import launch
from tests import processes
from tests.conftest import ROOT
from train import main


def train(*arguments: str, python: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *python, "train.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def train_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """What train.py does with an argument, in this process."""

    def train_(argument: str) -> None:
        monkeypatch.setattr(sys, "argv", ["train.py", argument])
        launch(main, "train")

    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # launch changes it
    monkeypatch.setattr("train.train", lambda run: pytest.fail("the mistake is not seen"))
    yield train_
    GlobalHydra.instance().clear()


MISTAKES = [
    ("model=resnet20_sicc", "error: model=resnet20_sicc: no such choice; did you mean resnet20_sic, "),
    ("model/layer=sci", "error: model/layer=sci: no such choice; did you mean sic?"),
    ("optimizer=adam", "error: optimizer=adam: no such choice; did you mean adamw?"),
    ("optimizer=timm", "error: optimizer.name needs a value: optimizer.name=..."),
    ("optimizer.lerning_rate=1", "error: optimizer.lerning_rate: SGD takes no such argument; there are: dampening, "),
    ("trainer.max_epoch=1", "error: trainer.max_epoch: Trainer takes no such argument; did you mean max_epochs, "),
    ("modell=resnet20", "error: modell: no such key; did you mean model?"),
    ("+foo=1", "error: foo: no such key; there are: callbacks, "),
    ("+model.foo=1", "model.foo: no such key; there are: backbone, budget_macs, budget_ms, budget_ratio, layer, scope"),
    ("seed=one", "error: seed: Value 'one' of type 'str' could not be converted to Integer"),
    ("model/scope=names", "error: model.scope.patterns needs a value: model.scope.patterns=..."),
    ("~seed", "error: seed needs a value: seed=..."),
    (
        "logger=null",
        "error: Config group override must be a string or a list. Got NoneType; a group is left out with ~",
    ),
    ("optimizer.lr=fast", "error: optimizer.lr=fast: must be a number\n"),
    ("seed=1,2", "error: Ambiguous value for argument 'seed=1,2'"),
]


@pytest.mark.parametrize(("argument", "message"), MISTAKES, ids=[argument for argument, _ in MISTAKES])
def test_a_mistake_ends_in_one_message(train_here: Callable[[str], None], capsys, argument: str, message: str) -> None:
    with pytest.raises(SystemExit, match="^1$"):
        train_here(argument)
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert not printed.out


def test_of_several_processes_the_first_one_tells_a_mistake(train_here: Callable[[str], None], monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:
        train_here("model=resnet20_sicc")
    assert ended.value.code == 1


@pytest.mark.slow
@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_missing_package_is_named_and_how_to_install_it(tmp_path: Path, package: str) -> None:
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    done = processes.run("train.py", f"logger={package}", f"run_dir={tmp_path / 'run'}", status=1)
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
    done = processes.run("train.py", argument, f"run_dir={tmp_path / 'run'}", status=1)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_traceback_is_there_on_request(train_here: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(MissingConfigException):
        train_here("model=resnet20_sicc")


def test_help_lists_the_choices() -> None:
    done = train("--help")
    assert done.returncode == 0
    for word in ("resnet50_sic", "fashion_mnist", "cosine", "model=resnet20_lccl data=cifar10", "max_epochs: 40"):
        assert word in done.stdout


def test_a_wrong_type_is_found_without_importing_anything_heavy() -> None:
    done = train("data.batch_size=big", python=("-X", "importtime"))
    assert done.returncode == 1
    assert "error: data.batch_size=big: must be a whole number" in done.stderr
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "hydra" in imported
    assert not imported & {"torch", "pytorch_lightning", "numpy", "timm"}
