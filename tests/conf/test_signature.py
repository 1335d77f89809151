"""Signatures read from source are those that Python sees."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import timm.optim
import torch
from hydra.utils import get_object

from conf.signature import signature
from tests.conftest import ROOT

NAMED = {
    name for path in (ROOT / "conf").rglob("*.yaml") for name in re.findall(r"_target_: ([\w.]+)", path.read_text())
}
LIBRARIES = (torch.optim, timm.optim, pl.callbacks, pl.loggers)
TARGETS = sorted(
    NAMED
    | {f"{library.__name__}.{name}" for library in LIBRARIES for name in dir(library) if name[0].isupper()}
    | {"torch.nn.BatchNorm2d", "torchvision.models.resnet18", "timm.data.Mixup"}
)


def shape(found: inspect.Signature) -> list[tuple[Any, ...]]:
    return [
        (p.name, p.default is p.empty, p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD)) for p in found.parameters.values()
    ]


def test_names_order_and_defaults_are_those_of_the_imported_object() -> None:
    for target in TARGETS:
        assert shape(signature(target)) == shape(inspect.signature(get_object(target))), target


def test_types_are_read_through_aliases_and_imports() -> None:
    trainer = signature("pytorch_lightning.Trainer").parameters
    assert trainer["max_epochs"].annotation == int | None
    assert "bf16-mixed" in str(trainer["precision"].annotation)
    assert signature("data.image_data.ImageData").parameters["start_size"].annotation == int | None
    assert signature("pytorch_lightning.loggers.WandbLogger").parameters["offline"].annotation is bool


def test_what_is_in_the_configuration_is_read_without_importing_it() -> None:
    heavy = ("torch", "numpy", "pytorch_lightning", "timm")
    code = f"import sys; from conf.signature import signature; [signature(name) for name in {sorted(NAMED)}]; "
    code += f"sys.exit(str([name for name in {heavy} if name in sys.modules] or ''))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == ""


SOURCE = """
import dataclasses
from typing import Literal as Choice, TypedDict, overload

class Sizes(TypedDict):
    a: int

class Base:
    def __init__(self, word: "str", sizes: Sizes, unknown: nowhere.Thing | int): ...

class Derived(Base): ...

class Empty: ...

@dataclasses.dataclass
class Data:
    number: int

@overload
def function(x: str): ...
def function(x: Choice["a"], *rest, y: float = 1): ...
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch) -> str:
    (tmp_path / "a_users_module.py").write_text(SOURCE.replace("nowhere.Thing | int", "'Later | int'"))
    monkeypatch.syspath_prepend(tmp_path)
    return "a_users_module"


def test_a_users_own_classes_and_functions(module: str) -> None:
    assert str(signature(f"{module}.Derived")) == "(word: str, sizes: Any, unknown: typing.Any | int)"
    assert str(signature(f"{module}.Empty")) == "()"
    assert list(signature(f"{module}.Data").parameters) == ["number"]  # imported
    assert list(signature(f"{module}.function").parameters) == ["x", "rest", "y"]
    with pytest.raises(ValueError, match=f"^{module}.Nothing: module .* has no attribute 'Nothing'"):
        signature(f"{module}.Nothing")
