"""Any network of timm or torchvision by its name, fitted to the data."""

import logging
from difflib import get_close_matches
from typing import Literal

import timm
import torchvision
from torch import nn

log = logging.getLogger(__name__)

SMALL_INPUT = 64  # px; up to here a stem that subsamples costs more accuracy than it saves time


def library_network(
    num_classes: int = 1000,
    input_size: int = 224,
    in_channels: int = 3,
    *,
    name: str,
    library: Literal["timm", "torchvision"] = "timm",
) -> nn.Module:
    """`name` of `library`, untrained, for images (N, in_channels, input_size, input_size).

    For inputs of at most 64 px a stem that subsamples is replaced by a 3x3 convolution of stride 1
    without pooling, and the log says so.
    """
    net = (
        _from_timm(name, num_classes, in_channels)
        if library == "timm"
        else _from_torchvision(name, num_classes, in_channels)
    )
    if input_size <= SMALL_INPUT:
        _small_stem(net, name, input_size)
    return net


def _from_timm(name: str, num_classes: int, in_channels: int) -> nn.Module:
    _require_known(name, timm.list_models(), "timm")
    return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_channels)


def _from_torchvision(name: str, num_classes: int, in_channels: int) -> nn.Module:
    _require_known(name, torchvision.models.list_models(module=torchvision.models), "torchvision")
    # googlenet and inception_v3 warn unless told; the others take no such argument.
    extra = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    net = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **extra)
    stem_name, stem = _first_conv(net)
    if stem.in_channels != in_channels:
        net.set_submodule(stem_name, _like(stem, in_channels=in_channels))
    return net


def _require_known(name: str, known: list[str], library: str) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=4) or known[:4]
        raise ValueError(f"{library} has no network {name!r}; near it: {', '.join(near)}")


def _first_conv(net: nn.Module) -> tuple[str, nn.Conv2d]:
    return next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))


def _like(conv: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )


def _small_stem(net: nn.Module, name: str, input_size: int) -> None:
    stem_name, stem = _first_conv(net)
    if tuple(stem.stride) == (1, 1):
        return
    small = nn.Conv2d(stem.in_channels, stem.out_channels, 3, padding=1, bias=stem.bias is not None)
    net.set_submodule(stem_name, small)
    pool_name = _stem_pool(net)
    if pool_name:
        net.set_submodule(pool_name, nn.Identity())
    kernel, stride = stem.kernel_size[0], stem.stride[0]
    log.info(
        f"{name} at {input_size} px: the {kernel}x{kernel} stride-{stride} stem becomes 3x3 stride-1"
        + (" and its pooling is left out" if pool_name else "")
    )


def _stem_pool(net: nn.Module) -> str:
    """The pooling registered right after the stem, which has at most three convolutions; "" if none."""
    convs = 0
    for name, module in net.named_modules():
        convs += isinstance(module, nn.Conv2d)
        if isinstance(module, nn.MaxPool2d):
            return name if convs <= 3 else ""
    return ""
