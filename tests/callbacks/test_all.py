"""No callback is written and then forgotten: each runs always, the configuration can choose it, or a script does."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import pytorch_lightning as pl

from tests.conftest import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "callbacks").glob("*.py")), ids=lambda path: path.stem)
def test_every_callback_has_its_place(path: Path) -> None:
    module = import_module(f"callbacks.{path.stem}")
    classes = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
    if any(issubclass(kind, pl.Callback) for kind in classes):
        scripts = (ROOT / "scripts").glob("*.py")
        places = [ROOT / "callbacks" / "all.py", *(ROOT / "conf" / "callbacks").glob("*.yaml"), *scripts]
        assert any(module.__name__ in place.read_text() for place in places)
