"""One import that makes our networks known to timm: `import cheapconv.registry`, here `import models.registry`.

After it timm.create_model makes every preset by its name, as `resnet50_sic`, but those whose names timm's own networks
have; and it opens the folders that scripts/export.py writes with format=hub, whose architecture is FOLDERS.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from timm.models import FeatureHookNet, PretrainedCfg, build_model_with_cfg, is_model, register_model
from torch import nn

from .build import Input, build, paper_input
from .load import model_parts
from .presets import preset, preset_names
from .timm_network import TimmNetwork

FOLDERS = "cheapconv"  # any network that a configuration describes
ALL_LEVELS = (0, 1, 2, 3, 4)  # the maps that timm asks for where its user names none


def create(
    name: str,
    describe: Callable[[], Mapping[str, Any]] | None = None,
    *,
    pretrained: bool = False,
    pretrained_cfg: str | Mapping[str, Any] | PretrainedCfg | None = None,
    model: Mapping[str, Any] | None = None,
    input: Mapping[str, int] | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    drop_rate: float = 0.0,
    **options: Any,
) -> nn.Module:
    """The network that `describe()` or, without it, `model` describes: what timm.create_model(`name`) returns.

    It is built for `input` (num_classes, size, channels), and then given the classes and channels that are asked for:
    so a budget is met as it was when the weights were trained. Without an `input` it is built for what is asked for,
    and else for the images of its paper. `options` are those of timm's build_model_with_cfg.
    """
    description = describe() if describe else model
    if not isinstance(description, Mapping):
        raise ValueError(f"{name} needs a description: model={{backbone: ..., layer: ..., scope: ...}}")
    if isinstance(pretrained_cfg, str):
        raise ValueError(f"{name}.{pretrained_cfg}: our presets come without weights; leave out .{pretrained_cfg}")
    if drop_rate:
        raise ValueError(f"drop_rate={drop_rate}: what our networks drop is part of them; leave it out")
    parts = model_parts({"model": description}, name)
    own = _built_for(paper_input(parts["backbone"]), input, num_classes, in_chans, _side(img_size))
    net = TimmNetwork(build(**parts, input=own).net, own)
    config = _pretrained_cfg(name, net, own, pretrained_cfg)
    if in_chans not in (None, own.channels):
        net.reset_channels(in_chans)
    if num_classes not in (None, own.num_classes):
        net.reset_classifier(num_classes)
    numbers, features = {"num_classes": net.num_classes, "in_chans": net.in_chans}, {"feature_cls": _maps}
    return build_model_with_cfg(
        partial(_itself, net), name, pretrained, pretrained_cfg=config, feature_cfg=features, **numbers, **options
    )


def _itself(net: nn.Module, num_classes: int, in_chans: int) -> nn.Module:
    """`net`, which has these numbers already; TypeError for whatever else timm hands on."""
    return net


def _built_for(
    paper: Input, given: Mapping[str, int] | None, num_classes: int | None, in_chans: int | None, size: int | None
) -> Input:
    if given:
        own = Input(**given)
    else:
        own = replace(paper, num_classes=num_classes or paper.num_classes, channels=in_chans or paper.channels)
    return replace(own, size=size or own.size)


def _side(img_size: int | tuple[int, int] | None) -> int | None:
    if img_size is None or isinstance(img_size, int):
        return img_size
    height, width = img_size
    if height != width:
        raise ValueError(f"img_size={img_size}: our networks are built for square images; nearest: {min(img_size)}")
    return height


def _pretrained_cfg(
    name: str, net: TimmNetwork, own: Input, given: Mapping[str, Any] | PretrainedCfg | None
) -> dict[str, Any]:
    """What timm needs to fit weights that were trained for `own` to other classes and channels; `given` wins."""
    known = {
        "architecture": name,
        "input_size": own.shape,
        "num_classes": own.num_classes,
        "interpolation": "bilinear",
        "first_conv": f"net.{net.stem_name}" if net.stem_name else None,
        "classifier": f"net.{net.classifier_name}" if net.classifier_name else None,
    }
    return known | (given.to_dict() if isinstance(given, PretrainedCfg) else dict(given or {}))


def _maps(net: TimmNetwork, out_indices: tuple[int, ...]) -> nn.Module:
    """What features_only=True makes: the maps of `net`, all of them where its user does not choose."""
    chosen = tuple(range(len(net.feature_info))) if out_indices == ALL_LEVELS else out_indices
    return FeatureHookNet(net, out_indices=chosen, no_rewrite=True)


def _register(name: str, describe: Callable[[], Mapping[str, Any]] | None = None) -> None:
    def entry(**given: Any) -> nn.Module:
        return create(name, describe, **given)

    entry.__name__ = name
    register_model(entry)


if not is_model(FOLDERS):
    _register(FOLDERS)
for _name in preset_names():
    if not is_model(_name):
        _register(_name, partial(preset, _name))
