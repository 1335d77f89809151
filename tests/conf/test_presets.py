"""Every backbone is a preset of its own name."""

from hydra.core.config_store import ConfigStore

from conf.presets import ANY_NETWORK
from tests.conftest import choices


def test_a_backbone_is_a_preset(plain) -> None:
    parts = ["model/backbone=shiftnet_b", "model/layer=conv", "model/scope=spatial"]
    assert plain("model=shiftnet_b") == plain(*parts)
    assert plain("model=shiftnet_b", "model/layer=lccl") == plain(parts[0], "model/layer=lccl", parts[2])


def test_all_are_but_the_doors_to_libraries(plain) -> None:
    plain()
    presets = {name.removesuffix(".yaml") for name in ConfigStore.instance().list("model")}
    assert presets == set(choices("model/backbone")) - set(ANY_NETWORK)
