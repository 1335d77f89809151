"""Who may teach: a run on the same classes and images; anything else is refused with what to do."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hydra.utils import instantiate
from timm.models import save_for_hf
from torch import nn

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
    with pytest.raises(
        ValueError,
        match=r"teacher=nowhere: there is no such folder, and timm gives no such trained network \(.*\); give",
    ):
        load_teacher("nowhere", {})
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


NETWORK = "test_resnet.r160_in1k"  # of timm, 0.5 million parameters
IMAGENET = ("data=imagenet", "data.mean=[0.5,0.5,0.5]", "data.std=[0.5,0.5,0.5]")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder that the files of timm's hub are kept in, without a network; nothing is in it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_network_of_timm_teaches_with_its_trained_weights(hub: Path, plain) -> None:
    """Weights as the hub would have put them here."""
    trained, folder = timm.create_model(NETWORK), hub / f"models--timm--{NETWORK}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("1")
    save_for_hf(trained, str(folder / "snapshots" / "1"), safe_serialization=True)
    before = torch.get_rng_state()
    teacher = load_teacher(NETWORK, plain(*IMAGENET)["data"])
    assert torch.equal(before, torch.get_rng_state())
    assert teacher is not None
    assert not teacher.net.training
    assert teacher.weights == fingerprint(trained)
    with pytest.raises(
        ValueError, match=r"was trained with data.mean=\[0.5, 0.5, 0.5\] .*, and this run has data.mean="
    ):
        load_teacher(NETWORK, plain("data=imagenet")["data"])


def test_a_folder_of_timm_teaches_on_its_own_classes(tmp_path: Path, plain) -> None:
    source, digits = f"local-dir:{tmp_path}", partial(plain, "data=digits", "data.input_size=32")
    told = {"num_classes": 10, "input_size": (1, 16, 16), "mean": (0.306,), "std": (0.319,)}
    trained = saved(tmp_path, "test_resnet", told)
    teacher = load_teacher(source, digits()["data"])
    assert teacher is not None
    assert teacher.weights == fingerprint(trained)
    with pytest.raises(ValueError, match=r"with data.num_classes=10 data.channels=1, and this run has .* choose a te"):
        load_teacher(source, digits("data.num_classes=9", "data.channels=3")["data"])
    (tmp_path / "model.safetensors").write_text("{}")
    with pytest.raises(ValueError, match=r"^teacher=local-dir:.* timm gives no such trained network \([^\n]*\); give"):
        load_teacher(source, digits()["data"])
    saved(tmp_path, "test_vit", told)  # cuts images into 16 x 16
    with pytest.raises(ValueError, match=r"takes no images of data.input_size=24 \(Input height .*\); choose its size"):
        load_teacher(source, digits("data.input_size=24")["data"])


def saved(folder: Path, name: str, told: dict[str, Any]) -> nn.Module:
    """Network `name` of timm as timm keeps one in a folder, with what is `told` of its images and classes."""
    net = timm.create_model(name, num_classes=10, in_chans=1, pretrained_cfg_overlay=told)
    save_for_hf(net, str(folder), model_args={"in_chans": 1}, safe_serialization=True)
    return net


def test_weights_that_cannot_be_had_are_one_line(hub: Path, plain) -> None:
    with pytest.raises(OSError, match=rf"^teacher={NETWORK}: its weights cannot be had \([^\n]*\); connect [^\n]*$"):
        load_teacher(NETWORK, plain(*IMAGENET)["data"])
