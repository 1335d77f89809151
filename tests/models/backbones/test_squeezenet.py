"""SqueezeNet: published counts, torchvision's network, and where the bypasses run."""

import pytest
import torch
import torchvision
from torch import nn

from models.backbones.squeezenet import FireModule, squeezenet
from models.layers.fire import Fire
from tests.models.backbones.counted import counted

# The complex bypass: 1x1 convolutions 96 -> 128, 128 -> 256, 256 -> 384 and 384 -> 512, with biases.
PARAMETERS = [("1.0", "none", 1_248_424), ("1.0", "simple", 1_248_424), ("1.0", "complex", 1_248_424 + 341_248)]
PARAMETERS += [("1.1", "none", 1_235_496), ("1.1", "simple", 1_235_496), ("1.1", "complex", 1_235_496 + 337_152)]


@pytest.mark.parametrize(("version", "bypass", "params"), PARAMETERS)
def test_counts_of_the_paper(version, bypass, params: int) -> None:
    counts = counted(squeezenet, 224, version=version, bypass=bypass)
    assert counts[0] == params
    if bypass != "complex":
        assert counts[1] == {"1.0": 818_924_576, "1.1": 349_151_936}[version]


def convolutions(net: nn.Module) -> list[nn.Module]:
    """In order of registration, but the 1x1 expansion of each fire module before its 3x3, as in torchvision."""
    found = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    for module in net.modules():
        if isinstance(module, Fire):
            first = found.index(module.expand)
            found[first : first + 2] = module.expand_1x1, module.expand
    return found


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_same_logits_as_torchvision(version) -> None:
    ours = squeezenet(10, 96, version=version).double().eval()
    theirs = torchvision.models.get_model(f"squeezenet{version.replace('.', '_')}", num_classes=10).double().eval()
    for own, other in zip(convolutions(ours), convolutions(theirs), strict=True):
        own.load_state_dict(other.state_dict())
    x = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    assert ours(x).count_nonzero()
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    ("bypass", "kinds"), [("simple", (type(None), nn.Identity)), ("complex", (nn.Conv2d, nn.Identity))]
)
def test_the_bypass_is_the_identity_around_fires_3_5_7_and_9(version, bypass, kinds) -> None:
    with torch.device("meta"):
        fires = [m for m in squeezenet(version=version, bypass=bypass).modules() if isinstance(m, FireModule)]
    assert [type(fire.shortcut) for fire in fires] == [*kinds] * 4


def test_a_bypass_is_added_behind_the_relu() -> None:
    module, x = FireModule(16, 16, None), torch.randn(2, 16, 5, 5)
    plain = module(x)
    module.shortcut = nn.Identity()
    assert torch.equal(module(x), plain + x)
