"""BatchNorms that do not follow a convolution at once: deployed the network computes the same, and few of them stay."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.inference.deploy import deploy
from models.layers.subdivided import Subdivided
from tests.models.inference.deployed import agrees, randomise


class Parts(nn.Module):
    """Convolutions of four and eight channels, a norm of eight, and a forward pass to try."""

    def __init__(self, run: Callable[["Parts", Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run
        self.a, self.b, self.c = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 8, 1, groups=2)
        self.up = nn.ConvTranspose2d(4, 8, 2, 2, groups=2, bias=False)
        self.up_biased = nn.ConvTranspose2d(4, 8, 3)
        self.subdivided = Subdivided(4, 8, 1, bias=False, grid=(2, 2), window=(1, 2))
        self.subdivided_3x3 = Subdivided(4, 8, 3, grid=(4, 1), window=(2, 1))
        self.shuffle = nn.ChannelShuffle(4)
        self.norm, self.plain_norm = nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False)
        self.pool = nn.AvgPool2d(3, 1, 1)
        randomise(self)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)

    def pair(self, x: Tensor) -> Tensor:
        return torch.cat((self.a(x), self.b(x)), 1)


def written_between(net: Parts, x: Tensor) -> Tensor:
    y = net.a(x)
    both = torch.cat((y, net.b(x)), 1)
    y.mul_(2)
    return net.norm(both) + y.repeat(1, 2, 1, 1)


def cat_into(z: Tensor, *parts: Tensor) -> Tensor:
    return F.relu(torch.cat(parts, 1, out=z)) + z


def ghost(net: Parts, x: Tensor) -> Tensor:
    y = net.a(x)
    return F.relu(net.norm(torch.cat((y, net.b(y)), 1)[:, :8]))


# How many BatchNorms are left, and how many separate ReLUs.
FORMS: dict[str, tuple[int, int, Callable[[Parts, Tensor], Tensor]]] = {
    "cat": (0, 0, lambda net, x: F.relu(net.norm(net.pair(x)))),
    "cat without an affine part": (0, 0, lambda net, x: F.relu(net.plain_norm(net.pair(x)), True)),
    "cat by name": (0, 0, lambda net, x: net.norm(torch.cat([net.a(x), net.b(x)], dim=1)).relu_()),
    "cat and nothing else": (0, 0, lambda net, x: F.relu(net.pair(x))),
    "cat and read": (0, 1, lambda net, x: (lambda y: F.relu(y) + y)(net.pair(x))),
    "cat and read before": (1, 0, lambda net, x: (lambda y: net.norm(y) + y)(net.pair(x))),
    "cat with a pool": (0, 1, lambda net, x: F.relu(torch.cat((net.pool(x), net.a(x)), 1))),
    "norm of a cat with a pool": (1, 0, lambda net, x: net.norm(torch.cat((net.pool(x), net.a(x)), 1))),
    "cat of one twice": (1, 0, lambda net, x: (lambda y: net.norm(torch.cat((y, y), 1)))(net.a(x))),
    "cat of one twice, cut": (0, 0, lambda net, x: (lambda y: torch.cat((y, y, y), 1)[:, :4])(net.a(x))),
    "ReLU of one twice": (0, 0, lambda net, x: (lambda y: F.relu(torch.cat((y, y), 1)))(net.a(x))),
    "cat into another": (0, 1, lambda net, x: cat_into(x.repeat(1, 2, 1, 1), net.a(x), net.b(x))),
    "cat of rows": (1, 1, lambda net, x: F.relu(net.norm(torch.cat((net.c(x), net.c(x)), 2)))),
    "cat of images": (1, 0, lambda net, x: net.norm(torch.cat((net.c(x), net.c(x))))),
    "cat of chunks": (1, 0, lambda net, x: net.norm(torch.cat(net.c(x).chunk(2, 1), 1))),
    "cat, written between": (1, 0, written_between),
    "ghost": (1, 1, ghost),  # of the part that is read as it is
    "cut": (1, 0, lambda net, x: net.norm(torch.cat((net.c(x), net.b(x)), 1)[:, :8])),
    "cut from the middle": (1, 0, lambda net, x: net.norm(torch.cat((net.b(x), net.c(x)), 1)[:, 4:])),
    "shuffle": (0, 0, lambda net, x: F.relu(net.norm(net.shuffle(net.c(x))))),
    "shuffle by name": (0, 0, lambda net, x: F.relu(net.norm(F.channel_shuffle(net.c(x), groups=2)))),
    "shuffled cat": (1, 1, lambda net, x: F.relu(net.norm(F.channel_shuffle(net.pair(x), 2)))),
    "crop": (0, 0, lambda net, x: F.relu(net.norm(net.c(x)[:, :, : x.shape[2] - 1, 1:]))),
    "crop and read": (1, 1, lambda net, x: (lambda y: F.relu(net.norm(y[:, :, 1:])) + y.mean())(net.c(x))),
    "one row": (1, 0, lambda net, x: net.norm(net.c(x)[:, :, None, 1])),
    "some images": (1, 0, lambda net, x: net.norm(net.c(x)[1:])),
    "deconvolution": (0, 1, lambda net, x: F.relu(net.norm(net.up(x)))),
    "deconvolution with bias": (0, 0, lambda net, x: net.norm(net.up_biased(x)[:, :, 2:])),
    "deconvolution, read": (1, 0, lambda net, x: (lambda y: net.norm(y) + y)(net.up(x))),
    "deconvolution, twice": (1, 0, lambda net, x: net.norm(net.up(x)) + net.up(x)),
    "deconvolution's weight": (1, 0, lambda net, x: net.norm(net.up(x)) + net.up.weight.mean()),
    "subdivided": (0, 0, lambda net, x: F.relu(net.norm(net.subdivided(x)))),
    "subdivided with bias": (0, 0, lambda net, x: net.plain_norm(net.subdivided_3x3(x))),
    "shuffled subdivided": (0, 0, lambda net, x: net.norm(net.shuffle(net.subdivided(x)))),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    norms, relus, run = FORMS[form]
    deployed = agrees(Parts(run))
    assert sum(type(module) is nn.BatchNorm2d for module in deployed.modules()) == norms
    assert sum("relu" in str(node.target) for node in deployed.graph.nodes) == relus


def test_a_norm_that_needs_the_whole_batch_stays() -> None:
    net = Parts(lambda net, x: net.norm(net.pair(x)))
    net.norm = nn.BatchNorm2d(8, track_running_stats=False)
    assert isinstance(agrees(net).get_submodule("norm"), nn.BatchNorm2d)


def test_hooks_of_what_moves_others_still_act() -> None:
    net = Parts(lambda net, x: net.norm(net.shuffle(net.c(x))))
    net.shuffle.register_forward_hook(lambda _, given, out: out.flip(1))
    agrees(net)


def test_the_network_itself_keeps_its_norms() -> None:
    net = Parts(lambda net, x: net.norm(net.subdivided(x)) + net.plain_norm(net.up(x)[:, :, :8, :8]))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    deploy(net)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
