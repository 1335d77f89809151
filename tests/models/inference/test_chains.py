"""Which calls become one module: units of a depthwise convolution and its projection, and subdivided convolutions."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.cifar_resnet import cifar_resnet
from models.build import Input
from models.cost import count
from models.inference.deploy import deploy
from models.kernels.fused_conv import FusedConv
from models.kernels.fused_unit import FusedUnit
from models.layers.bases import Bases
from models.layers.separable import Separable
from models.layers.sic import SIC
from models.layers.subdivided import Subdivided
from tests.models.inference.deployed import assert_same, live_in
from tests.models.inference.test_deploy import trained_like


class Parts(nn.Module):
    """A depthwise convolution and a projection with BatchNorms, and a forward pass to try."""

    def __init__(self, run: Callable[["Parts", Tensor], Tensor], project: nn.Module | None = None) -> None:
        super().__init__()
        self.run = run
        self.stem, self.depthwise = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.project = nn.Conv2d(8, 8, 1) if project is None else project
        self.inner, self.norm, self.last = (nn.BatchNorm2d(8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, self.stem(x))


def kinds(deployed: nn.Module) -> list[type]:
    """The fused modules, in their order."""
    return [type(module) for module in deployed.modules() if isinstance(module, FusedConv | FusedUnit)]


def deployed_like(net: nn.Module) -> nn.Module:
    """`net` deployed, after a look that it computes the same in both precisions."""
    images = torch.randn(2, 8, 9, 7)
    live_in(net, images)
    for precision, rounding in ((torch.float32, 2e-5), (torch.double, 1e-12)):
        net, images = net.to(precision), images.to(precision)
        with torch.no_grad():
            assert_same(deploy(net)(images), net(images), rounding)
    return deploy(net)


@pytest.mark.parametrize(
    "run",
    [
        lambda n, x: n.norm(n.project(n.depthwise(x))),
        lambda n, x: n.project(F.relu(n.inner(n.depthwise(x)))),
        lambda n, x: n.project(F.relu6(n.inner(n.depthwise(3 * x)))),
        lambda n, x: (x + n.norm(n.project(n.depthwise(x)))).clamp(min=0),
        lambda n, x: F.hardtanh(x + n.project(F.hardtanh(n.inner(n.depthwise(x)), 0, 2)), 0, math.inf),
        lambda n, x: F.relu(n.last((x + n.norm(n.project(n.depthwise(x)))).clamp(min=0))),
        lambda n, x: F.relu(n.last(F.relu(x + n.project(n.depthwise(x)))) + x),
        lambda n, x: F.relu(n.last(n.project(n.depthwise(x)) + 1.5 * x).add_(x)),
        lambda n, x: n.last(n.norm(n.project(n.depthwise(x)))),
        lambda n, x: F.relu(n.project(n.depthwise(x)) + x.mean((2, 3), keepdim=True)),  # of another shape
    ],
)
def test_a_depthwise_convolution_and_what_follows_is_one_unit(run) -> None:
    assert kinds(deployed_like(Parts(run))) == [FusedConv, FusedUnit]


@pytest.mark.parametrize(
    "run",
    [
        lambda n, x: n.project(n.depthwise(x).sigmoid()),
        lambda n, x: n.project(y := n.depthwise(x)) + y,  # used twice
        lambda n, x: n.project(n.depthwise(x).mul_(2)),
    ],
)
def test_what_stands_between_keeps_them_apart(run) -> None:
    assert FusedUnit not in kinds(deployed_like(Parts(run)))


def test_a_write_to_what_is_added_comes_first() -> None:
    def run(n: Parts, x: Tensor) -> Tensor:
        y = n.project(n.depthwise(x))
        x.mul_(2)
        return F.relu(y + x)

    deployed_like(Parts(run))


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_only_a_projection_of_every_position_is_one(groups: int, stride: int) -> None:
    project = nn.Conv2d(8, 8, 1, stride, groups=groups)
    found = kinds(deployed_like(Parts(lambda n, x: n.norm(n.project(n.depthwise(x))), project)))
    assert (FusedUnit in found) == (stride == 1)


@pytest.mark.parametrize("kernel", [1, 3])
def test_subdivided_convolutions_are_units(kernel: int) -> None:
    project = Subdivided(8, 8, kernel, 1, kernel // 2)
    net = Parts(lambda n, x: F.relu(n.norm(n.project(x)) + x), project)
    assert kinds(deployed_like(net)) == [FusedConv, FusedUnit]


@pytest.mark.parametrize("layer", [SIC, Separable, Bases, partial(SIC, projection=Subdivided)])
def test_layers_become_one_module_each(layer) -> None:
    net, images = trained_like(partial(cifar_resnet, depth=8), layer, Input(10, 32, 3))
    deployed = deploy(net)
    with torch.no_grad():
        assert_same(deployed(images), net(images))
    assert kinds(deployed) == [FusedConv, *[FusedUnit] * 6]  # the stem, and six convolutions
    assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())


def test_macs_are_those_of_the_network() -> None:
    net, _ = trained_like(partial(cifar_resnet, depth=8), partial(SIC, projection=Subdivided), Input(10, 32, 3))
    assert count(deploy(net), (3, 32, 32)).macs == count(net, (3, 32, 32)).macs


@pytest.mark.parametrize("limit", [nn.ReLU6(), nn.Hardtanh(0, 2), nn.ReLU6(inplace=True)])
def test_a_convolution_takes_in_any_upper_limit(limit: nn.Module) -> None:
    net = Parts(lambda n, x: n.limit(n.norm(n.project(3 * x))))
    net.limit = limit
    deployed = deployed_like(net)
    assert type(limit) not in {type(module) for module in deployed.modules()}
    assert not any(limit.__class__.__name__.lower() in str(node.target) for node in deployed.graph.nodes)


def test_a_lower_limit_below_zero_stays() -> None:
    net = Parts(lambda n, x: F.hardtanh(n.norm(n.project(x)), -1, 1))
    assert F.hardtanh in {node.target for node in deployed_like(net).graph.nodes}


@pytest.mark.parametrize("channels", [4, 16])
def test_another_number_of_channels_is_refused(channels: int) -> None:
    """Four of eight channels would pass for two filters each."""
    deployed = deploy(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)).eval())
    with pytest.raises(ValueError, match=rf"x of shape \(2, {channels}, 9, 7\): must be \(N, 8, H, W\)"):
        deployed(torch.randn(2, channels, 9, 7))
