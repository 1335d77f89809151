"""GhostNet, Ghost-VGG-16 and the Ghost-ResNets: counts, the small form and what is refused."""

import pytest
import timm
import torch
from hydra.utils import instantiate
from torch import nn

from models.backbones.ghost_vgg import ghost_vgg16
from models.backbones.ghostnet import ghostnet
from models.build import build, paper_input
from models.cost import Cost, count

GHOSTNETS = [(0.5, 2_587_292, 42_328_152), (1.0, 5_182_508, 141_150_512), (1.3, 7_358_820, 227_003_256)]

# ratio, cheap kernel, parameters without BatchNorm and MACs with the first convolution dense, and in millions the
# MACs with it a ghost module.
GHOST_VGGS = [
    (2, 1, 7_363_306, 157_593_600, 156.74),
    (2, 3, 7_379_946, 158_437_376, 157.85),
    (2, 5, 7_413_226, 160_124_928, 160.06),
    (2, 7, 7_463_146, 162_656_256, 163.38),
    (3, 3, 4_948_074, 107_733_608, 106.98),
    (4, 3, 3_712_122, 81_055_232, 80.17),
    (5, 3, 2_999_430, 66_333_968, 65.40),
]

# Overrides, parameters, parameters without BatchNorm, MACs.
GHOST_RESNETS = [
    (("model=ghost_resnet56",), 438_154, 434_090, 65_286_784),
    (("model=ghost_resnet50",), 13_953_512, 13_900_392, 2_151_023_360),
    (("model=ghost_resnet50", "model.layer.ratio=4"), 8_151_752, 8_098_632, 1_181_942_912),
]


def without_norms(cost: Cost) -> int:
    return cost.params - sum(layer.params for layer in cost.layers if layer.kind == "BatchNorm2d")


@pytest.mark.parametrize(("width", "params", "macs"), GHOSTNETS)
def test_ghostnet_is_timms(width: float, params: int, macs: int) -> None:
    with torch.device("meta"):
        net, theirs = ghostnet(width=width), timm.create_model(f"ghostnet_{100 * width:03.0f}")
    cost = count(net, (3, 224, 224))
    assert (cost.params, cost.macs) == (params, macs)
    ours = [(name, value.shape) for name, value in net.state_dict().items()]
    assert ours == [(name, value.shape) for name, value in theirs.state_dict().items()]


@pytest.mark.parametrize(("ratio", "kernel", "params", "macs", "ghost_stem_macs"), GHOST_VGGS)
def test_ghost_vgg_counts(ratio: int, kernel: int, params: int, macs: int, ghost_stem_macs: float) -> None:
    with torch.device("meta"):
        dense, ghost = (
            count(ghost_vgg16(ratio=ratio, cheap_kernel_size=kernel, ghost_stem=stem), (3, 32, 32))
            for stem in (False, True)
        )
    assert (without_norms(dense), dense.macs) == (params, macs)
    assert round(ghost.macs / 1e6, 2) == ghost_stem_macs


@pytest.mark.parametrize(("overrides", "params", "without", "macs"), GHOST_RESNETS)
def test_ghost_resnets_are_rebuilt_resnets(composed, overrides, params: int, without: int, macs: int) -> None:
    model = instantiate(composed(*overrides, config="complexity").model, _convert_="all")
    with torch.device("meta"):
        cost = build(**model, input=paper_input(model["backbone"])).cost
    assert (cost.params, without_norms(cost), cost.macs) == (params, without, macs)


@pytest.mark.parametrize(("size", "first", "last"), [(224, 112, 7), (64, 64, 8), (32, 32, 4), (9, 9, 2)])
def test_the_maps_of_ghostnet(size: int, first: int, last: int) -> None:
    net, sizes = ghostnet(7, size, 1, width=0.5).eval(), []
    for module in (net.get_submodule("conv_stem"), net.get_submodule("blocks")):
        module.register_forward_hook(lambda module, args, output: sizes.append(output.shape[2]))
    with torch.no_grad():
        assert net(torch.zeros(1, 1, size, size)).shape == (1, 7)
    assert sizes == [first, last]


def test_the_last_convolution_of_ghost_vgg_sees_2_x_2() -> None:
    with torch.device("meta"):
        cost = count(ghost_vgg16(), (3, 32, 32))
    convs = [layer for layer in cost.layers if layer.kind == "Conv2d"]
    assert len(convs) == 1 + 2 * 12
    assert convs[-1].output_shape == (1, 256, 2, 2)


def test_outputs_cut_off_a_module_get_gradients_of_zero() -> None:
    """64 channels at ratio 3: 3 x 22 are made and 2 of them cut; every parameter still has a gradient."""
    net = ghost_vgg16(7, ratio=3, ghost_stem=True)
    nn.functional.cross_entropy(net(torch.randn(2, 3, 32, 32)), torch.tensor([0, 6])).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


REFUSALS = [
    (ghostnet, {"width": 0.0}, "width=0.0: .* nearest .*: 0.5"),
    (ghostnet, {"input_size": 8}, "input_size=8: .* nearest: 9"),
    (ghost_vgg16, {"ratio": 1}, "ratio=1: .* nearest: 2"),
    (ghost_vgg16, {"ratio": 65}, "ratio=65: .* nearest: 64"),
    (ghost_vgg16, {"cheap_kernel_size": 2}, "cheap_kernel_size=2: .* nearest: 3"),
    (ghost_vgg16, {"input_size": 31}, "input_size=31: .* nearest: 32"),
]


@pytest.mark.parametrize(("make", "knobs", "message"), REFUSALS)
def test_refusals(make, knobs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**knobs)
