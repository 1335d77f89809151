"""How an image becomes the input of a network: what a run's data set did, and whoever uses its network must do."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Preprocessing:
    """From an image of any size to the input (channels, size, size) of a network, in this order.

    1. A black border around it, on each side the share `border` of the image's own height and width.
    2. It is scaled, bilinear and antialiased: the whole image to size x size, whatever its shape; or, where there is a
       `centre_crop` (and then no border), until its shorter side has int(size / centre_crop) pixels, of which the
       central size x size are cut out.
    3. (pixel / 255 - mean) / std, with one `mean` and one `std` for each channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    border: float
    centre_crop: float | None


def preprocessing_of(node: Any, channels: int, source: str) -> Preprocessing:
    """What a plain mapping, read from `source`, says; ValueError where it is no Preprocessing for so many channels."""
    names = {field.name for field in fields(Preprocessing)}
    if not isinstance(node, Mapping) or node.keys() != names:
        raise ValueError(f"{source}: the preprocessing of images must have {', '.join(sorted(names))} and nothing else")
    for name in ("mean", "std"):
        values = node[name]
        is_fit = isinstance(values, list | tuple) and len(values) == channels and all(map(_is_number, values))
        if not is_fit or (name == "std" and min(values) <= 0):
            raise ValueError(f"{source}: {name} of the preprocessing must be {channels} numbers, std's above 0")
    border, crop = node["border"], node["centre_crop"]
    if not (_is_number(border) and 0 <= border <= 1):
        raise ValueError(f"{source}: border of the preprocessing must be a share from 0 to 1 of the image's side")
    if crop is not None and not (_is_number(crop) and 0 < crop <= 1):
        raise ValueError(f"{source}: centre_crop of the preprocessing must be a share from 0 to 1, or null")
    if border and crop:
        raise ValueError(f"{source}: border and centre_crop of the preprocessing exclude each other")
    return Preprocessing(tuple(map(float, node["mean"])), tuple(map(float, node["std"])), border, crop)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
