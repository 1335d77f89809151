"""Decode one image, cut a region out of it and scale that: from a file's bytes to a uint8 tensor."""

import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.io import ImageReadMode, decode_jpeg, decode_webp

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # PIL knows more, some of which start other programs
LARGE = 2**18  # bytes; of smaller files PIL takes longer to decode less than torchvision to decode all
HUGE = 2**24  # pixels; larger images are scaled down by PIL, which needs no copy of them
MEMORY = 300_000_000  # bytes that decoding may take: with what torch itself takes, a process stays within 1 GB
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MEMORY is the closer bound
Box = tuple[float, float, float, float]  # top, left, height, width


class Region(NamedTuple):
    """A `box` of an image and the `size` (height, width) to scale it to.

    It is cut out first, as torchvision's random crops are, so that nothing around it counts. Not so a `window`:
    it is what one sees of the scaled image there, and may have fractions of pixels.
    """

    box: Box
    size: tuple[int, int]
    window: bool = False


Choose = Callable[[int, int], Region]


class BadImageError(ValueError):
    """The bytes are no image that can be decoded; the message says why."""


def decode_region(data: bytes, choose: Choose, *, most_shrink: int = 1) -> Tensor:
    """The region of an image that `choose` names, scaled (bilinear, antialiased), as RGB.

    `choose` maps the image's (height, width) to a Region. A JPEG is decoded up to `most_shrink` times smaller where
    the box allows (and any other image of more than HUGE pixels is averaged): fast, and a pixel of the box off.
    Images that take more than MEMORY to decode are refused by their headers. Returns uint8 (3, height, width) whose
    memory runs H, W, C. Orientation tags are ignored and the first frame is taken, as torchvision's folders and
    timm do, with which networks' published accuracies were measured.
    """
    try:
        picture = _open(data)
        region = choose(picture.height, picture.width)
        if region.window:
            return _scaled_window(picture, region)
        small = picture.height * picture.width <= HUGE and (most_shrink == 1 or len(data) < LARGE)
        image = _decode_jpeg(data, region.box) if small and picture.format in ("JPEG", "MPO") else None
        if image is None:
            image = _cut(picture, region, most_shrink)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise BadImageError(str(error)) from error
    # Laid out as H, W, C, the region is scaled twice as fast.
    image = image[None].contiguous(memory_format=torch.channels_last)
    return interpolate(image, region.size, mode="bilinear", antialias=True)[0]


def _open(data: bytes) -> Image.Image:
    """The image, of which PIL has read the header alone; ValueError where decoding it would take too much memory."""
    try:
        picture: Any = Image.open(BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"cannot identify image file: none of {', '.join(FORMATS)}") from error
    still_webp = picture.format == "WEBP" and not picture.is_animated
    memory = picture.width * picture.height * _bytes_a_pixel(picture, data, still_webp)
    if memory > MEMORY:
        raise ValueError(
            f"{picture.width:,} x {picture.height:,} pixels of this {picture.format} take {memory / 1e6:,.0f} MB to "
            f"decode, more than {MEMORY / 1e6:,.0f}; scale it down (a shorter side of 256 to 400 pixels is usual)"
        )
    if still_webp:  # PIL's decoder, made for animations, takes ten times as long and three times the memory
        del picture  # with its canvases, 8 bytes a pixel
        try:
            return Image.fromarray(decode_webp(_tensor(data), ImageReadMode.RGB).permute(1, 2, 0).numpy())
        except RuntimeError as error:
            raise ValueError("broken WebP") from error
    return picture


def _bytes_a_pixel(picture: Any, data: bytes, still_webp: bool) -> float:
    """At most, while the image is decoded; PIL keeps RGB in 4 bytes and makes a copy of what is not RGB."""
    if picture.format == "WEBP":
        return 8 if still_webp else 22
    taken = 4 if picture.mode == "RGB" else 8
    if picture.format in ("JPEG", "MPO"):
        first_scan = data.rfind(b"\xff\xda", 0, picture.fp.tell())
        if picture.info.get("progressive") or data[first_scan + 4] < picture.layers:
            # Several scans: libjpeg keeps the coefficients of all components, 2 bytes each.
            samples = [across * down for _, across, down, _ in picture.layer]
            taken += 2 * sum(samples) / max(1, *samples)
    return taken


def _decode_jpeg(data: bytes, box: Box) -> Tensor | None:
    """The box of a JPEG (3, height, width) by torchvision, faster than PIL into a tensor; None where it refuses.

    Not of PNGs: torchvision's decoder crashes on corrupt ones, where PIL raises an error.
    """
    try:
        image = decode_jpeg(_tensor(data), ImageReadMode.RGB)
    except RuntimeError:
        return None
    assert isinstance(image, Tensor)
    top, left, rows, columns = map(int, box)
    return image[:, top : top + rows, left : left + columns]


def _tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _cut(picture: Image.Image, region: Region, most_shrink: int) -> Tensor:
    """The box by PIL, shrunk where it may be: (3, height / shrink, width / shrink), rounded up."""
    top, left, rows, columns = map(int, region.box)
    edges = (left, top, left + columns, top + rows)
    shrink = _shrink(region, most_shrink)
    if picture.format in ("JPEG", "MPO"):
        picture.draft("RGB", (picture.width // shrink, picture.height // shrink))
        outwards = (left // shrink, top // shrink, -(-edges[2] // shrink), -(-edges[3] // shrink))
        cut = _rgb(picture).crop(outwards)
    elif picture.width * picture.height > HUGE:
        cut = _rgb(picture).reduce(shrink, edges)
    else:
        cut = _rgb(picture).crop(edges)
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1)


def _shrink(region: Region, most: int) -> int:
    """How many times smaller an image can be decoded with the box still as large as what it becomes."""
    spare = min(region.box[2] / region.size[0], region.box[3] / region.size[1])
    return max(factor for factor in (1, 2, 4, 8) if factor <= max(1, min(spare, most)))


def _scaled_window(picture: Image.Image, region: Region) -> Tensor:
    """The window by PIL, which computes nothing else of the scaled image: (3, height, width)."""
    top, left, rows, columns = region.box
    height, width = region.size
    edges = (left, top, left + columns, top + rows)
    seen = _rgb(picture).resize((width, height), Image.Resampling.BILINEAR, edges)
    return torch.from_numpy(np.array(seen)).permute(2, 0, 1)


def _rgb(picture: Image.Image) -> Image.Image:
    """Decoded; 16-bit images lose their lower 8 bits (PIL would clip the upper ones)."""
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 or 16 bits a channel")
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture if picture.mode == "RGB" else picture.convert("RGB")
