"""LCCL: each form's definition written out, skipping as good as computing, its cost and its limits."""

import itertools
import math

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F

from models.cost import count
from models.init import initialise
from models.layers import lccl
from models.layers.lccl import LCCL

# What the layer has to refuse (test_contract.py), by in_channels, out_channels, places of the kernel and groups.
REFUSES = {"lccl": lambda m, n, taps, groups: n == groups}  # where the k x k gate would cost as much as the convolution

GEOMETRIES = [(3, 1, 1), (3, 2, 1), (3, 1, 0), (5, 2, 2), (1, 1, 0), (2, 1, 0), (4, 2, 1), (3, 1, 2, 2)]
GATES = [("1x1", "shared"), ("kxk", "shared"), ("1x1", "each")]
NORMS = [(True, 0.3), (True, None), (False, None)]  # gate_norm and gate_offset
UNITS = ["norm_product", "relu_product", "product"]
FORMS = list(itertools.product(GATES, NORMS, UNITS, [True, False]))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_pointwise_gate_looks_at_the_centre_of_each_window(geometry) -> None:
    layer = LCCL(4, 6, *geometry, gate_kernel="1x1", gate_offset=None).double().eval()
    x = torch.randn(2, 4, 12, 15, dtype=torch.float64)
    kernel, stride, padding = geometry[:3]
    dilation = geometry[3] if len(geometry) == 4 else 1
    centre = math.ceil(dilation * (kernel - 1) / 2)
    delta = torch.zeros(1, 4, dilation * (kernel - 1) + 1, dilation * (kernel - 1) + 1, dtype=torch.float64)
    delta[0, :, centre, centre] = layer.gate.conv.weight[0, :, 0, 0]
    expected = F.conv2d(x, delta, stride=stride, padding=padding) / math.sqrt(1 + layer.gate.norm.eps)
    torch.testing.assert_close(layer.gate(x), expected.relu(), rtol=0, atol=1e-10)


def form(gate, norm, unit: str, bias: bool) -> tuple[LCCL, Tensor, Tensor]:
    """A layer of 5 -> 7 channels, 3 x 3, stride 2, an input, and its windows (N, 5, 9, positions)."""
    kernel, channels = gate
    knobs = {
        "gate_kernel": kernel,
        "gate_channels": channels,
        "gate_norm": norm[0],
        "gate_offset": norm[1],
        "unit": unit,
    }
    layer = LCCL(5, 7, 3, 2, 1, bias=bias, **knobs).double()
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, *((0.2, 0.6) if parameter.ndim == 1 else (-1, 1)))
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    x = torch.randn(2, 5, 11, 14, dtype=torch.float64)
    layer(x)  # evaluation then normalises by the statistics of x
    return layer, x, F.unfold(x, 3, padding=1, stride=2).unflatten(1, (5, 9))


def normalised(values: Tensor, norm) -> Tensor:
    """Batch statistics of values (N, channels, positions), then scale and shift."""
    mean, variance = values.mean((0, 2), keepdim=True), values.var((0, 2), correction=0, keepdim=True)
    standard = (values - mean) / (variance + norm.eps).sqrt()
    return standard * norm.weight[:, None] + norm.bias[:, None] if norm.affine else standard


@pytest.mark.parametrize("knobs", FORMS, ids=str)
def test_is_the_product_written_out(knobs) -> None:
    layer, x, windows = form(*knobs)
    (kernel, _), (gate_norm, offset), unit, bias = knobs
    conv = layer.conv if isinstance(layer.conv, nn.Conv2d) else layer.conv[0]
    value = torch.einsum("oct,nctp->nop", conv.weight.flatten(2), windows)
    if bias:
        value = value + conv.bias[:, None]
    if unit != "product" and not bias:
        value = normalised(value, layer.conv[1])
    if unit == "relu_product":
        value = value.clamp(min=0)
    seen = windows if kernel == "kxk" else windows[:, :, 4:5]
    gate = torch.einsum("oct,nctp->nop", layer.gate.conv.weight.flatten(2), seen)
    gate = normalised(gate, layer.gate.norm) if gate_norm else gate + layer.gate.conv.bias[:, None]
    gate = gate.clamp(min=0) if offset is None else (2 * gate + offset).clamp(0, 1)
    expected = value * gate
    assert 0 < (gate == 0).double().mean() < 1
    assert offset is None or (gate == 1).any()
    torch.testing.assert_close(layer(x).flatten(2), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("knobs", FORMS, ids=str)
def test_skipping_closed_outputs_gives_the_dense_product(knobs) -> None:
    layer, x, windows = form(*knobs)
    bias = knobs[-1]
    gate = layer.eval().gate(x).flatten(2)
    assert 0 < (gate == 0).double().mean() < 1
    conv, *pointwise = [layer.conv] if isinstance(layer.conv, nn.Conv2d) else layer.conv
    n, channel, position = gate.expand(2, 7, windows.shape[-1]).nonzero(as_tuple=True)
    value = (conv.weight[channel].flatten(2) * windows[n, :, :, position]).sum((1, 2))
    alone = torch.zeros(len(n), 7, 1, 1, dtype=torch.float64)  # an image for each open output, which holds it alone
    which = torch.arange(len(n))
    alone[which, channel, 0, 0] = value + conv.bias[channel] if bias else value
    for module in pointwise:
        alone = module(alone)
    expected = torch.zeros(2, 7, windows.shape[-1], dtype=torch.float64)
    expected[n, channel, position] = alone[which, channel, 0, 0] * gate.expand_as(expected)[n, channel, position]
    dense = layer(x).flatten(2)
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-10)
    assert torch.equal(dense == 0, expected == 0)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("gate", "overhead"), list(zip(GATES, [1 / 288, 1 / 32, 1 / 9], strict=True)))
