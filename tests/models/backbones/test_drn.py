"""DRN: published sizes, the resolution and dilation of each level, limits."""

import pytest
import torch
from torch import nn

from models.backbones.drn import drn
from models.backbones.library import library_network
from models.cost import count

# In the authors' table 21.1, 31.2, 41.6 (with a projection that is not used), 16.4, 26.5, 35.8 and 54.8 M parameters.
COUNTS = [
    ("C", 26, 21_126_584, 16_971_239_424),
    ("C", 42, 31_234_744, 25_063_624_704),
    ("C", 58, 40_542_008, 32_423_841_792),
    ("D", 22, 16_393_752, 13_034_229_760),
    ("D", 38, 26_501_912, 21_126_615_040),
    ("D", 54, 35_809_176, 28_486_832_128),
    ("D", 105, 54_801_304, 43_335_716_864),
]


@pytest.mark.parametrize(("variant", "depth", "params", "macs"), COUNTS)
def test_counts(variant, depth: int, params: int, macs: int) -> None:
    with torch.device("meta"):
        cost = count(drn(variant=variant, depth=depth), (3, 224, 224))
    assert (cost.params, cost.macs) == (params, macs)


@pytest.mark.parametrize(("variant", "depth"), [("C", 26), ("D", 54)])
def test_resolution_and_dilation_of_the_levels(variant, depth: int) -> None:
    with torch.device("meta"):
        levels = drn(variant=variant, depth=depth)[1:9]
        x, widths = torch.empty(1, 16, 224, 224), []
        for level in levels:
            x = level(x)
            widths.append(x.shape[-1])
    assert widths == [224, 112, 56, 28, 28, 28, 28, 28]
    dilations = [{c.dilation[0] for c in level.modules() if is_spatial(c)} for level in levels]
    assert dilations == [{1}, {1}, {1}, {1}, {2}, {4}, {2}, {1}]


def is_spatial(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)


@pytest.mark.parametrize(("depth", "params"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_a_is_a_resnet_that_keeps_an_eighth_of_the_resolution(depth: int, params: int) -> None:
    """11.7, 21.8 and 25.6 M parameters; the MACs of the last two stages grow to 4 and 16 times, but for the first
    block's entry, which stood before the stride."""
    sizes = []
    with torch.device("meta"):
        net = library_network(name=f"resnet{depth}", output_stride=8)
    net.get_submodule("layer4").register_forward_hook(lambda module, args, out: sizes.append(tuple(out.shape[2:])))
    assert count(net, (3, 224, 224)).params == params
    assert sizes == [(28, 28)]
    spatial = [conv for conv in net.get_submodule("layer4").modules() if is_spatial(conv)]
    assert [conv.dilation[0] for conv in spatial] == [2, *[4] * (len(spatial) - 1)]


def test_sizes_and_refusals() -> None:
    for variant, depth in (("C", 26), ("D", 22)):
        assert drn(7, 9, 1, variant=variant, depth=depth).eval()(torch.zeros(1, 1, 9, 9)).shape == (1, 7)
    with pytest.raises(ValueError, match="input_size=8: .* nearest: 9"):
        drn(10, 8, variant="C", depth=26)
    with pytest.raises(ValueError, match="depth=26: DRN-D has 22, 38, 54, 105 layers; nearest: 22"):
        drn(variant="D", depth=26)
    with pytest.raises(ValueError, match="output_stride=8: only timm's"):
        library_network(name="resnet50", library="torchvision", output_stride=8)
