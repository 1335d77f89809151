"""A small network with any forward pass, and the check that it is the same deployed."""

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.inference.deploy import deploy


class Net(nn.Module):
    """Two convolutions with BatchNorm, and a forward pass to try."""

    def __init__(self, run: Callable[["Net", Tensor], Tensor], layer: type[nn.Module] = nn.Conv2d) -> None:
        super().__init__()
        self.run = run
        self.stem, self.a, self.b = (layer(4, 4, 3, padding=1, bias=False) for _ in range(3))
        self.norm_a, self.norm_b = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.relu_, self.relu6 = nn.ReLU(inplace=True), nn.ReLU6()
        self.drop, self.same = nn.Dropout(0.5), nn.Identity()
        for norm in (self.norm_a, self.norm_b):
            nn.init.uniform_(norm.running_mean, -1, 1)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.uniform_(norm.weight, -1, 1)
            nn.init.uniform_(norm.bias, -1, 1)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, self.stem(x))


def plain(num_classes: int, input_size: int, in_channels: int) -> nn.Module:
    """As in VGG: convolution, BatchNorm and ReLU in a row, and pooling."""
    net = nn.Sequential()
    for inputs, outputs in ((in_channels, 16), (16, 16), (16, 32)):
        net.extend([nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)])
        net.append(nn.MaxPool2d(2))
    return net.extend([nn.Flatten(), nn.Linear(32 * (input_size // 8) ** 2, num_classes)])


def randomise(net: nn.Module) -> None:
    """The statistics, the weight and the bias of every BatchNorm."""
    for module in net.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
        if isinstance(module, _BatchNorm) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)


def live_in(net: nn.Module, images: Tensor) -> nn.Module:
    """`net` in evaluation, its BatchNorms with weights and biases of their own and the statistics of `images`."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1.0
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.3)
    with torch.no_grad():
        net.train()(images)
    return net.eval()


def assert_same(got: Tensor, expected: Tensor, rounding: float = 2e-5) -> None:
    largest = expected.abs().max().item() if expected.numel() else 0
    torch.testing.assert_close(got, expected, rtol=0, atol=rounding * largest)


def agrees(net: nn.Module, x: Tensor | None = None) -> fx.GraphModule:
    x = torch.randn(2, 4, 8, 8, dtype=torch.double) if x is None else x
    net = net.double().to(memory_format=torch.channels_last)  # whether a view shares memory depends on it
    deployed = deploy(net)
    with torch.no_grad():
        given = [x.clone() for _ in range(3)]
        expected = net(given[0])
        for mine in given[1:]:
            torch.testing.assert_close(deployed(mine), expected, rtol=1e-10, atol=1e-10)
            assert torch.equal(mine, given[0])  # what it does to its input too
    return deployed