def test_costs_its_formula(gate, overhead: float, unit: str) -> None:
    """What a gate adds to the cost of its 3 x 3 convolution of T = 32 outputs: 1 / (k^2 T), 1 / T, 1 / k^2."""
    cost = count(LCCL(16, 32, 3, 2, 1, gate_kernel=gate[0], gate_channels=gate[1], unit=unit), (16, 32, 32))
    assert cost.macs_of("conv") == 16 * 16 * 9 * 16 * 32
    assert cost.macs_of("gate") == pytest.approx(overhead * cost.macs_of("conv"), rel=1e-12)
    assert cost.macs == cost.macs_of("conv") + cost.macs_of("gate")


def test_a_gate_for_each_output_keeps_to_the_group() -> None:
    layer = LCCL(8, 12, 3, padding=1, groups=4, gate_kernel="1x1", gate_channels="each").eval()
    x = torch.randn(1, 8, 5, 5)
    other = x.clone()
    other[:, :2] = torch.randn(1, 2, 5, 5)  # the inputs of the first group
    assert torch.equal(layer(x)[:, 3:], layer(other)[:, 3:])
    cost = count(layer, (8, 5, 5))
    assert cost.macs_of("conv") == 9 * cost.macs_of("gate")


@pytest.mark.parametrize("gate", GATES)
def test_both_branches_learn_the_gate_slowly(gate) -> None:
    layer = LCCL(4, 4, 3, padding=1, gate_kernel=gate[0], gate_channels=gate[1], gate_lr_scale=0.25)
    initialise(layer)
    layer(torch.randn(8, 4, 6, 6)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters() if parameter.ndim > 1)
    assert layer.gate.lr_scale == 0.25


def strength(layer: LCCL, x: Tensor) -> Tensor:
    """The square of each output, standardised over the batch (N, n, H', W')."""
    y = layer.conv(x)
    return ((y - y.mean((0, 2, 3), keepdim=True)) / y.std((0, 2, 3), keepdim=True)).square()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("gate", GATES)
def test_a_gate_starts_open_where_its_convolution_responds(gate, groups: int) -> None:
    """No kernel of its length and sight follows the response more closely than the fitted one, to the ridge."""
    kernel, channels = gate
    layer = LCCL(6, 4, 3, 2, 1, groups=groups, bias=False, gate_kernel=kernel, gate_channels=channels).double()
    x = torch.randn(32, 6, 9, 12, dtype=torch.float64) ** 2  # of no symmetry: its size predicts the response
    length = layer.gate.conv.weight.flatten(1).norm(dim=1)
    layer.init_from_batch(x)
    weight = layer.gate.conv.weight
    torch.testing.assert_close(weight.flatten(1).norm(dim=1), length)
    target = strength(layer, x)
    target = target.mean(1, keepdim=True) if channels == "shared" else target

    def correlations() -> Tensor:
        pairs = zip(layer.gate.conv(F.pad(x, layer.gate.margins)).unbind(1), target.unbind(1), strict=True)
        return torch.stack([torch.corrcoef(torch.stack([z.flatten(), t.flatten()]))[0, 1] for z, t in pairs])

    with torch.no_grad():
        best = correlations()
        assert (best > 0.02).all()
        for _ in range(20):
            fitted = weight.clone()
            weight += 0.3 * length.view(-1, 1, 1, 1) * F.normalize(torch.randn_like(weight).flatten(1)).view_as(weight)
            assert (correlations() < best + 1e-3).all()
            weight.copy_(fitted)


