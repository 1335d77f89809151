"""Forward passes that write in place: deployed they compute the same."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.lccl import LCCL
from tests.models.inference.deployed import Net, agrees


def setitem(x: Tensor, value: float) -> Tensor:
    x[:, 1] = value
    return x


def scaled(x: Tensor, factor: float) -> Tensor:
    x *= factor
    return x


def add_to(x: Tensor, y: Tensor) -> Tensor:
    x += y
    return x


WRITES: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "relu_": lambda net, x: torch.relu_(x),
    "F.relu": lambda net, x: F.relu(x, True),
    "inplace": lambda net, x: F.leaky_relu(x, inplace=True),
    "method": lambda net, x: x.clamp_(min=0),
    "module": lambda net, x: net.relu_(x),
    "operator": lambda net, x: scaled(x, -2),
    "setitem": lambda net, x: setitem(x, 3.0),
    "out": lambda net, x: torch.mul(x, 2, out=x),
    "iadd": lambda net, x: add_to(x, torch.ones_like(x)),
    "view": lambda net, x: net.relu_(x.view(2, 2, 2, 8, 8)).view(2, 4, 8, 8),
    "reshape": lambda net, x: x.reshape(2, -1).mul_(-1).reshape_as(x),
    "chunk": lambda net, x: torch.cat((x.chunk(2, 1)[0].neg_(), x.chunk(2, 1)[1]), 1),
    "split": lambda net, x: torch.cat((x.split(2, 1)[0].neg_(), torch.split(x, 2, 1)[1].neg_()), 1),
    "narrow": lambda net, x: torch.relu_(x.narrow(1, 0, 4)),
    "slice": lambda net, x: torch.relu_(x[:, :4]),
    "identity": lambda net, x: torch.relu_(net.same(x)),
    "dropout": lambda net, x: torch.relu_(net.drop(x)),
    "functional dropout": lambda net, x: torch.relu_(F.dropout(x, 0.5, net.training)),
    "in-place dropout": lambda net, x: F.dropout(x, 0.5, net.training, True).neg_(),
    "detach": lambda net, x: x.detach().neg_(),
    "data": lambda net, x: x.data.neg_(),
    "contiguous": lambda net, x: x.contiguous(memory_format=torch.channels_last).neg_(),
    "to": lambda net, x: x.to(torch.float64).neg_(),
    "T": lambda net, x: x.mT.neg_().mT,
    "permute": lambda net, x: torch.permute(x, (0, 2, 3, 1)).sigmoid_().permute(0, 3, 1, 2),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("layer", [nn.Conv2d, LCCL])
def test_nothing_is_fused_across_a_write(write: str, layer: type[nn.Module]) -> None:
    touch = WRITES[write]

    def read_before(net: Net, x: Tensor) -> Tensor:
        shortcut = net.norm_a(net.a(x))
        return net.b(touch(net, x)) + shortcut

    def read_after_too(net: Net, x: Tensor) -> Tensor:
        y = net.norm_a(net.a(x))
        z = touch(net, x)
        return y + z + net.b(x)

    def branch_before(net: Net, x: Tensor) -> Tensor:
        y = net.a(x)
        z = x + 1
        touch(net, z)
        return F.relu(net.norm_a(y) + z)

    def written_between(net: Net, x: Tensor) -> Tensor:
        z = net.b(x)
        y = net.norm_a(net.a(x)) + z
        touch(net, z)
        return torch.relu(y) + z

    for run in (read_before, read_after_too, branch_before, written_between):
        agrees(Net(run, layer))
