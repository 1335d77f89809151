"""Files become what the data module would have made of the same images; names become files."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from skimage.data import astronaut

from data.crops import CentreCrop
from data.listing import listed
from data.prepared import Prepared
from models.preprocessing import Preprocessing, preprocessing_of


def png(pixels: np.ndarray) -> bytes:
    content = BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("size", [32, 16])
def test_an_original_of_fashion_mnist_becomes_the_test_image(size: int, plain) -> None:
    data = instantiate(plain("data=fashion_mnist", f"data.input_size={size}")["data"], _convert_="all")
    data.setup("test")
    original = data.load(data.root).test_images[:20, 0, 2:-2, 2:-2].numpy()
    assert original.shape == (20, 28, 28)
    how = preprocessing_of(data.state_dict()["preprocessing"], 1, "the data module")
    images = Prepared([], size=size, channels=1, preprocessing=how)
    for pixels, expected in zip(original, data.arrays.test_images, strict=False):
        assert torch.equal(images.prepare(png(pixels)), expected)
    assert data.classes[0] == "T-shirt/top"


def test_colours_become_the_grey_of_pil_and_a_crop_that_of_the_data_module() -> None:
    whole, crop = Preprocessing((), (), 0, None), Preprocessing((), (), 0, 0.875)
    grey = Prepared([], size=512, channels=1, preprocessing=whole).prepare(png(astronaut()))
    assert np.array_equal(grey[0], np.asarray(Image.fromarray(astronaut()).convert("L")))
    cropped = Prepared([], size=224, channels=3, preprocessing=crop).prepare(png(astronaut()))
    assert torch.equal(cropped, CentreCrop(0.875)(png(astronaut()), 224))
    with pytest.raises(ValueError, match="this network takes 4 channels; image files have 1"):
        Prepared([], size=8, channels=4, preprocessing=whole)


def test_files_folders_patterns_and_lists_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("photos/b.jpg", "photos/a/c.PNG", "photos/.d.jpg", "photos/.e/f.jpg", "photos/g.txt", "h[1].jpg", "i.gif")
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    found = list(listed(["photos", "h[1].jpg", "*.gif", "absent.jpg", "-"], ["x y.jpg\n", "\n", "z.jpg\r\n"]))
    assert found == ["photos/a/c.PNG", "photos/b.jpg", "h[1].jpg", "i.gif", "absent.jpg", "x y.jpg", "z.jpg"]
    assert list(listed(["**/*.txt"], [])) == ["photos/g.txt"]
    with pytest.raises(ValueError, match=r"images=\*\.bmp: no file fits this"):
        list(listed(["*.bmp"], []))
    Path("empty").mkdir()
    with pytest.raises(ValueError, match="images=empty: there are no images in it; these end in .bmp, .gif"):
        list(listed(["empty"], []))
