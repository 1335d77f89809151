"""Approximate one convolution by others: the linear algebra behind the layers' starts from a trained one."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .geometry import ConvGeometry

MOST_INPUTS = 2**25  # a fit uses at most so many values of its windows, which bounds its memory
RIDGE = 1e-2  # how strongly a fit keeps the present filters, relative to the mean variance of what they see


@torch.no_grad()
def set_filters(module: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    """Give `module` the filters `weight` (n, m, k, l) and `bias` (n), as far as it can hold them.

    `module` is an nn.Conv2d or a layer with `init_from_conv`. Where its groups divide those of the filters, it takes
    what lies within its own connections, which is the nearest that it can be.
    """
    if not isinstance(module, nn.Conv2d):
        module.init_from_conv(weight, bias)  # pyright: ignore[reportCallIssue]
        return
    groups, inputs = module.groups, module.weight.shape[1]
    parts = weight.unflatten(0, (groups, -1)).unflatten(2, (-1, inputs))  # groups, n / groups, parts of m, inputs, k, l
    own = torch.arange(groups, device=weight.device)
    module.weight.copy_(parts[own, :, own % parts.shape[2]].flatten(0, 1))
    if module.bias is not None:
        module.bias.zero_() if bias is None else module.bias.copy_(bias)


def channel_bases(weight: Tensor, groups: int, number: int) -> tuple[Tensor, Tensor]:
    """Kernels (inputs, number, k, l) and their coefficients (n, m, number): the nearest to `weight` (n, m, k, l).

    The truncated SVD of each input channel's slice, its outputs x k l: of all filters that are sums of `number`
    kernels a channel none is nearer (Eckart, Young 1936). Kernels have length 1; those beyond the rank are zero.
    """
    slices = weight.double().unflatten(0, (groups, -1)).transpose(1, 2).flatten(3).flatten(0, 1)  # inputs, n / g, k l
    u, s, v = torch.linalg.svd(slices, full_matrices=False)
    spare = max(0, number - len(s[0]))
    kernels = F.pad(v[:, :number], (0, 0, 0, spare))
    coefficients = F.pad((u * s[:, None])[:, :, :number], (0, spare))  # inputs, n / groups, number
    coefficients = coefficients.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    shape = (len(slices), number, *weight.shape[2:])
    return kernels.reshape(shape).to(weight.dtype), coefficients.to(weight.dtype)


def both_signs(directions: Tensor, width: int) -> Tensor:
    """The first of `directions` (number, size), each with its negative beside it: (width, size).

    A ReLU then loses nothing: relu(z) - relu(-z) is z. An odd last row has no negative; those that remain are zero.
    """
    pairs = torch.stack((directions, -directions), 1).flatten(0, 1)[:width]
    return F.pad(pairs, (0, 0, 0, width - len(pairs)))


@torch.no_grad()
def fit(module: nn.Module, x: Tensor, y: Tensor) -> None:
    """Bring `module` (x) nearer to `y` (N, n, H', W') by least squares; an nn.Conv2d, or a layer with `fit_to`."""
    if isinstance(module, nn.Conv2d):
        fit_filters(module.weight, module.bias, ConvGeometry.of(module), x, y)
    else:
        module.fit_to(x, y)  # pyright: ignore[reportCallIssue]


@torch.no_grad()
def fit_filters(weight: Tensor, bias: Tensor | None, geometry: ConvGeometry, x: Tensor, y: Tensor) -> None:
    """Change the filters `weight` in place, so that their convolution of `x` comes nearest to `y` (N, n, H', W').

    Ridge regression on what the present filters leave over: where x says nothing they stay. Everything is taken around
    its channel's mean; the means are the bias's, or those of a BatchNorm that follows. Of `geometry`, the groups and
    where the windows lie are used. Where the windows have more than MOST_INPUTS values, the first images are used.
    """
    g = geometry
    an_image = x.shape[1] * math.prod(g.kernel_size) * math.prod(y.shape[2:])
    x, y = (images[: max(1, MOST_INPUTS // an_image)].double() for images in (x, y))
    windows = F.unfold(x, g.kernel_size, g.dilation, g.padding, g.stride)  # N, m k l, H' W'
    seen, wanted = (
        each.flatten(2).transpose(0, 1).reshape(g.groups, -1, len(x) * each.flatten(2).shape[2])
        for each in (windows, y)
    )
    means = [each.mean(2, keepdim=True) for each in (seen, wanted)]
    seen, wanted = seen - means[0], wanted - means[1]
    present = weight.double().reshape(g.groups, -1, seen.shape[1])
    gram = seen @ seen.mT
    ridge = RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    gram.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
    # Not linalg.solve: of several matrices at once, MKL's LU with threads takes minutes, or does not end.
    change = torch.cholesky_solve(seen @ (wanted - present @ seen).mT, torch.linalg.cholesky(gram))
    fitted = present + change.mT
    weight.copy_(fitted.reshape(weight.shape))
    if bias is not None:
        bias.copy_((means[1] - fitted @ means[0]).flatten())


@torch.no_grad()
def pass_through(norm: nn.Module, x: Tensor) -> Tensor:
    """`x`, of which a BatchNorm gets the statistics, and the scale and shift that undo them: then it is norm(x)."""
    if isinstance(norm, nn.BatchNorm2d):
        set_statistics(norm, x)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(norm.running_mean)
    return x


def set_statistics(norm: nn.Module, x: Tensor) -> None:
    """Give a BatchNorm the mean and the variance of `x` (N, C, H, W) as its running statistics."""
    if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
