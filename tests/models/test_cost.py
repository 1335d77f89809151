"""Counts against published totals, closed formulas and torch's operator counter."""

import subprocess
import sys
from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.backbones.cifar_resnet import cifar_resnet
from models.backbones.library import library_network
from models.build import build, paper_input
from models.cost import count
from models.layers.sic import SIC
from models.scope import spatial
from tests.conftest import ROOT

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


class Sized(nn.Module):
    """A convolution without nn.Conv2d, and a formula that is `wrong` by so much."""

    def __init__(self, wrong: int) -> None:
        super().__init__()
        self.wrong = wrong
        self.weight = nn.Parameter(torch.zeros(4, 4, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.weight, padding=1)

    def macs(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        return 144 * output_shape[2] * output_shape[3] + self.wrong


def test_a_wrong_formula_is_an_error_that_names_its_layer() -> None:
    with pytest.raises(ValueError, match=r"1: the formula of Sized gives 9,217 MACs, its operators 9,216; "):
        count(nn.Sequential(nn.Conv2d(4, 4, 1), Sized(1)), (4, 8, 8))


def test_errors_that_cancel_each_other_are_errors() -> None:
    with pytest.raises(ValueError, match="1: the formula of Sized"):
        count(nn.Sequential(Sized(0), Sized(5), Sized(-5)), (4, 8, 8))


def test_a_product_beside_that_of_a_linear_layer_is_an_error() -> None:
    class Twice(nn.Linear):
        def forward(self, input):
            return super().forward(input) + F.linear(input, self.weight)

    with pytest.raises(ValueError, match=r"1: the formula of Twice gives 12 MACs, its operators 24"):
        count(nn.Sequential(nn.Flatten(), Twice(6, 2)), (6, 1, 1))


class Hidden(nn.Module):
    """Convolves without nn.Conv2d and without a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.weight)


def test_what_no_formula_covers_is_counted_by_its_operators_and_says_so() -> None:
    cost = count(nn.Sequential(nn.Conv2d(3, 3, 1), Hidden()), (3, 8, 8))
    plain, hidden = cost.layers
    assert (plain.macs, plain.operators) == (576, {})
    assert (hidden.macs, hidden.operators) == (3888, {"aten.convolution": 3888})
    assert hidden.activations == 4 * 36
    assert cost.macs_by_operators == 3888


class Reads(nn.Module):
    """Runs `function` on a tensor of (C, H, W) = (6, 4, 4) as a matrix of 6 x 16; holds no parameters."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x.flatten(2)[0])


# MACs by hand of products on a matrix m of 6 x 16.
PRODUCTS = {
    "matmul": (lambda m: m @ m.t(), 6 * 16 * 6),
    "einsum": (lambda m: torch.einsum("ck,dk->cd", m, m), 6 * 16 * 6),
    "baddbmm": (lambda m: torch.baddbmm(m.new_zeros(1, 6, 6), m[None], m.t()[None]), 6 * 16 * 6),
    "addbmm": (lambda m: torch.addbmm(m.new_zeros(6, 6), m[None], m.t()[None]), 6 * 16 * 6),
    "addmm_": (lambda m: m.new_zeros(6, 6).addmm_(m, m.t()), 6 * 16 * 6),
    "vector": (lambda m: m @ m[0], 6 * 16),
    "addmv": (lambda m: torch.addmv(m.new_zeros(6), m, m[0]), 6 * 16),
    "dot": (lambda m: m[0] @ m[1], 16),
    "blur": (lambda m: F.conv2d(m.view(1, 6, 4, 4), m.new_zeros(6, 1, 3, 3), padding=1, groups=6), 6 * 16 * 9),
    "sdpa": (lambda m: F.scaled_dot_product_attention(*m.view(3, 1, 2, 4, 4).unbind()), 2 * 2 * 4 * 4 * 4),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_against_hand_counts(name: str) -> None:
    function, macs = PRODUCTS[name]
    cost = count(Reads(function), (6, 4, 4))
    assert (cost.macs, cost.params) == (macs, 0)
    assert sum(cost.layers[0].operators.values()) == macs


def test_attention_costs_its_formula_whoever_calls_it() -> None:
    """Projections 4 L D^2, products 2 L^2 D; returns a tuple and is called with keywords."""

    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(12, 3, batch_first=True)

        def forward(self, x):
            x = x.flatten(2).transpose(1, 2)
            return self.attention(query=x, key=x, value=x, need_weights=False)[0]

    length, width = 20, 12
    for grad in (torch.no_grad(), torch.enable_grad(), torch.inference_mode()):
        with grad:
            assert count(Calls(), (width, 4, 5)).macs == 4 * length * width**2 + 2 * length**2 * width


@pytest.mark.parametrize(("layer", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_cost_their_formula(layer, gates: int) -> None:
    recurrent = layer(6, 5, batch_first=True, bidirectional=True)
    net = nn.Sequential(Reads(lambda m: m.t()[None]), recurrent)
    assert count(net, (6, 4, 4)).macs == 2 * 16 * gates * 5 * (6 + 5)


# GFLOPS, which are MACs there, and parameters as torchvision publishes them with its weights.
WEIGHTS = [
    "AlexNet_Weights",
    "ConvNeXt_Tiny_Weights",
    "DenseNet121_Weights",
    "EfficientNet_V2_S_Weights",
    "MaxVit_T_Weights",
    "MNASNet0_5_Weights",
    "MobileNet_V3_Small_Weights",
    "RegNet_Y_400MF_Weights",
    "ShuffleNet_V2_X0_5_Weights",
    "Swin_T_Weights",
    "Swin_V2_T_Weights",
    "ViT_B_16_Weights",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", WEIGHTS)
def test_published_counts_of_torchvision(name: str) -> None:
    weights = torchvision.models.get_weight(f"{name}.IMAGENET1K_V1")
    size = weights.transforms.keywords["crop_size"]
    model = name.removesuffix("_Weights").lower()
    with torch.device("meta"):
        net = library_network(1000, size, 3, name=model, library="torchvision")
    cost = count(net, (3, size, size))
    assert cost.params == weights.meta["num_params"]
    assert cost.macs / 1e9 == pytest.approx(weights.meta["_ops"], abs=0.000501)


def test_a_shared_layer_counts_each_time_and_its_parameters_once() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    cost = count(nn.Sequential(conv, conv), (4, 8, 8))
    assert cost.params == 144
    assert cost.macs == 2 * 144 * 64


@pytest.mark.slow
def test_the_counter_needs_no_kernel() -> None:
    """What counts an operator of ours comes with the operator."""
    code = (
        "import sys, torch.utils.flop_counter; old = {*sys.modules}; import models.cost; print(*{*sys.modules} - old)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "models.cost" in imported
    assert not [name for name in imported if name.startswith(("models.inference", "models.layers", "triton", "ctypes"))]
