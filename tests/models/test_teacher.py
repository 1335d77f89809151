"""Who may teach: a run on the same classes and images; anything else is refused with what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate

from models.build import Input, build
from models.run_directory import CONFIG
from models.teacher import fingerprint, load_teacher
from tests.models.test_load import written

MODEL = ("model=resnet20", "model.backbone.depth=8")


@pytest.fixture
def run(plain: Callable[..., dict[str, Any]], tmp_path: Path) -> Path:
    config = plain(*MODEL, "data=digits")
    return written(tmp_path, config, build(**instantiate(config["model"], _convert_="all"), input=Input(10, 16, 1)).net)


def test_a_run_on_the_same_images_teaches(run: Path, plain) -> None:
    """Other batches, augmentation and held-out images are no other data."""
    teacher = load_teacher(str(run), plain("data=digits", "data.batch_size=7", "data.mixup=0.2")["data"])
    assert teacher is not None
    assert teacher.source == str(run)
    assert not teacher.net.training
    assert teacher.weights == fingerprint(teacher.net)
    next(teacher.net.buffers()).add_(1)
    assert teacher.weights != fingerprint(teacher.net)


def test_without_a_source_there_is_none() -> None:
    assert load_teacher(None, {}) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            ["data=digits", "data.num_classes=11", "data.input_size=24"],
            r"was trained with data.num_classes=10 data.input_size=16, and this run has data.num_classes=11 "
            r"data.input_size=24; train on the data of the teacher \(.*\), or choose a teacher",
        ),
        (
            ["data=digits", "data.mean=[0.5]"],
            r"trained with data.mean=\[0.306\], and this run has data.mean=\[0.5\];",
        ),
        (
            ["data=fake", "data.input_size=16", "data.channels=1", "data.mean=[0.306]", "data.std=[0.319]"],
            "trained with data.load=data.digits.digits, and this run has data.load=data.fake.fake;",
        ),
    ],
    ids=["shape", "colours", "data set"],
)
def test_a_teacher_of_other_classes_or_images_is_refused(run: Path, data: list[str], message: str, plain) -> None:
    with pytest.raises(ValueError, match=message):
        load_teacher(str(run), plain(*data)["data"])


def test_what_is_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"teacher=runs/nowhere: there is no such folder; give the directory of a run"):
        load_teacher("runs/nowhere", {})
    (run / CONFIG).write_text(json.dumps({"model": {}}))
    with pytest.raises(ValueError, match="is not what a run writes"):
        load_teacher(str(tmp_path), {})
    (run / CONFIG).unlink()
    with pytest.raises(ValueError, match="has neither result.json nor config.json"):
        load_teacher(str(tmp_path), {})


def test_loading_leaves_the_random_numbers_alone(run: Path, plain) -> None:
    data, before = plain("data=digits")["data"], torch.get_rng_state()
    load_teacher(str(run), data)
    assert torch.equal(before, torch.get_rng_state())
