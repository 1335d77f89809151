"""Every layer in several networks, deployed: the same to rounding."""

import pytest

from tests.conftest import choices

SIZES = {"resnet18": 64, "vgg16_bn": 32, "mobilenetv2_100": 64, "preact_resnet20": 32}


@pytest.mark.slow
@pytest.mark.parametrize("layer", choices("model/layer"))
@pytest.mark.parametrize("backbone", SIZES)
def test_every_layer_deploys(composed, backbone: str, layer: str) -> None:
    pass
