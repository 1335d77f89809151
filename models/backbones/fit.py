"""Fit a network that was made for large images to the size of the data, or say what size it would take."""

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..meta import run_on_meta
from ..watch import watched
from . import SMALL_INPUT

log = logging.getLogger(__name__)
Make = Callable[[int], nn.Module]  # makes a network for an input size
Shape = tuple[int, int, int]


class _UnfitError(Exception):
    """Why a network does not take an input, in one line."""


def fitted(make: Make, name: str, image: Shape, num_classes: int, own_size: int) -> nn.Module:
    """`make(size)` for images of (C, size, size); up to SMALL_INPUT its stem becomes small, if the network takes that.

    Raises ValueError where it cannot run, does not return logits (1, num_classes) or leaves less than 2 x 2 before
    its last pooling, with the nearest size that works on the way to `own_size`, that it was made for.
    """
    channels, size, _ = image
    try:
        net, stem = _try(make, image, num_classes)
    except _UnfitError as reason:
        why_not = partial(_why_not, make, channels, num_classes)
        if at_own := str(reason) if size == own_size else why_not(own_size):
            raise ValueError(f"{name}, at its own input_size={own_size}, {at_own}; choose another network") from reason
        nearest = _nearest(why_not, size, own_size)
        raise ValueError(f"input_size={size}: {name} {reason}; nearest: {nearest}") from reason
    if stem:
        log.info(f"{name} at {size} px: {stem}")
    return net


def first_conv(net: nn.Module) -> tuple[str, nn.Conv2d]:
    """The first nn.Conv2d registered, and its name."""
    return next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))


def _nearest(why_not: Callable[[int], str], size: int, own_size: int) -> int:
    """The first size that works on the way from `size`, which does not, to `own_size`, which does.

    Multiples of 32 first, which many networks demand, then finer ones between the last that failed and the first that
    worked: the very nearest where all sizes beyond some least one work.
    """
    sign = 1 if size < own_size else -1
    fails, works = size, own_size
    for step in (32, 16, 8, 4, 2, 1):
        start = (fails // step + 1) * step if sign > 0 else (fails - 1) // step * step
        for candidate in range(start, works, sign * step):
            if not why_not(candidate):
                works = candidate
                break
            fails = candidate
    return works


def _why_not(make: Make, channels: int, num_classes: int, size: int) -> str:
    """Why there is no such network for images of `size`; "" where there is."""
    try:
        with torch.device("meta"):
            _try(make, (channels, size, size), num_classes)
    except _UnfitError as reason:
        return str(reason)
    return ""


def _try(make: Make, image: Shape, num_classes: int) -> tuple[nn.Module, str]:
    """The network and what became of its stem ("" where nothing did); _UnfitError where it does not take `image`."""
    try:
        net = make(image[1])
    except Exception as error:  # the libraries' networks raise what they like
        raise _UnfitError(f"cannot be made ({_one_line(error)})") from error
    replaced, stem = _small_stem(net) if image[1] <= SMALL_INPUT else ({}, "")
    try:
        _require_fit(net, image, num_classes)
    except _UnfitError:
        if not replaced:
            raise
        for name, module in replaced.items():
            net.set_submodule(name, module)
        stem = ""
        _require_fit(net, image, num_classes)
    return net, stem


def _require_fit(net: nn.Module, image: Shape, num_classes: int) -> None:
    widths: dict[type, int] = {}  # width of the last map that each kind of module saw

    def see(name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):  # a kernel as large as the map makes a linear layer (timm's VGG)
            unpadded = module.padding == (0, 0) and module.stride == (1, 1)
            is_linear = unpadded and module.kernel_size == inputs[0].shape[2:]
            widths[nn.Conv2d] = (inputs[0] if is_linear else output).shape[-1]
        else:
            widths[nn.BatchNorm2d] = output.shape[-1]

    try:
        with watched({name: module for name, module in net.named_modules() if _sees_maps(module)}, after=see):
            logits = run_on_meta(net, (1, *image))
    except Exception as error:
        raise _UnfitError(f"does not run on it ({_one_line(error)})") from error
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (1, num_classes):
        kind = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise _UnfitError(f"returns {kind}, not logits of {(1, num_classes)}")
    if widths and max(widths.values()) < 2:  # either kind may come last in a side branch, on a pooled map
        raise _UnfitError("must have 2 x 2 before its last pooling")


def _sees_maps(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) or (isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1)


def _one_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return type(error).__name__ + (f": {text[0]}" if text else "")


def _small_stem(net: nn.Module) -> tuple[dict[str, nn.Module], str]:
    """Replace a stem that subsamples by a 3x3 convolution of stride 1; what was replaced, and that in words.

    A stride above 4 cuts the image into patches, whose number sets what the rest of the network costs.
    """
    if not any(isinstance(module, nn.Conv2d) for module in net.modules()):
        return {}, ""
    stem_name, stem = first_conv(net)
    if tuple(stem.stride) == (1, 1) or max(stem.stride) > 4:
        return {}, ""
    small = nn.Conv2d(stem.in_channels, stem.out_channels, 3, padding=1, bias=stem.bias is not None)
    replaced: dict[str, nn.Module] = {stem_name: stem}
    net.set_submodule(stem_name, small)
    if pool_name := _stem_pool(net):
        replaced[pool_name] = net.get_submodule(pool_name)
        net.set_submodule(pool_name, nn.Identity())
    kernel, stride = stem.kernel_size[0], stem.stride[0]
    without = " and its pooling is left out" if pool_name else ""
    return replaced, f"the {kernel}x{kernel} stride-{stride} stem becomes 3x3 stride-1{without}"


def _stem_pool(net: nn.Module) -> str:
    """The pooling registered right after the stem, which has at most three convolutions; "" if none."""
    convs = 0
    for name, module in net.named_modules():
        convs += isinstance(module, nn.Conv2d)
        if isinstance(module, nn.MaxPool2d):
            return name if convs <= 3 else ""
    return ""
