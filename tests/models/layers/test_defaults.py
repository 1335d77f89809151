"""A layer's knobs have the same values in its YAML file and in its signature, where Python users find them."""

from functools import partial
from inspect import Parameter, signature
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.conftest import ROOT, choices

FILES = {name: OmegaConf.load(ROOT / "conf" / "model" / "layer" / f"{name}.yaml") for name in choices("model/layer")}
BASES = [name for name, node in FILES.items() if "defaults" not in node]  # the others are named settings of these


def bare(value: Any) -> Any:
    """What a partial without arguments is a partial of."""
    return value.func if isinstance(value, partial) and not value.keywords else value


@pytest.mark.parametrize("name", BASES)
def test_file_and_signature_agree(name: str) -> None:
    layer = instantiate(FILES[name], _convert_="all")
    knobs = [p for p in signature(layer.func).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]
    assert {key: bare(value) for key, value in layer.keywords.items()} == {p.name: p.default for p in knobs}
