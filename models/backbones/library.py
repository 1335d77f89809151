"""Any network of timm or torchvision by its name, fitted to the data."""

import logging
from difflib import get_close_matches
from typing import Any, Literal

import timm
import torchvision
from torch import nn

from models.backbones import SMALL_INPUT
from models.meta import run_on_meta

log = logging.getLogger(__name__)


def library_network(
    num_classes: int = 1000,
    input_size: int = 224,
    in_channels: int = 3,
    *,
    name: str,
    library: Literal["timm", "torchvision"] = "timm",
    output_stride: int | None = None,
) -> nn.Module:
    """`name` of `library`, untrained, for images (N, in_channels, input_size, input_size).

    For inputs of at most 64 px a stem that subsamples is replaced by a 3x3 convolution of stride 1
    without pooling, and the log says so; what then has less than 2 x 2 before the last pooling is refused.
    `output_stride` (timm only) 16 or 8 dilates the last one or two stages instead of striding them.
    """
    if library == "timm":
        net = _from_timm(name, num_classes, in_channels, output_stride)
    elif output_stride:
        raise ValueError(f"output_stride={output_stride}: only timm's networks take one; nearest: null")
    else:
        net = _from_torchvision(name, num_classes, in_channels)
    if input_size <= SMALL_INPUT:
        _small_stem(net, name, input_size)
        _require_room(net, name, input_size, in_channels)
    return net


def _from_timm(name: str, num_classes: int, in_channels: int, output_stride: int | None) -> nn.Module:
    _require_known(name, timm.list_models(), "timm")
    extra: dict[str, Any] = {"output_stride": output_stride} if output_stride else {}
    return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_channels, **extra)


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


def _require_room(net: nn.Module, name: str, input_size: int, in_channels: int) -> None:
    if _last_map(net, input_size, in_channels) >= 2:
        return
    larger = range(input_size + 1, SMALL_INPUT + 1)
    nearest = next((size for size in larger if _last_map(net, size, in_channels) >= 2), 224)
    raise ValueError(f"input_size={input_size}: {name} must have 2 x 2 before its last pooling; nearest: {nearest}")


def _last_map(net: nn.Module, input_size: int, in_channels: int) -> int:
    """How wide the last convolution larger than 1x1 leaves its map; 0 where the network cannot run."""
    widths = [0]
    spatial = [module for module in net.modules() if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1]
    hooks = [conv.register_forward_hook(lambda _, args, out: widths.append(out.shape[-1])) for conv in spatial]
    try:
        run_on_meta(net, (1, in_channels, input_size, input_size))
    except (AssertionError, RuntimeError):  # of the libraries, whose networks need not take every size
        return 0
    finally:
        for hook in hooks:
            hook.remove()
    return widths[-1]