def test_a_fit_holds_no_more_windows_than_it_may(monkeypatch) -> None:
    few, all_ = LCCL(4, 4, 3, padding=1, bias=False), LCCL(4, 4, 3, padding=1, bias=False)
    all_.load_state_dict(few.state_dict())
    x, target = torch.randn(6, 4, 5, 7), torch.rand(6, 1, 5, 7)
    with torch.no_grad():
        all_.gate.fit(x[:2], target[:2])
        monkeypatch.setattr(lccl, "MOST_INPUTS", 2 * 36 * 35)
        few.gate.fit(x, target)
    assert torch.equal(few.gate.conv.weight, all_.gate.conv.weight)


def test_a_constant_input_leaves_the_gate_finite() -> None:
    layer = LCCL(4, 4, 3, padding=1, bias=False)
    layer.init_from_batch(torch.zeros(2, 4, 5, 5))
    assert layer(torch.randn(2, 4, 5, 5)).isfinite().all()


def test_the_published_unit_is_the_product_written_out(composed) -> None:
    """conv(x) ReLU(z), z the standardised 1 x 1 convolution at the centre of each window."""
    layer = instantiate(composed("model/layer=lccl_published").model.layer)(5, 7, 3, 2, 1, bias=False).double()
    x = torch.randn(2, 5, 11, 14, dtype=torch.float64)
    z = F.conv2d(x, layer.gate.conv.weight, stride=2)
    gate = ((z - z.mean()) / (z.var(correction=0) + 1e-5).sqrt()).clamp(min=0)
    expected = F.conv2d(x, layer.conv.weight, stride=2, padding=1) * gate
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


def test_a_gate_that_starts_at_random_stays_as_it_is() -> None:
    layer = LCCL(4, 4, 3, padding=1, bias=False, gate_start="random")
    before = layer.gate.conv.weight.clone()
    layer.init_from_batch(torch.randn(2, 4, 5, 5))
    assert torch.equal(layer.gate.conv.weight, before)


@pytest.mark.parametrize("kernel", ["1x1", "kxk"])
def test_a_bounded_gate_has_a_ceiling_over_what_a_relu_lets_through(kernel) -> None:
    """Without negative inputs no gate map exceeds that of an input of nothing, mean / standard deviation."""
    layer = LCCL(6, 4, 3, padding=1, bias=False, gate_kernel=kernel, gate_offset=None, gate_start="bounded").double()
    size = layer.gate.conv.weight.abs().clone()
    x = torch.randn(64, 6, 7, 7, dtype=torch.float64).relu()
    layer.init_from_batch(x)
    assert torch.equal(layer.gate.conv.weight, -size)
    layer.gate.norm.momentum = 1.0
    layer(x)
    ceiling = layer.eval().gate(torch.zeros_like(x)).max()
    assert 0 < (layer.gate(x) == 0).double().mean() < 1
    for image in (x, torch.where(torch.rand_like(x) < 0.01, 1e3 * x, x)):
        assert layer.gate(image).max() <= ceiling * (1 + 1e-9)


REFUSED = [
    ((4, 4, 3), {"gate_kernel": "3x3"}, "gate_kernel='3x3': must be '1x1' or 'kxk'"),
    ((4, 4, 3), {"gate_channels": "all"}, "gate_channels='all': must be 'shared' or 'each'"),
    ((4, 4, 3), {"unit": "sum"}, "unit='sum': must be 'norm_product' or 'relu_product' or 'product'"),
    ((4, 4, 3), {"gate_lr_scale": 0}, "gate_lr_scale=0: must be positive"),
    ((4, 4, 3), {"gate_norm": False}, "gate_norm=False, gate_offset=1.0: .*; nearest: gate_offset=None"),
    (
        (4, 8, 3),
        {"gate_kernel": "kxk", "gate_channels": "each"},
        "gate_kernel='kxk', gate_channels='each': the gate must cost less than the convolution that it can skip; "
        "nearest: gate_kernel='1x1', gate_channels='each'",
    ),
    ((4, 8, 1), {"gate_channels": "each"}, "nearest: gate_kernel='1x1', gate_channels='shared'"),
    ((4, 4, 3, 1, 1, 1, 4), {"gate_kernel": "kxk"}, "nearest: gate_kernel='1x1', gate_channels='shared'"),
    ((4, 4, 1, 1, 0, 1, 4), {}, "nearest: the convolution without a gate"),
]


@pytest.mark.parametrize(("arguments", "knobs", "message"), REFUSED)
def test_refusals_name_the_argument(arguments, knobs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LCCL(*arguments, **knobs)
