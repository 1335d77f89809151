"""p4 and p4m: equivariance and the definition itself, with the group as 2 x 2 matrices, and the cost."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from models.cost import count
from models.layers.group_equivariant import GroupConv2d

# The element 4 m + r on (row, column): mirror the columns m times, then r quarter turns.
MIRROR, TURN = torch.tensor([[1, 0], [0, -1]]), torch.tensor([[0, -1], [1, 0]])
ELEMENTS = [
    torch.linalg.matrix_power(TURN.double(), r).long() @ (MIRROR if m else torch.eye(2).long())
    for m, r in itertools.product(range(2), range(4))
]
ORDER = {"p4": 4, "p4m": 8}
EVERY = list(itertools.product(("p4", "p4m"), (True, False)))
WINDOWS = [
    (3, 1, 1, 6),
    (3, 1, 0, 6),
    (3, 2, 1, 9),
    (3, 2, 0, 7),
    (5, 2, 2, 9),
    (1, 2, 0, 7),
    (5, 1, 0, 8),
    (3, 3, 1, 7),
]


def quotient(h: int, g: int) -> int:
    """h^-1 g."""
    product = ELEMENTS[h].T @ ELEMENTS[g]
    return next(number for number, element in enumerate(ELEMENTS) if torch.equal(element, product))


def moved(x: Tensor, u: int) -> Tensor:
    """(T_u x)(p) = x(u^-1 p) about the centre of images (N, C, n, n); the planes of features change places too."""
    n = x.shape[-1]
    p = torch.cartesian_prod(torch.arange(n), torch.arange(n)) * 2 - (n - 1)  # twice the distance from the centre
    row, column = ((p @ ELEMENTS[u] + n - 1) // 2).view(n, n, 2).unbind(2)  # rows times u are u^-1 times columns
    if x.ndim == 5:
        x = x[:, :, [quotient(u, g) for g in range(x.shape[2])]]
    return x[..., row, column]


def make(group, lifting: bool, *window: int) -> tuple[GroupConv2d, Tensor]:
    """A layer of 3 to 2 channels in float64 with a bias that is not zero, and an input of size window[3]."""
    *window, size = window
    layer = GroupConv2d(3, 2, *window, group=group, lifting=lifting).double()
    nn.init.normal_(layer.bias)
    return layer, torch.randn(2, 3, *([] if lifting else [ORDER[group]]), size, size, dtype=torch.float64)


def error(layer: nn.Module, x: Tensor, order: int) -> float:
    """The largest deviation from layer(T_u x) = T_u layer(x) over all elements u."""
    return max((layer(moved(x, u)) - moved(layer(x), u)).abs().max().item() for u in range(order))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("group", "lifting"), EVERY)
def test_commutes_with_every_element(group, lifting, window) -> None:
    layer, x = make(group, lifting, *window)
    assert error(layer, x, ORDER[group]) < 1e-10


@pytest.mark.parametrize(("group", "lifting"), EVERY)
def test_one_wrong_tap_is_noticed(group, lifting) -> None:
    layer, x = make(group, lifting, 3, 1, 1, 6)
    for position in ((0, 0, 0, 1), (1, 0, 2, 2), (-1, -1, 1, 1)):
        broken = copy.deepcopy(layer)
        broken.taps[position] = (broken.taps[position] + 1) % broken.taps[0].numel()
        assert error(broken, x, ORDER[group]) > 1e-3


@pytest.mark.parametrize(("group", "lifting"), EVERY)
def test_strides_that_miss_the_symmetry_break_it(group, lifting) -> None:
    layer, x = make(group, lifting, 3, 2, 1, 8)
    assert error(layer, x, ORDER[group]) > 0.1


@pytest.mark.parametrize(("group", "lifting"), EVERY)
def test_is_the_definition(group, lifting) -> None:
    """y[h](p) = bias + sum over planes g and offsets d of x[g](p + d) weight[h^-1 g](h^-1 d)."""
    layer, x = make(group, lifting, 3, 1, 0, 5)
    order, planes = ORDER[group], 1 if lifting else ORDER[group]
    features, weight = x.view(2, 3, planes, 5, 5), layer.weight.view(2, 3, planes, 3, 3)
    expected = layer.bias[None, :, None, None, None].repeat(2, 1, order, 3, 3)
    for h, g, d0, d1 in itertools.product(range(order), range(planes), (-1, 0, 1), (-1, 0, 1)):
        s0, s1 = (ELEMENTS[h].T @ torch.tensor([d0, d1])).tolist()  # the inverse is the transpose
        taps = weight[:, :, 0 if lifting else quotient(h, g), 1 + s0, 1 + s1]
        seen = features[:, :, g, 1 + d0 : 4 + d0, 1 + d1 : 4 + d1]
        expected[:, :, h] += torch.einsum("oi,nihw->nohw", taps, seen)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


def test_eight_times_the_planes_of_as_many_parameters() -> None:
    lift, conv = GroupConv2d(3, 16, 3, group="p4m", lifting=True), nn.Conv2d(3, 16, 3)
    assert [p.numel() for p in lift.parameters()] == [p.numel() for p in conv.parameters()]
    x = torch.randn(1, 3, 9, 9)
    assert lift(x).numel() == 8 * conv(x).numel()


@pytest.mark.parametrize(("group", "lifting"), EVERY)
@pytest.mark.parametrize("window", [(3, 1, 1, 9), (3, 2, 1, 9), (1, 2, 0, 9)])
def test_each_weight_costs_a_mac_per_position_and_element(group, lifting, window) -> None:
    layer, x = make(group, lifting, *window)
    positions = layer(x).shape[-1] ** 2
    k, order = window[0], ORDER[group]
    assert layer.weight.numel() == k * k * 3 * 2 * (1 if lifting else order)
    assert count(layer.float(), x.shape[1:]).macs == order * layer.weight.numel() * positions


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_training_saving_copying_and_autocast(group, channels_last) -> None:
    def make_net() -> nn.Module:
        lift = GroupConv2d(3, 4, 3, padding=1, group=group, lifting=True)
        net = nn.Sequential(lift, nn.BatchNorm3d(4), nn.ReLU(), GroupConv2d(4, 5, 3, 2, 1, group=group))
        return net.to(memory_format=torch.channels_last) if channels_last else net

    net, other, x = make_net(), make_net(), torch.randn(2, 3, 9, 9)
    net(x).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.abs().sum() > 0 or name == "0.bias", name  # which the BatchNorm takes away again
    other.load_state_dict(net.state_dict())
    assert torch.equal(net.eval()(x), other.eval()(x))
    assert torch.equal(net(x), copy.deepcopy(net)(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x).dtype == torch.bfloat16


def test_starts_at_the_variance_of_he() -> None:
    layer = GroupConv2d(32, 32, 3, group="p4m")
    assert layer.weight.std().item() == pytest.approx((2 / (8 * 9 * 32)) ** 0.5, rel=0.02)
    assert not layer.bias.count_nonzero()


def test_refusals_name_the_argument() -> None:
    with pytest.raises(ValueError, match="kernel_size=4: .* nearest: 5"):
        GroupConv2d(3, 4, 4, group="p4")
    with pytest.raises(ValueError, match="group='p6': must be 'p4' or 'p4m'"):
        GroupConv2d(3, 4, 3, group="p6")
