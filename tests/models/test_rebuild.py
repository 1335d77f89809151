"""Which convolutions are replaced, what is said of the others, and what is refused."""

from functools import partial

import pytest
import torch
from torch import nn

from models import scope
from models.backbones.cifar_resnet import cifar_resnet
from models.cost import count
from models.layers.bases import Bases
from models.layers.bottleneck import Bottleneck
from models.layers.dilated import Dilated
from models.layers.grouped import Grouped
from models.layers.lccl import LCCL
from models.layers.separable import Separable
from models.layers.shift import Shift
from models.layers.sic import SIC
from models.layers.spatial_bottleneck import SpatialBottleneck
from models.layers.subdivided import Subdivided
from models.rebuild import rebuild, survey
from tests.conftest import replace


class Doubled(nn.Conv2d):
    """A layer that is easy to recognise."""


class Wrong(nn.Conv2d):
    """Loses a row."""

    def forward(self, x):
        return super().forward(x)[:, :, 1:]


class Picky(nn.Conv2d):
    def __init__(self, in_channels, *arguments):
        if in_channels != 16:
            raise ValueError(f"in_channels={in_channels}: only 16")
        super().__init__(in_channels, *arguments)


SHAPE = (1, 3, 32, 32)


def test_spatial_leaves_the_stem_and_the_shortcuts() -> None:
    net = cifar_resnet(depth=20, shortcut="B")
    swaps = replace(net, Doubled, scope.spatial, SHAPE)
    assert len(swaps) == 21  # a stem, 18 of the blocks, two shortcuts
    assert {swap.name: swap.reason for swap in swaps if swap.reason} == {
        "conv": "stem",
        "stage2.0.shortcut.0": "1x1",
        "stage3.0.shortcut.0": "1x1",
    }
    assert sum(isinstance(module, Doubled) for module in net.modules()) == 18
    assert net(torch.zeros(SHAPE)).shape == (1, 10)


def test_all_takes_the_stem_too() -> None:
    assert all(swap.replaced for swap in replace(cifar_resnet(depth=8), Doubled, scope.all_convs, SHAPE))


def test_stages_count_output_resolutions() -> None:
    net = cifar_resnet(depth=20)
    swaps = replace(net, Doubled, partial(scope.stages, stages=[2, 3]), SHAPE)
    assert {swap.name.split(".")[0] for swap in swaps if swap.replaced} == {"stage2", "stage3"}
    with pytest.raises(ValueError, match=r"no stage 4; this network has \[1, 2, 3\]"):
        replace(cifar_resnet(depth=8), Doubled, partial(scope.stages, stages=[4]), SHAPE)


def test_names_are_shell_patterns() -> None:
    swaps = replace(cifar_resnet(depth=8), Doubled, partial(scope.names, patterns=["stage?.0.conv2"]), SHAPE)
    assert [swap.name for swap in swaps if swap.replaced] == ["stage1.0.conv2", "stage2.0.conv2", "stage3.0.conv2"]
    with pytest.raises(ValueError, match=r"'stage9\.\*' matches no convolution; near it: stage"):
        replace(cifar_resnet(depth=8), Doubled, partial(scope.names, patterns=["stage9.*"]), SHAPE)


def test_a_refusal_of_the_layer_is_the_reason() -> None:
    swaps = replace(cifar_resnet(depth=8), Picky, scope.spatial, SHAPE)
    assert {swap.name: swap.reason for swap in swaps}["stage3.0.conv1"] == "in_channels=32: only 16"


class Cheaper(nn.Sequential):
    """A depthwise convolution and a projection, whatever it stands for."""

    def __init__(self, m: int, n: int, kernel_size, stride, padding, *_) -> None:
        super().__init__(nn.Conv2d(m, m, kernel_size, stride, padding, groups=m), nn.Conv2d(m, n, 1))


class Wrapped(nn.Sequential):
    """The convolution itself under another name."""

    def __init__(self, *arguments) -> None:
        super().__init__(nn.Conv2d(*arguments))


SAME = "would cost as many MACs as the convolution"


