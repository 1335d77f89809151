"""Counts against published totals, closed formulas and torch's operator counter."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.backbones.cifar_resnet import cifar_resnet
from models.backbones.library import library_network
from models.build import build, paper_input
from models.cost import count
from models.layers.sic import SIC
from models.scope import spatial

# (parameters, MACs) of the networks as published or counted from their layer tables: He et al. 2016 for
# CIFAR (0.27 M and 1.7 M parameters), torchvision's metadata for ImageNet.
PUBLISHED = [
    (partial(cifar_resnet, depth=20), 269_722, 40_551_040),
    (partial(cifar_resnet, depth=20, shortcut="B"), 272_474, 40_813_184),
    (partial(cifar_resnet, depth=110), 1_727_962, 252_887_680),
    (partial(library_network, name="resnet50"), 25_557_032, 4_089_184_256),
    (partial(library_network, name="vgg16", library="torchvision"), 138_357_544, 15_470_264_320),
    (partial(library_network, name="mobilenetv2_100"), 3_504_872, 300_774_272),
]


@pytest.mark.parametrize(
    ("backbone", "params", "macs"), PUBLISHED, ids=lambda value: str(getattr(value, "keywords", value))
)
def test_published_counts_to_the_unit(backbone, params: int, macs: int) -> None:
    with torch.device("meta"):
        cost = build(backbone, nn.Conv2d, spatial, paper_input(backbone)).cost
    assert (cost.params, cost.macs, cost.flops) == (params, macs, 2 * macs)
    assert sum(layer.params for layer in cost.layers) == params
    assert sum(layer.macs for layer in cost.layers) == macs


CONVS = [
    nn.Conv2d(6, 12, 3, padding=1),
    nn.Conv2d(6, 12, 3, stride=2, padding=1),
    nn.Conv2d(6, 12, 3, padding=2, dilation=2),
    nn.Conv2d(6, 12, (3, 5), groups=3),
    nn.Conv2d(6, 6, 3, groups=6),
    nn.ConvTranspose2d(6, 12, 3, stride=2, groups=3),
]


@pytest.mark.parametrize("conv", CONVS, ids=str)
def test_convolutions_against_the_operator_counter(conv: nn.Module) -> None:
    with FlopCounterMode(display=False) as counter:
        conv(torch.zeros(1, 6, 13, 16))
    assert 2 * count(conv, (6, 13, 16)).macs == counter.get_total_flops()


def test_sic_costs_its_formula() -> None:
    m, k, size = 128, 3, 36
    cost = count(SIC(m, m, k, padding=1), (m, size, size))
    assert cost.macs == size * size * m * (k * k + m)


def test_uncounted_operators_are_listed() -> None:
    uncounted = count(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)), (3, 8, 8)
    ).uncounted
    assert set(uncounted) == {"aten.native_batch_norm", "aten.relu", "aten.max_pool2d_with_indices"}


def test_activations_are_outputs_of_counted_layers() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(72, 5))
    assert count(net, (3, 8, 8)).activations == 4 * 36 + 2 * 36 + 5


class Hidden(nn.Module):
    """Convolves without nn.Conv2d."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.weight)


def test_a_layer_without_formula_is_an_error_that_names_it() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), Hidden())
    with pytest.raises(ValueError, match=r"1: the formula of Hidden gives 0 MACs, torch.utils.flop_counter 3,888"):
        count(net, (3, 8, 8))


def test_a_shared_layer_counts_each_time_and_its_parameters_once() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    cost = count(nn.Sequential(conv, conv), (4, 8, 8))
    assert cost.params == 144
    assert cost.macs == 2 * 144 * 64
