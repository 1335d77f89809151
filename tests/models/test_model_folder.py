"""A network as a folder of two files; crafted files in its place, or in that of a checkpoint, are refused."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hydra.utils import instantiate

from models.build import Input, build
from models.load import LAYOUT, load_run
from models.memory_format import channels_last
from models.model_folder import DESCRIPTION, MODEL, write_model
from models.preprocessing import Preprocessing
from models.run_directory import CHECKPOINT, CONFIG, RESULT, WEIGHTS
from tests.conftest import FinishedRun

CLASSES = [f"class {number}" for number in range(10)]
IMAGES = {"mean": [0.5], "std": [0.25], "border": 0.0, "centre_crop": None}


@pytest.fixture(scope="module")
def written(plain: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that is not finished with a model folder in it; channels-last, as a run's network is."""
    folder, config = tmp_path_factory.mktemp("written"), plain("model=resnet20_lccl", "model.backbone.depth=8")
    net = channels_last(build(**instantiate(config["model"], _convert_="all"), input=Input(10, 16, 1)).net)
    data_state = {"classes": CLASSES, "preprocessing": IMAGES}
    write_model(folder / MODEL, net.state_dict(), config, data_state)
    (folder / CONFIG).write_text(json.dumps(config))
    state = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"layout": LAYOUT, "state_dict": state, "InMemoryData": data_state}, folder / CHECKPOINT)
    return folder


def test_the_folder_and_the_checkpoint_give_the_same_network_and_the_same_input(written: Path) -> None:
    run, folder, images = load_run(written), load_run(written / MODEL), torch.randn(3, 1, 16, 16)
    assert torch.equal(run.net(images), folder.net(images))
    assert not folder.net.training
    assert (run.input, run.classes, run.preprocessing) == (folder.input, folder.classes, folder.preprocessing)
    assert (folder.input, folder.classes) == (Input(10, 16, 1), tuple(CLASSES))
    assert folder.preprocessing == Preprocessing((0.5,), (0.25,), 0.0, None)
    assert folder.config["model"] == run.config["model"]
    for path in (written / MODEL / WEIGHTS, written / CHECKPOINT):
        assert torch.equal(load_run(path).net(images), run.net(images))


def test_a_directory_without_its_checkpoint_is_loaded_from_the_folder(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "run", ignore=shutil.ignore_patterns(CHECKPOINT))
    run = load_run(tmp_path / "run")
    assert run.classes == tuple(CLASSES)
    assert run.config == json.loads((written / CONFIG).read_text())


def test_a_finished_run_has_a_folder_with_the_network_that_it_tested(finished_run: FinishedRun) -> None:
    directory = finished_run.directory
    with safetensors.safe_open(directory / MODEL / WEIGHTS, "pt") as file:  # by safetensors alone
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    saved = torch.load(directory / CHECKPOINT, weights_only=True)["state_dict"]
    assert weights.keys() == {name.removeprefix("net.") for name in saved}
    assert all(torch.equal(weights[name.removeprefix("net.")], tensor) for name, tensor in saved.items())
    size = sum((directory / MODEL / name).stat().st_size for name in (WEIGHTS, DESCRIPTION))
    assert size < sum(tensor.nbytes for tensor in weights.values()) + 40_000
    images, config = torch.randn(3, 1, 16, 16), json.loads((directory / RESULT).read_text())["config"]
    run, folder = load_run(directory), load_run(directory / MODEL)
    assert torch.equal(run.net(images), folder.net(images))
    assert folder.classes == run.classes == tuple("0123456789")
    expected = Preprocessing(tuple(config["data"]["mean"]), tuple(config["data"]["std"]), 0.0, None)
    assert folder.preprocessing == run.preprocessing == expected


