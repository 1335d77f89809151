"""Deployed networks against the networks they were made of."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.cifar_resnet import cifar_resnet
from models.backbones.library import library_network
from models.backbones.preact_resnet import preact_resnet
from models.build import Input, build
from models.cost import count
from models.inference.deploy import deploy
from models.kernels.fused_conv import FusedConv
from models.kernels.fused_gated_conv import FusedGatedConv
from models.kernels.fused_unit import FusedUnit
from models.layers.lccl import LCCL
from models.scope import spatial
from tests.models.inference.deployed import agrees, assert_same, live_in, plain

FORMS = [
    {},
    {"gate_kernel": "1x1"},
    {"unit": "product", "gate_offset": None},
    {"unit": "product", "gate_offset": None, "gate_norm": False},
    {"unit": "relu_product"},
    {"unit": "relu_product", "gate_kernel": "kxk", "gate_offset": None, "gate_norm": False},
    {"gate_kernel": "1x1", "gate_channels": "each"},
]
BACKBONES = {
    "resnet": partial(cifar_resnet, depth=8),
    "preact_resnet": partial(preact_resnet, depth=8, block="basic", shortcut="A"),
    "plain": plain,
}
CASES = [(backbone, knobs) for backbone in BACKBONES.values() for knobs in FORMS]
CASES.append((partial(library_network, name="resnet18"), {}))  # with pooling behind its stem


def trained_like(backbone, layer, data: Input) -> tuple[nn.Module, Tensor]:
    """A network whose BatchNorms have statistics, weights and biases of their own, and images."""
    images = torch.randn(4, *data.shape)
    return live_in(build(backbone, layer, spatial, data).net, images), images


@pytest.mark.parametrize(("backbone", "knobs"), CASES)
def test_computes_what_the_network_computed(backbone, knobs) -> None:
    data = Input(7, 16 if backbone in BACKBONES.values() else 66, 3)
    net, images = trained_like(backbone, partial(LCCL, **knobs), data)
    net, images = net.double(), images.double()  # products of products magnify rounding
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        expected = net(images)
        deployed = deploy(net)
        assert_same(deployed(images), expected, rounding=1e-8)
        gated = [module for module in deployed.modules() if isinstance(module, FusedGatedConv)]
        assert bool(gated) == (knobs.get("gate_channels") != "each")
        for layer in gated:
            layer.skips = False
        assert_same(deployed(images), expected, rounding=1e-8)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert count(deployed.float(), data.shape).macs == count(net.float(), data.shape).macs


@pytest.mark.parametrize("knobs", FORMS, ids=str)
def test_in_single_precision_it_runs_the_fast_kernels(knobs) -> None:
    net, images = trained_like(partial(cifar_resnet, depth=8), partial(LCCL, **knobs), Input(10, 32, 3))
    deployed = deploy(net)
    with torch.no_grad():
        assert_same(deployed(images), net(images))


@pytest.mark.parametrize("name", ["resnet18", "resnet26", "mobilenetv2_100"])
def test_plain_networks_keep_no_batch_norm_of_their_convolutions(name: str) -> None:
    net, images = trained_like(partial(library_network, name=name), nn.Conv2d, Input(7, 66, 3))
    deployed = deploy(net)
    with torch.no_grad():
        assert_same(deployed(images), net(images))
    kinds = [type(module) for module in deployed.modules()]
    assert nn.BatchNorm2d not in kinds
    assert F.batch_norm not in {node.target for node in deployed.graph.nodes}
    assert nn.Conv2d not in kinds
    both = [module.depthwise is not None for module in deployed.modules() if isinstance(module, FusedUnit)]
    convs = sum(isinstance(module, nn.Conv2d) for module in net.modules())
    assert kinds.count(FusedConv) + len(both) + sum(both) == convs
    assert not any(parameter.requires_grad for parameter in deployed.parameters())


def test_residual_and_relu_are_fused_in_a_basic_block() -> None:
    net, _ = trained_like(partial(cifar_resnet, depth=8), LCCL, Input(10, 32, 3))
    called = {node.target for node in deploy(net).graph.nodes if node.op in ("call_function", "call_method")}
    assert not any(word in str(target) for target in called for word in ("add", "relu"))


@pytest.mark.parametrize("size", [(1, 3, 32, 32), (0, 3, 32, 32), (3, 3, 41, 30)])
def test_takes_other_batches_and_sizes(size: tuple[int, ...]) -> None:
    net, _ = trained_like(partial(cifar_resnet, depth=8), LCCL, Input(10, 32, 3))
    deployed, images = deploy(net), torch.randn(size)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(deployed(images), net(images), rtol=1e-3, atol=1e-3)


def test_a_convolution_that_runs_twice_stays_as_it_is() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(self.conv(x)))

    net, x = Twice().eval(), torch.randn(2, 4, 6, 6)
    nn.init.uniform_(net.norm.running_mean)
    with torch.no_grad():
        assert_same(deploy(net)(x), net(x))


def test_what_something_else_uses_is_not_folded_away() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            z = self.norm(y)
            return torch.relu(z + y) + z

    net, x = Branches().eval(), torch.randn(2, 4, 6, 6)
    nn.init.uniform_(net.norm.running_mean)
    nn.init.uniform_(net.norm.weight)
    with torch.no_grad():
        assert_same(deploy(net)(x), net(x))


@pytest.mark.parametrize("layer", [nn.Conv2d, LCCL])
@pytest.mark.parametrize("shape", [(5, 1, 1), (2, 5, 3, 3)])
def test_what_is_added_may_be_broadcast(layer, shape: tuple[int, ...]) -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.offset = layer(4, 5, 3), nn.Parameter(torch.randn(shape))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.conv(x) + self.offset)

    net, x = Shifted().eval(), torch.randn(2, 4, *((3, 3) if len(shape) == 4 else (6, 6)))
    with torch.no_grad():
        assert_same(deploy(net)(x), net(x))


def test_export_and_compile_see_the_operator() -> None:
    net, images = trained_like(partial(cifar_resnet, depth=8), LCCL, Input(10, 32, 3))
    deployed = deploy(net)
    with torch.no_grad():
        expected = deployed(images)
        exported = torch.export.export(deployed, (images,))
        calls = [str(node.target) for node in exported.graph.nodes if "gated_conv2d" in str(node.target)]
        assert len(calls) == 6
        assert_same(exported.module()(images), expected)
        assert_same(torch.compile(deployed, backend="aot_eager", fullgraph=True)(images), expected)


def test_a_forward_pass_that_depends_on_its_input_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"Branching cannot be deployed: torch.fx cannot record its own"):
        deploy(Branching())


def test_activations_behind_a_norm_of_their_own_write_in_place() -> None:
    net, images = trained_like(partial(preact_resnet, depth=8, block="basic", shortcut="A"), nn.Conv2d, Input(7, 16, 3))
    deployed = deploy(net)
    with torch.no_grad():
        assert_same(deployed(images), net(images))
    called = [node.target for node in deployed.graph.nodes if "relu" in str(node.target)]
    assert called == 3 * [torch.relu_]


def test_an_activation_of_the_input_leaves_it_as_it_is() -> None:
    agrees(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU6()))


def test_torchvisions_channel_shuffles_are_called_by_their_name() -> None:
    net, images = trained_like(
        partial(library_network, name="shufflenet_v2_x0_5", library="torchvision"), nn.Conv2d, Input(7, 66, 3)
    )
    net, images = net.double(), images.double()
    deployed = deploy(net)
    with torch.no_grad():
        assert_same(deployed(images), net(images), rounding=1e-8)
    called = [node.target for node in deployed.graph.nodes]
    assert called.count(F.channel_shuffle) == 16
    assert "transpose" not in called
