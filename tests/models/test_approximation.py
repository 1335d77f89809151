"""The algebra of approximations against closed forms, and against torch.linalg.lstsq."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.approximation import RIDGE, both_signs, channel_bases, fit, pass_through, set_filters


@pytest.mark.parametrize(("groups", "number"), [(1, 1), (1, 3), (2, 2), (1, 9), (4, 12)])
def test_no_bases_are_nearer_than_these(groups: int, number: int) -> None:
    """Eckart, Young 1936: the squared error is the sum of the squared singular values that are left out."""
    weight = torch.randn(16, 8 // groups, 3, 3, dtype=torch.float64)
    kernels, coefficients = channel_bases(weight, groups, number)
    left_out = torch.zeros((), dtype=torch.float64)
    made = torch.empty_like(weight)
    for channel in range(8):
        group, place = divmod(channel, 8 // groups)
        own = slice(group * 16 // groups, (group + 1) * 16 // groups)
        made[own, place] = torch.einsum("nb,bkl->nkl", coefficients[own, place], kernels[channel])
        left_out += torch.linalg.svdvals(weight[own, place].flatten(1))[number:].square().sum()
    torch.testing.assert_close((made - weight).square().sum(), left_out, rtol=1e-9, atol=1e-20)


def test_groups_take_what_lies_within_their_connections() -> None:
    dense, grouped = nn.Conv2d(8, 12, 3), nn.Conv2d(8, 12, 3, groups=4)
    set_filters(grouped, dense.weight, dense.bias)
    assert dense.bias is not None
    x = torch.randn(1, 8, 5, 5)
    for group in range(4):
        alone = torch.zeros_like(x)
        alone[:, 2 * group : 2 * group + 2] = x[:, 2 * group : 2 * group + 2]
        own = slice(3 * group, 3 * group + 3)
        torch.testing.assert_close(grouped(x)[:, own], dense(alone)[:, own])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_fit_is_that_of_lstsq(groups: int, bias: bool) -> None:
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=groups, bias=bias).double()
    x, y = torch.randn(8, 4, 9, 9).double(), torch.randn(8, 6, 5, 5).double()
    before = conv.weight.detach().clone()
    fit(conv, x, y)
    windows = F.unfold(x, 3, 1, 1, 2).transpose(0, 1).flatten(1).chunk(groups)
    wanted = y.transpose(0, 1).flatten(1).chunk(groups)
    for seen, target, own in zip(windows, wanted, range(groups), strict=True):
        filters = slice(own * 6 // groups, (own + 1) * 6 // groups)
        a, b = (each - each.mean(1, keepdim=True) for each in (seen, target))
        stay = (RIDGE * (a @ a.T).diagonal().mean()).sqrt() * torch.eye(len(a), dtype=a.dtype)
        flat = before[filters].flatten(1)
        solution = torch.linalg.lstsq(torch.cat([a.T, stay]), torch.cat([b.T, stay @ flat.T])).solution.T
        torch.testing.assert_close(conv.weight[filters].flatten(1), solution)
        if conv.bias is not None:
            offset = (target - conv.weight[filters].flatten(1) @ seen).mean(1)
            torch.testing.assert_close(conv.bias[filters], offset)


def test_what_is_met_already_stays() -> None:
    conv = nn.Conv2d(8, 8, 3)
    x, before = torch.randn(2, 8, 6, 6), conv.weight.detach().clone()
    fit(conv, x, conv(x))
    torch.testing.assert_close(conv.weight, before, rtol=0, atol=1e-6)


def test_two_signs_lose_nothing_to_a_relu() -> None:
    basis = torch.linalg.qr(torch.randn(6, 6)).Q
    signed = both_signs(basis, 6)  # three directions and their negatives
    x = torch.randn(6, 20)
    torch.testing.assert_close(signed.T @ torch.relu(signed @ x), basis[:3].T @ basis[:3] @ x)
    assert both_signs(basis[:1], 4)[2:].eq(0).all()


def test_a_norm_lets_pass_both_in_training_and_in_evaluation() -> None:
    norm, x = nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5) * 3 + 1
    pass_through(norm, x)
    torch.testing.assert_close(norm.eval()(x), x)
    torch.testing.assert_close(norm.train()(x), x)