class Bomb:
    """Makes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["BOMB"],)


def changed(key: str, value: Any) -> Callable[[Path], object]:
    """A description in which the dotted `key` is `value`."""

    def craft(run: Path) -> None:
        path = run / MODEL / DESCRIPTION
        description = json.loads(path.read_text())
        node, (*parents, last) = description, key.split(".")
        for parent in parents:
            node = node[parent]
        node[last] = value
        path.write_text(json.dumps(description))

    return craft


def described_by(text: str) -> Callable[[Path], object]:
    return lambda run: (run / MODEL / DESCRIPTION).write_text(text)


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    """Weights that are whole, but changed."""

    def craft(run: Path) -> None:
        tensors = safetensors.torch.load_file(run / MODEL / WEIGHTS)
        change(tensors)
        safetensors.torch.save_file(tensors, run / MODEL / WEIGHTS)

    return craft


def replaced(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """A file whose bytes are changed."""
    return lambda run: (run / name).write_bytes(change((run / name).read_bytes()))


def checkpoint(**content: Any) -> Callable[[Path], object]:
    """A checkpoint with other `content`, beside no folder."""

    def craft(run: Path) -> None:
        shutil.rmtree(run / MODEL)
        saved = torch.load(run / CHECKPOINT, weights_only=True)
        torch.save(saved | content, run / CHECKPOINT)

    return craft


BLOB, CKPT, JSON = f"{MODEL}/{WEIGHTS}", CHECKPOINT, f"{MODEL}/{DESCRIPTION}"
FIRST = "conv.weight"
CRAFTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights cut short": (replaced(BLOB, lambda data: data[:-1]), f"cannot read .*{WEIGHTS} "),
    "weights empty": (replaced(BLOB, lambda data: b""), f"cannot read .*{WEIGHTS} "),
    "weights whose header claims 2**60 bytes": (
        replaced(BLOB, lambda data: struct.pack("<Q", 2**60) + data[8:]),
        f"cannot read .*{WEIGHTS} ",
    ),
    "a pickle as weights": (lambda run: torch.save(Bomb(), run / BLOB), f"cannot read .*{WEIGHTS} "),
    "weights with a path for a name": (weights(lambda all: all.update({"../../up": torch.ones(1)})), "another network"),
    "weights of another shape": (
        weights(lambda all: all.update({FIRST: torch.ones(1)})),
        f"another network: {FIRST} is \\(1,\\) there",
    ),
    "weights without one": (weights(lambda all: all.pop(FIRST)), f"another network: {FIRST} is missing there"),
    "weights that are a folder": (
        lambda run: ((run / BLOB).unlink(), (run / BLOB).mkdir(), (run / CKPT).unlink()),
        "has no last.ckpt",
    ),
    "no description": (lambda run: (run / JSON).unlink(), f"{DESCRIPTION} is missing"),
    "a description that is a pickle": (lambda run: torch.save(Bomb(), run / JSON), f"cannot read .*{DESCRIPTION}"),
    "a description nested without end": (described_by('{"a":' * 100_000), f"cannot read .*{DESCRIPTION}"),
    "a description that is a list": (described_by("[]"), "is not what this version of the code writes"),
    "a description with a path": (changed("weights", "../../up"), "is not what this version of the code writes"),
    "timm's words for nothing": (described_by('{"model_args": []}'), "model and input must be mappings"),
    "a call in a description": (changed("model.layer", {"_target_": "os.mkdir", "path": "up"}), "_target_: os.mkdir"),
    "a call among the arguments": (changed("model.backbone.depth", [{"_target_": "os.getcwd"}]), "_target_: os.getcwd"),
    "a call of our own code": (
        changed("model.scope", {"_target_": "models.run_directory.write_whole", "path": "up"}),
        "_target_: models.run_directory.write_whole",
    ),
    "an unknown argument": (changed("model.backbone.width_of_all", 2), "arguments that this code does not know"),
    "an argument of another type": (changed("model.backbone.depth", "8"), "arguments that this code does not know"),
    "arguments nested without end": (
        described_by(
            json.dumps({"layout": 1, "input": {}, "classes": [], "preprocessing": {}})[:-1] + ',"model":{"a":['
        ),
        f"cannot read .*{DESCRIPTION}",
    ),
    "an input of terabytes": (changed("input.size", 10**9), "classes, pixels and channels"),
    "an input that is none": (changed("input.channels", True), "classes, pixels and channels"),
    "too few classes": (changed("classes", ["one"]), "classes must be 10 names"),
    "classes that are no names": (changed("classes", [[]] * 10), "classes must be 10 names"),
    "a division by zero": (changed("preprocessing.std", [0]), "std of the preprocessing must be 1 numbers"),
    "a mean that is no number": (changed("preprocessing.mean", [float("nan")]), "mean of the preprocessing"),
    "a border of any width": (changed("preprocessing.border", 1e9), "border of the preprocessing"),
    "preprocessing by a program": (changed("preprocessing.run", "up"), "the preprocessing of images must have"),
    "a checkpoint that is a bomb": (checkpoint(callbacks=Bomb()), f"cannot read .*{CHECKPOINT}"),
    "a checkpoint cut short": (
        lambda run: (shutil.rmtree(run / MODEL), replaced(CKPT, lambda data: data[: len(data) // 2])(run)),
        f"cannot read .*{CHECKPOINT}",
    ),
    "a checkpoint without weights": (checkpoint(state_dict=None), "holds no weights by name"),
    "a checkpoint of no tensors": (checkpoint(state_dict={"net.conv1.weight": 1}), "holds no weights by name"),
    "a checkpoint with other classes": (checkpoint(InMemoryData={"classes": ["one"]}), "classes must be 10 names"),
    "a checkpoint whose data are a list": (checkpoint(InMemoryData=[1]), "is not what a run writes"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_file_is_refused_in_one_line_and_runs_nothing(
    name: str, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    craft, message = CRAFTED[name]
    bomb = tmp_path / "bomb"
    monkeypatch.setenv("BOMB", str(bomb))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(written, tmp_path / "run")
    craft(tmp_path / "run")
    has_folder = (tmp_path / "run" / BLOB).is_file()
    with pytest.raises(ValueError, match=message) as refused:
        load_run(tmp_path / "run" / MODEL if has_folder else tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert str(tmp_path / "run") in str(refused.value)
    assert not bomb.exists()
    assert sorted(os.listdir(tmp_path)) == ["run"]