class Windows(nn.Module):
    """(N, C, 6, 6) -> (4 N, C, 3, 3)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([half for rows in x.split(3, 2) for half in rows.split(3, 3)])


MORE = "would cost more MACs than the convolution"


@pytest.mark.parametrize(
    ("layer", "pointwise", "spatial_"),
    [
        (Cheaper, f"Cheaper {MORE}", ""),  # 8 x 1 + 8 x 8 MACs a position for 8 x 8
        (SIC, f"SIC {SAME}", ""),
        (partial(SIC, projection=Subdivided), "", ""),
        (partial(SIC, projection=partial(Subdivided, kept=1.0)), f"SIC {SAME}", ""),
        (partial(Subdivided, kept=1.0), f"Subdivided {SAME}", f"Subdivided {SAME}"),
        (partial(Grouped, cardinality=1), f"Grouped {SAME}", f"Grouped {SAME}"),
        (Grouped, "", ""),
        (Separable, f"Separable {MORE}", ""),
        (Bases, f"Bases {MORE}", ""),
        (partial(Bases, num_bases=8), f"Bases {MORE}", f"Bases {MORE}"),  # 8 x (8 x 9 + 8 x 8) for 9 x 8 x 8
        (SpatialBottleneck, f"SpatialBottleneck {MORE}", ""),
        (partial(Shift, expansion=3), f"Shift {MORE}", ""),
        (Dilated, "kernel_size=(1, 1): one tap has nothing to spread; nearest: 3", ""),  # at the same cost on purpose
        (Doubled, "", ""),
        (Wrapped, f"Wrapped {SAME}", f"Wrapped {SAME}"),
        (nn.Conv2d, f"Conv2d {SAME}", f"Conv2d {SAME}"),
        (partial(LCCL, gate_kernel="1x1"), "", ""),  # its gate costs less than the convolution
    ],
    ids=str,
)
def test_a_convolution_stays_where_nothing_is_saved(layer, pointwise: str, spatial_: str) -> None:
    """At 6 x 6 positions every cost above is 36 times that of one; without a stride all layers run at one size."""
    net = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1))
    found = survey(net, partial(scope.names, patterns=["0", "1"]), (1, 8, 6, 6))
    convs, before = list(net), count(net, (8, 6, 6)).macs
    swaps = rebuild(net, found, {"0": layer, "1": layer})
    assert {swap.name: swap.reason for swap in swaps} == {"0": pointwise, "1": spatial_, "2": "name"}
    assert [net[i] is convs[i] for i in range(3)] == [not swaps[i].replaced for i in range(3)]
    assert count(net, (8, 6, 6)).macs <= before or isinstance(net[1], LCCL)


def test_cost_is_that_of_the_place() -> None:
    """The first 1x1 of a Bottleneck runs at input size: at stride 3 it costs more, at stride 1 less."""
    layer = partial(Bottleneck, reduction=1.5)
    for stride, reason in ((1, ""), (3, f"Bottleneck {MORE}")):
        net = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, stride, 1))
        swaps = rebuild(net, survey(net, scope.spatial, (1, 3, 9, 9)), {"1": layer})
        assert swaps[1].reason == reason


def test_cost_is_that_of_one_image_or_one_window_for_both() -> None:
    """A convolution on 4 windows is not 4 times as dear as what would take its place."""
    net = nn.Sequential(nn.Conv2d(3, 12, 1), Windows(), nn.Conv2d(12, 12, 3, 3, 1))
    swaps = rebuild(net, survey(net, scope.spatial, (1, 3, 6, 6)), {"2": partial(Bottleneck, reduction=1.5)})
    assert swaps[1].reason == f"Bottleneck {MORE}"


def test_changing_nothing_is_an_error() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1))
    with pytest.raises(ValueError, match="all 2 convolutions as they are \\(0: stem; 1: 1x1\\)"):
        replace(net, Doubled, scope.spatial, SHAPE)


def test_a_layer_of_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match="the layer for stage1.0.conv1 returns"):
        replace(cifar_resnet(depth=8), Wrong, scope.spatial, SHAPE)


def test_what_cannot_be_replaced_is_said() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3)
            self.circular = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
            self.special = Doubled(4, 4, 3)
            self.unused = nn.Conv2d(4, 4, 3)
            self.plain = nn.Conv2d(4, 4, 3)

        def forward(self, x):
            return self.plain(self.special(self.circular(self.stem(x))))

    reasons = {swap.name: swap.reason for swap in replace(Net(), Doubled, scope.all_convs, SHAPE)}
    assert reasons["stem"] == reasons["plain"] == ""
    assert reasons["unused"] == "not used in the forward pass"
    assert reasons["special"] == "Doubled is more than nn.Conv2d"
    assert "padding_mode='circular'" in reasons["circular"]


def test_a_shared_convolution_stays_shared() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), conv, conv)
    replace(net, Doubled, scope.spatial, SHAPE)
    assert isinstance(net[1], Doubled)
    assert net[1] is net[2]


def test_the_network_is_otherwise_left_alone() -> None:
    net = cifar_resnet(depth=8).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    replace(net, Doubled, partial(scope.names, patterns=["stage3.*"]), SHAPE)
    assert all(module.training for module in net.modules())
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("stage3"))


def test_a_layer_that_ends_in_relu_trains_before_an_activation_in_place() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    replace(net, partial(SIC, norm="none"), scope.all_convs, SHAPE)
    net(torch.randn(SHAPE)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
