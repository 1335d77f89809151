"""Any network of timm or torchvision by its name, fitted to the data."""

from difflib import get_close_matches
from functools import partial
from typing import Any, Literal

import timm
import torch
import torchvision
from timm.models import PretrainedCfg
from torch import nn
from torch.overrides import TorchFunctionMode

from .fit import first_conv, fitted
from .trained import give_weights


def library_network(
    num_classes: int = 1000,
    input_size: int = 224,
    in_channels: int = 3,
    *,
    name: str,
    library: Literal["timm", "torchvision"] = "timm",
    output_stride: int | None = None,
    pretrained: bool = False,
) -> nn.Module:
    """`name` of `library` for images (N, in_channels, input_size, input_size), untrained unless `pretrained`.

    What depends on the input size (position embeddings, windows) is made for `input_size`. For inputs of at most 64 px
    a stem of stride 2 to 4 is replaced by a 3x3 convolution of stride 1 without pooling where the network takes that,
    and the log says so. A size that the network cannot take, or that leaves less than 2 x 2 before the last pooling, is
    refused with one that works. `output_stride` (timm only) 16 or 8 dilates the last one or two stages instead of
    striding them. With `pretrained` it has the library's own weights (trained.py), but for what is of another shape.
    """
    if library == "timm":
        _require_known(name, timm.list_models(name_matches_cfg=True), "timm")  # all but what registry.py adds
        make = partial(_from_timm, name, num_classes, in_channels, output_stride)
        load = partial(_from_timm, name, None, in_channels, output_stride, input_size)
        own_size = _config(name).input_size[-1]
        if pretrained and not _config(name).has_weights:  # all of torchvision's have some
            raise ValueError(f"pretrained=true: timm has no trained weights of {name}; leave out pretrained")
    elif output_stride:
        raise ValueError(f"output_stride={output_stride}: only timm's networks take one; nearest: null")
    else:
        _require_known(name, torchvision.models.list_models(module=torchvision.models), "torchvision")
        make = partial(_from_torchvision, name, num_classes, in_channels)
        load = partial(torchvision.models.get_model, name, weights="DEFAULT")
        own_size = 224
    net = fitted(make, name, (in_channels, input_size, input_size), num_classes, own_size)
    if pretrained:
        give_weights(net, f"{library}'s {name}", load)
    return net


def _require_known(name: str, known: list[str], library: str) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=4) or known[:4]
        raise ValueError(f"{library} has no network {name!r}; near it: {', '.join(near)}")


def _config(name: str) -> PretrainedCfg:
    config = timm.get_pretrained_cfg(name)
    assert config  # so has every network of timm's own
    return config


def _from_timm(
    name: str, num_classes: int | None, in_channels: int, output_stride: int | None, input_size: int
) -> nn.Module:
    """With as many classes as its trained weights have, and with these, where `num_classes` is None."""
    extra: dict[str, Any] = {"output_stride": output_stride} if output_stride else {}
    if _config(name).fixed_input_size:  # so timm says that it takes this argument
        extra["img_size"] = input_size
    return timm.create_model(name, num_classes is None, num_classes=num_classes, in_chans=in_channels, **extra)


def _from_torchvision(name: str, num_classes: int, in_channels: int, input_size: int) -> nn.Module:
    extra: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):  # which warn unless told
        extra = {"init_weights": False, "aux_logits": False}
    elif name.startswith("vit_"):
        extra = {"image_size": input_size}
    elif name == "maxvit_t":
        extra = {"input_size": (input_size, input_size)}
    with _NumbersOnCPU():
        net = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **extra)
    stem_name, stem = first_conv(net)
    if stem.in_channels != in_channels:
        net.set_submodule(stem_name, _like(stem, in_channels=in_channels))
    return net


class _NumbersOnCPU(TorchFunctionMode):
    """torchvision's RegNets compute their widths with tensors and read them, which the meta device cannot."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        device = {"device": "cpu"} if func in (torch.arange, torch.tensor) else {}
        return func(*args, **device | (kwargs or {}))


def _like(conv: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )
