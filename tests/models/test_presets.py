"""The presets without Hydra: what Hydra makes of the same files."""

import pytest

from conf.presets import ANY_NETWORK
from models import presets
from tests.conftest import choices

FILES = choices("model")
SOME_BACKBONES = ["factorized", "mobilenetv1", "resnet20"]  # two with defaults of their own, one without


def test_they_are_the_files_and_the_backbones() -> None:
    assert set(presets.preset_names()) == {*FILES, *choices("model/backbone")} - {*ANY_NETWORK}


@pytest.mark.parametrize("name", [*FILES, *SOME_BACKBONES])
def test_a_preset_is_what_hydra_makes_of_it(name: str, plain) -> None:
    expected = plain(f"model={name}", config="complexity")["model"]
    assert presets.preset(name) == {key: value for key, value in expected.items() if value is not None}
