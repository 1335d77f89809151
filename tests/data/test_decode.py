"""Decoding and cropping against PIL and torchvision on real photographs, and on files that are not what they say."""

import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import transforms

from data import crops, decode
from data.crops import CentreCrop, TrainingCrops
from data.decode import LARGE, BadImageError, Region, decode_region
from tests.conftest import ROOT

FLOWER = Image.fromarray(load_sample_images().images[1])  # 640 x 427
TRANSPARENT = FLOWER.convert("RGBA")
TRANSPARENT.putalpha(FLOWER.convert("L"))
PLAIN = {"crop_area": [0.08, 1.0], "flip": True, "randaugment": 0, "erasing": 0.0, "mean": [0.485, 0.456, 0.406]}


def encoded(image: Image.Image = FLOWER, kind: str = "JPEG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    """The whole image (H, W, 3) as we read it."""
    return decode_region(data, lambda h, w: Region((0, 0, h, w), (h, w))).permute(1, 2, 0).numpy()


def pil(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


READABLE: dict[str, Callable[[], bytes]] = {
    "jpeg": encoded,
    "progressive": lambda: encoded(progressive=True),
    "grayscale": lambda: encoded(FLOWER.convert("L")),
    "cmyk": lambda: encoded(FLOWER.convert("CMYK")),
    "png": lambda: encoded(kind="PNG"),
    "transparent": lambda: encoded(FLOWER.convert("RGBA"), "PNG"),
    "palette": lambda: encoded(FLOWER.convert("P"), "PNG"),
    "one bit": lambda: encoded(FLOWER.convert("1"), "PNG"),
    "webp": lambda: encoded(kind="WEBP"),
    "transparent webp": lambda: encoded(TRANSPARENT, "WEBP", lossless=True),
    "animated webp": lambda: encoded(kind="WEBP", save_all=True, append_images=[FLOWER.rotate(180)]),
    "bmp": lambda: encoded(kind="BMP"),
    "tiff": lambda: encoded(kind="TIFF"),
    "animated gif": lambda: encoded(kind="GIF", save_all=True, append_images=[FLOWER.rotate(180)]),
}


@pytest.mark.parametrize("kind", READABLE)
def test_what_pil_reads_is_read_alike(kind: str) -> None:
    data = READABLE[kind]()
    assert difference(pixels(data), pil(data)) < 0.5


def test_sixteen_bits_keep_their_upper_eight() -> None:
    grey = np.asarray(FLOWER.convert("L"))
    data = encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG")
    assert np.array_equal(pixels(data)[:, :, 1], grey)


def test_orientation_tags_are_ignored_as_torchvision_does() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert pixels(encoded(exif=exif)).shape == (427, 640, 3)


WEBP = encoded(kind="WEBP", lossless=True)
ANIMATION = READABLE["animated webp"]()
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cannot identify"),
    "text named .jpg": (b"not an image\n" * 20, "cannot identify"),
    "truncated": (encoded()[: len(encoded()) // 2], "truncated"),
    "last bytes lost": (encoded()[:-2], "truncated"),
    "header alone": (encoded()[:300], "."),
    "truncated png": (encoded(kind="PNG")[:5000], "truncated"),
    "corrupt png": (encoded(kind="PNG")[:3000] + bytes(500) + encoded(kind="PNG")[3500:], "."),
    "truncated webp": (encoded(kind="WEBP")[:3000], "could not create decoder"),
    "corrupt webp": (WEBP[:2000] + bytes(500) + WEBP[2500:], "broken WebP"),
    "corrupt animation": (ANIMATION[: len(ANIMATION) // 2], "."),
    "a format of other programs": (encoded(kind="EPS"), "cannot identify image file: none of JPEG, PNG, WEBP"),
    "floating point": (encoded(FLOWER.convert("F"), "TIFF"), "floating-point"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_is_no_image_is_refused_with_the_reason(kind: str) -> None:
    data, reason = UNREADABLE[kind]
    with pytest.raises(BadImageError, match=reason):
        pixels(data)


SIZES = [(500, 375), (375, 500), (640, 427), (300, 225), (640, 100), (150, 610), (3, 300), (800, 1), (6000, 1400)]


@pytest.mark.parametrize("size", SIZES)
def test_the_evaluation_crop_is_torchvisions(size: tuple[int, int]) -> None:
    reference = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    data = encoded(FLOWER.resize(size), quality=90)
    ours = CentreCrop(0.875)(data, 224).permute(1, 2, 0).numpy()
    assert difference(ours, np.asarray(reference(Image.open(BytesIO(data))))) < 0.1


def test_the_centre_alone_is_what_the_whole_image_has_there(monkeypatch) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encoded(kind=kind)
        whole = CentreCrop(0.875)(data, 224).numpy()
        with monkeypatch.context() as patch:
            patch.setattr(crops, "HUGE", 1000)
            centre = CentreCrop(0.875)(data, 224).numpy()
        assert np.abs(whole.astype(int) - centre.astype(int)).max() <= 1  # rounding
        assert difference(whole, centre) < 0.05


def test_huge_images_are_averaged_before_they_are_scaled(monkeypatch) -> None:
    data = encoded(FLOWER.resize((1600, 1068)), "PNG")

    def box(height: int, width: int):
        return Region((101, 77, 900, 1300), (96, 96))

    exact = decode_region(data, box, most_shrink=8)
    monkeypatch.setattr(decode, "HUGE", 1000)
    assert difference(exact.numpy(), decode_region(data, box, most_shrink=8).numpy()) < 4


BOUNDED = """
import resource, sys
from pathlib import Path
import torch
from data.crops import CentreCrop, TrainingCrops
from data.decode import BadImageError, Region, decode_region
torch.set_num_threads(1)
ways = {"centre": lambda data: CentreCrop(0.875)(data, 224),
        "crop": lambda data: TrainingCrops([0.08, 1.0], True, 0, 0.0, [0.5] * 3)(data, 224, 5),
        "whole": lambda data: decode_region(data, lambda h, w: Region((0, 0, h, w), (8, 8)), most_shrink=8)}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    data = Path(path).read_bytes()
    for way, decoded in ways.items():
        try:
            said = f"read {decoded(data).shape[1]}"
        except BadImageError as error:
            said = str(error)
        print(way, Path(path).name, said)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
BOMBS: dict[str, tuple[tuple[int, int], str, dict]] = {
    "thin.png": ((20000, 1), "RGB", {}),
    "tall.jpg": ((1, 65500), "RGB", {}),
    "thin.webp": ((16383, 1), "RGB", {}),
    "thin.tif": ((30000, 1), "RGB", {}),
    "large.jpg": ((7000, 7000), "RGB", {}),
    "progressive.jpg": ((5600, 5600), "RGB", {"progressive": True, "subsampling": 0}),
    "palette.gif": ((6200, 6200), "P", {}),
    "lzw.tif": ((8700, 8700), "RGB", {"compression": "tiff_lzw"}),
}


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    """Each image in a process that reports the memory it took over what importing torch takes."""
    for name, (size, mode, options) in BOMBS.items():
        Image.new(mode, size).save(tmp_path / name, **options)
    names = [str(tmp_path / name) for name in BOMBS]
    done = subprocess.run([sys.executable, "-c", BOUNDED, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *lines, taken = done.stdout.splitlines()
    read = {line.split()[1] for line in lines if " read " in line}
    assert read == {"thin.png", "tall.jpg", "thin.webp", "thin.tif", "large.jpg"}
    refused = "6,200 x 6,200 pixels of this GIF take 308 MB to decode, more than 300; scale it down"
    assert any(line.startswith(f"whole palette.gif {refused}") for line in lines)
    assert int(taken) < 1.1 * decode.MEMORY


def test_training_crops_follow_their_seed_and_torchvisions_distribution() -> None:
    crop = TrainingCrops(**PLAIN)
    data = encoded()
    assert torch.equal(crop(data, 64, 5), crop(data, 64, 5))
    assert not torch.equal(crop(data, 64, 5), crop(data, 64, 6))
    before = torch.get_rng_state()
    crop(data, 64, 7)
    assert torch.equal(before, torch.get_rng_state())  # a network's dropout stays what it was
    reference = transforms.Compose([transforms.RandomResizedCrop(64), transforms.RandomHorizontalFlip()])
    ours = np.stack([crop(data, 64, seed).permute(1, 2, 0).numpy() for seed in range(300)]).astype(float)
    theirs = np.stack([np.asarray(reference(FLOWER)) for _ in range(300)]).astype(float)
    assert abs(ours.mean() - theirs.mean()) < 3
    assert abs(ours.std() - theirs.std()) < 3
    mirrored = np.abs(ours.mean((0, 3)) - ours.mean((0, 3))[:, ::-1]).mean()
    assert mirrored < 5  # as many to the left as to the right


def test_every_second_training_image_is_mirrored() -> None:
    data = encoded(FLOWER.resize((64, 64)), "PNG")
    whole = {**PLAIN, "crop_area": [1.0, 1.0]}
    upright = TrainingCrops(**{**whole, "flip": False})(data, 64, 0)
    seen = [TrainingCrops(**whole)(data, 64, seed) for seed in range(200)]
    mirrored = sum(torch.equal(image, upright.flip(-1)) for image in seen)
    assert mirrored + sum(torch.equal(image, upright) for image in seen) == 200
    assert 72 <= mirrored <= 128  # four standard deviations


def test_large_photographs_are_decoded_smaller_where_the_crop_allows() -> None:
    data = encoded(FLOWER.resize((2000, 1334), Image.Resampling.BICUBIC), quality=98)
    assert len(data) > LARGE

    def box(height: int, width: int):
        return Region((101, 77, 1000, 1500), (224, 224))

    exact, fast = decode_region(data, box), decode_region(data, box, most_shrink=8)
    assert fast.shape == exact.shape
    assert 0 < difference(exact.numpy(), fast.numpy()) < 4


def test_randaugment_and_erasing_change_images() -> None:
    data = encoded()
    plain = TrainingCrops(**PLAIN)(data, 64, 3)
    assert not torch.equal(plain, TrainingCrops(**{**PLAIN, "randaugment": 9})(data, 64, 3))
    erased = TrainingCrops(**{**PLAIN, "erasing": 1.0})(data, 64, 3)
    mean = torch.tensor([124, 116, 104], dtype=torch.uint8)[:, None, None]
    where = (erased != plain).any(0)
    assert 0.01 < where.float().mean() < 0.4
    assert (erased == mean)[:, where].all()


MISTAKES = [
    ({"crop_area": [0.1, 0.5, 1.0]}, "data.crop_area=.0.1, 0.5, 1.0.: must be two shares"),
    ({"crop_area": [0.5, 0.1]}, "data.crop_area=.0.5, 0.1.: must be two shares"),
    ({"randaugment": 31}, "data.randaugment=31: must lie between 0 .off. and 30"),
    ({"erasing": 2.0}, "data.erasing=2.0: must be a probability"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_mistakes_are_explained(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingCrops(**{**PLAIN, **change})
