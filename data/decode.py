"""Decode one image, cut a region out of it and scale that: from a file's bytes to a uint8 tensor."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.io import ImageReadMode, decode_jpeg

JPEG = b"\xff\xd8\xff"
LARGE = 2**18  # bytes; of smaller files opening them twice costs more than decoding less of them saves
Box = tuple[int, int, int, int]  # top, left, height, width
Choose = Callable[[int, int], tuple[Box, tuple[int, int]]]


class BadImageError(ValueError):
    """The bytes are no image that can be decoded; the message says why."""


def decode_region(data: bytes, choose: Choose, *, most_shrink: int = 1) -> Tensor:
    """The region of an image that `choose` names, scaled (bilinear, antialiased), as RGB.

    `choose` maps the image's (height, width) to a box in it and the (height, width) to scale that to. A JPEG is
    decoded up to `most_shrink` times smaller where the box allows: fast, and a pixel of the box off. Returns uint8
    (3, height, width) whose memory runs H, W, C. Orientation tags are ignored and the first frame is taken,
    as torchvision's folders and timm do, with which networks' published accuracies were measured.
    """
    shrink = 1
    try:
        image = _decode_jpeg(data) if most_shrink == 1 or len(data) < LARGE else None
        if image is not None:
            box, size = choose(image.shape[1], image.shape[2])
        else:
            picture = Image.open(BytesIO(data))  # reads the header alone
            box, size = choose(picture.height, picture.width)
            if picture.format in ("JPEG", "MPO"):
                shrink = _shrink(box, size, most_shrink)
                picture.draft("RGB", (picture.width // shrink, picture.height // shrink))
            image = torch.from_numpy(_rgb(picture)).permute(2, 0, 1)  # 3, height / shrink, width / shrink, rounded up
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImageError(str(error)) from error
    top, left, rows, columns = box
    region = image[:, top // shrink : -(-(top + rows) // shrink), left // shrink : -(-(left + columns) // shrink)]
    # Laid out as H, W, C, the region is scaled twice as fast.
    region = region[None].contiguous(memory_format=torch.channels_last)
    return interpolate(region, size, mode="bilinear", antialias=True)[0]


def _decode_jpeg(data: bytes) -> Tensor | None:
    """By torchvision, faster than PIL into a tensor; None of what is no JPEG or what it refuses.

    JPEG only: torchvision's PNG decoder crashes on corrupt files, where PIL raises an error.
    """
    if not data.startswith(JPEG):
        return None
    try:
        image = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    except RuntimeError:
        return None
    assert isinstance(image, Tensor)
    return image


def _shrink(box: Box, size: tuple[int, int], most: int) -> int:
    """How many times smaller an image can be decoded with the box still as large as what it becomes."""
    spare = min(box[2] / size[0], box[3] / size[1])
    return max(factor for factor in (1, 2, 4, 8) if factor <= max(1, min(spare, most)))


def _rgb(picture: Image.Image) -> np.ndarray:
    """(H, W, 3); 16-bit images lose their lower 8 bits (PIL would clip the upper ones)."""
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 or 16 bits a channel")
    if picture.mode.startswith("I"):
        grey = (np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(picture.convert("RGB"))
