"""Real JPEGs for benchmarks and tests: random parts of the photographs that scikit-learn and scikit-image ship."""

import random
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images
from tqdm import trange

SHIPPED = ("astronaut", "chelsea", "coffee", "rocket")  # the colour photographs in scikit-image's wheel
SIZE = (500, 375)  # pixels; about the average of ImageNet


def write_photographs(root: Path, num_train: int, num_val: int, size: tuple[int, int] = SIZE) -> None:
    """Fill `root`/train and `root`/val with so many JPEGs of `size`, one class a photograph, the same ones always."""
    scenes = _scenes()
    draw = random.Random(0)
    for part, number in (("train", num_train), ("val", num_val)):
        for count in trange(number, desc=f"photographs for {part}", disable=None):
            name, picture = scenes[count % len(scenes)]
            folder = root / part / name
            folder.mkdir(parents=True, exist_ok=True)
            _part(picture, size, draw).save(folder / f"{count:06}.jpg", quality=90)


def _scenes() -> list[tuple[str, Image.Image]]:
    try:
        from skimage import data
    except ImportError as error:
        raise ValueError("the photographs need scikit-image: pip install scikit-image") from error
    samples = load_sample_images()
    arrays = dict(zip(("china", "flower"), samples.images, strict=True))
    arrays |= {name: getattr(data, name)() for name in SHIPPED}
    return [(name, Image.fromarray(array)) for name, array in sorted(arrays.items())]


def _part(picture: Image.Image, size: tuple[int, int], draw: random.Random) -> Image.Image:
    """A random part, at least 0.6 of what fits, of the shape of `size`."""
    shrink = min(picture.width / size[0], picture.height / size[1]) * draw.uniform(0.6, 1)
    width, height = size[0] * shrink, size[1] * shrink
    left, top = draw.uniform(0, picture.width - width), draw.uniform(0, picture.height - height)
    return picture.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
