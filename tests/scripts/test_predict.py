"""python scripts/predict.py: the answers that the network gives in evaluation; what cannot be read is named."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from skimage.data import astronaut

from models.load import load_run
from scripts.benchmarks.gated_networks import test_batches as batches_of_test
from tests import processes
from tests.conftest import FinishedRun

pytestmark = pytest.mark.slow
SCRIPT = "scripts/predict.py"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_files_of_the_test_set_get_the_answers_of_the_test(finished_run: FinishedRun, tmp_path: Path) -> None:
    run = load_run(finished_run.directory)
    data = instantiate(run.config["data"], _convert_="all")
    originals = data.load(data.root).test_images[:12, 0].numpy()
    for number, pixels in enumerate(originals):
        Image.fromarray(pixels).save(tmp_path / f"{number:03d}.png")
    maps = tmp_path / "maps"
    arguments = [f"run={finished_run.directory}", f"images={tmp_path}", "format=json", f"maps={maps}"]
    found = lines(processes.run(SCRIPT, *arguments, "batch_size=5", status=0).stdout)
    with torch.no_grad():
        logits = torch.cat([run.net(images) for images, _ in batches_of_test(run.config, "a run")])
    probabilities = logits[:12].softmax(1)
    assert [each["image"] for each in found] == [str(tmp_path / f"{number:03d}.png") for number in range(12)]
    for each, expected in zip(found, probabilities, strict=True):
        values = [pair["probability"] for pair in each["top"]]
        assert values == pytest.approx(expected.topk(5).values.tolist(), abs=1e-5)
        assert values == pytest.approx([expected[int(pair["class"])].item() for pair in each["top"]], abs=1e-5)
    pictures = sorted(maps.iterdir())
    assert [path.name for path in pictures] == [f"{number:06d}_{number:03d}.png" for number in range(12)]
    with Image.open(pictures[0]) as picture:
        assert min(picture.size) > 100


def write_odd_files(folder: Path) -> list[str]:
    """One file of each kind that people have; the names of those that are no images come last."""
    colours = Image.fromarray(astronaut()[::8, ::8])
    colours.save(folder / "a.jpg")
    colours.save(folder / "b.png")
    colours.convert("L").save(folder / "c_grey.jpg")
    colours.convert("CMYK").save(folder / "d_cmyk.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    colours.save(folder / "e_turned.jpg", exif=turned)
    Image.fromarray(np.asarray(colours.convert("L")).astype(np.uint16) << 8).save(folder / "f_16_bits.png")
    frames = [colours.rotate(angle) for angle in (0, 90)]
    frames[0].save(folder / "g_animated.gif", save_all=True, append_images=frames[1:])
    (folder / "h_text.jpg").write_text("no image")
    (folder / "i_empty.png").touch()
    return [str(path) for path in sorted(folder.iterdir())] + [str(folder / "j_missing.jpg")]


def test_every_kind_of_file_is_answered_or_named(finished_run: FinishedRun, tmp_path: Path) -> None:
    names = write_odd_files(tmp_path)
    run = f"run={finished_run.directory}/model"
    done = processes.run(SCRIPT, run, f"images=[{','.join(names)}]", "format=json", status=1)
    found = lines(done.stdout)
    assert [each["image"] for each in found] == names
    assert [len(each["top"]) for each in found] == [5] * 7 + [0] * 3
    problems = [each["problem"] for each in found]
    assert problems[:7] == [None] * 7
    assert problems[7].startswith("cannot identify image file")
    assert problems[8:] == ["the file is empty", "No such file or directory"]
    for name, problem in zip(names[7:], problems[7:], strict=True):
        assert f"cannot read {name}: {problem}" in done.stderr
    assert "3 of 10 images could not be read" in done.stderr
    assert found[4]["top"] == found[0]["top"]  # orientation tags are ignored, as in training
    table = processes.run(SCRIPT, run, f"images={tmp_path}/*.png", status=1).stdout.splitlines()
    assert table[0].startswith(f"{names[1]}  ")
    assert table[2] == f"{names[8]}  cannot be read: the file is empty"
    rows = list(csv.reader(StringIO(processes.run(SCRIPT, run, f"images={names[1]}", "format=csv", status=0).stdout)))
    assert rows[0][:4] == ["image", "problem", "class1", "p1"]
    assert (rows[1][0], rows[1][2]) == (names[1], found[1]["top"][0]["class"])
