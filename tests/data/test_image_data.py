"""Batches of image files: the same whatever reads them, and what becomes of images that cannot be read."""

import itertools
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from data.bad_images import FILE, BadImages
from data.decode import BadImageError
from data.folder import image_folder
from data.image_data import ImageData
from data.loader import Loader
from scripts.benchmarks.photographs import write_photographs

OPTIONS = {
    "num_classes": 6,
    "input_size": 32,
    "channels": 3,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "crop_area": [0.08, 1.0],
    "flip": True,
    "randaugment": 9,
    "erasing": 0.25,
    "centre_crop": 0.875,
    "start_size": None,
    "mixup": 0.0,
    "cutmix": 0.0,
    "batch_size": 12,
    "val_fraction": 0.1,
    "num_workers": 0,
    "bad_share": 0.1,
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    write_photographs(root, 60, 12, (64, 48))
    return root


@pytest.fixture
def damaged(photographs: Path, tmp_path: Path) -> Path:
    """Half of one training and of one test image is lost."""
    root = Path(shutil.copytree(photographs, tmp_path / "root"))
    for path in (root / "train/china/000002.jpg", root / "val/china/000002.jpg"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return root


def set_up(root: Path, run_dir: Path, *, rank: int = 0, world_size: int = 1, epoch: int = 0, **changes) -> ImageData:
    torch.manual_seed(1)
    data = ImageData(str(root), image_folder, **{**OPTIONS, **changes})
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        global_rank=rank,
        world_size=world_size,
        num_devices=1,
        current_epoch=epoch,
        estimated_stepping_batches=40,
        accumulate_grad_batches=1,
        num_training_batches=4,
        overfit_batches=0,
        fit_loop=SimpleNamespace(batch_idx=-1),
        default_root_dir=run_dir,
    )
    data.setup("fit")
    return data


def together(loader: Loader) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_workers_and_processes_change_nothing(photographs: Path, tmp_path: Path) -> None:
    loader = set_up(photographs, tmp_path, num_workers=2, epoch=3).train_dataloader()
    images, labels = together(loader)
    assert (images.shape, images.dtype, labels.dtype) == ((48, 3, 32, 32), torch.float32, torch.int64)
    assert images.is_contiguous(memory_format=torch.channels_last)
    here, _ = together(set_up(photographs, tmp_path, epoch=3).train_dataloader())
    assert torch.equal(images, here)
    assert not torch.equal(images, together(set_up(photographs, tmp_path, epoch=4).train_dataloader())[0])
    for rank in (0, 1):
        half, half_labels = together(set_up(photographs, tmp_path, rank=rank, world_size=2, epoch=3).train_dataloader())
        assert torch.equal(images[rank::2], half)
        assert torch.equal(labels[rank::2], half_labels)


def test_the_workers_end_with_what_they_worked_for(photographs: Path, tmp_path: Path) -> None:
    data = set_up(photographs, tmp_path, num_workers=2)
    train, val = data.train_dataloader(), data.val_dataloader()
    epoch = iter(train)
    next(epoch)
    together(val)
    assert len(active_children()) == 4
    data.teardown("fit")
    assert not active_children()
    test = data.test_dataloader()
    together(test)
    assert len(active_children()) == 2
    data.teardown("test")
    assert not active_children()


def test_signals_that_ask_the_run_to_stop_are_none_of_the_workers_business(photographs: Path, tmp_path: Path) -> None:
    """Real ones, to each of them; and they end where the run does, by whatever error."""
    data = set_up(photographs, tmp_path, num_workers=2)
    loader = data.train_dataloader()
    expected = [images for images, _ in loader]
    workers = active_children()
    assert len(workers) == 2
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2
    again = iter(loader)
    found = [next(again)[0]]
    for worker, number in itertools.product(workers, numbers):
        os.kill(worker.pid or 0, number)
    found += [images for images, _ in again]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    data.on_exception(SystemExit())
    assert not active_children()


def test_an_epoch_goes_on_where_it_stopped_and_the_next_is_whole(photographs: Path, tmp_path: Path) -> None:
    loader = set_up(photographs, tmp_path, num_workers=2, cutmix=1.0).train_dataloader()
    straight = list(loader)
    assert loader.waited > 0
    again = set_up(photographs, tmp_path, num_workers=2, cutmix=1.0)
    again.load_state_dict({"classes": again.sets.classes if again.sets else []})
    again.trainer.fit_loop.batch_idx = 2  # type: ignore[union-attr, misc]
    resumed = again.train_dataloader()
    for (images, labels), (expected, expected_labels) in zip(resumed, straight[3:], strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)
    again.trainer.fit_loop.batch_idx = -1  # type: ignore[union-attr, misc]
    assert len(list(resumed)) == len(straight) == 4


def test_a_sample_is_taken_in_the_middle_of_an_epoch(photographs: Path, tmp_path: Path) -> None:
    expected = list(set_up(photographs, tmp_path, num_workers=2).train_dataloader())
    data = set_up(photographs, tmp_path, num_workers=2)
    batches = iter(data.train_dataloader())
    seen = [next(batches)]
    sample = list(data.training_sample(20))  # 12 images a batch
    seen += batches
    for ours, theirs in ((sample, expected[:2]), (seen, expected)):
        for (images, labels), (expected_images, expected_labels) in zip(ours, theirs, strict=True):
            assert torch.equal(images, expected_images)
            assert torch.equal(labels, expected_labels)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_evaluation_sees_each_image_once(photographs: Path, tmp_path: Path, world_size: int) -> None:
    parts = [
        together(set_up(photographs, tmp_path, rank=rank, world_size=world_size).test_dataloader())
        for rank in range(world_size)
    ]
    labels = torch.cat([labels for _, labels in parts])
    assert labels.bincount().tolist() == [2] * 6


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_replaced_counted_and_listed(damaged: Path, tmp_path: Path, num_workers: int) -> None:
    data = set_up(damaged, tmp_path, num_workers=num_workers)
    for epoch in range(2):
        data.trainer.current_epoch = epoch  # type: ignore[union-attr, misc]
        assert len(together(data.train_dataloader())[1]) == 48
    listed = (tmp_path / FILE).read_text().splitlines()
    assert len(listed) == 1  # once, whatever the number of epochs
    name, reason, part = listed[0].split("\t")
    assert name == str(damaged / "train/china/000002.jpg")
    assert "truncated" in reason
    assert part == "train"


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


LOST = {
    "No such file or directory": Path.unlink,
    "Too many levels of symbolic links": loop,
    "the file is empty": lambda path: path.write_bytes(b""),
    "cannot identify image file": lambda path: path.write_text("an error page"),
}


@pytest.mark.parametrize("reason", LOST)
def test_a_file_lost_after_it_was_found_is_replaced_and_listed(damaged: Path, tmp_path: Path, reason: str) -> None:
    data = set_up(damaged, tmp_path)
    LOST[reason](damaged / "train/china/000002.jpg")
    assert len(together(data.train_dataloader())[1]) == 48
    assert reason in (tmp_path / FILE).read_text()


def test_an_unreadable_test_image_is_not_counted_but_listed(damaged: Path, tmp_path: Path) -> None:
    _, labels = together(set_up(damaged, tmp_path).test_dataloader())
    assert labels.bincount().tolist() == [2, 2, 1, 2, 2, 2]
    assert (tmp_path / FILE).read_text().startswith(str(damaged / "val/china/000002.jpg"))


def test_each_part_has_its_own_share(damaged: Path, tmp_path: Path) -> None:
    """One bad image of 54 in training, one of 12 in the test: each within a share of 0.1, both together not of 12."""
    data = set_up(damaged, tmp_path, bad_share=0.1)
    list(data.train_dataloader())
    assert len(together(data.test_dataloader())[1]) == 11
    again = set_up(damaged, tmp_path, bad_share=0.1)  # restarted
    assert len(together(again.test_dataloader())[1]) == 11
    assert [line.split("\t")[2] for line in (tmp_path / FILE).read_text().splitlines()] == ["train", "test"]


def test_those_who_find_bad_images_at_once_count_together(tmp_path: Path) -> None:
    """60 each, of which 20 are the same: no line is lost or written twice, and 101 are too many."""
    finders = [BadImages(tmp_path, "train", 1000, 0.1) for _ in range(2)]

    def find(first: int) -> None:
        for number in range(first, first + 60):
            finders[first > 0].add([(f"{number}.jpg", "broken")])

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(find, (0, 40)))
    assert len((tmp_path / FILE).read_text().splitlines()) == 100
    with pytest.raises(BadImageError, match="101 of 1,000 train images cannot be read"):
        finders[0].add([("100.jpg", "broken")])


def test_too_many_unreadable_images_stop_the_run(damaged: Path, tmp_path: Path) -> None:
    loader = set_up(damaged, tmp_path, bad_share=0.01).train_dataloader()
    with pytest.raises(
        BadImageError, match="1 of 54 train images cannot be read, more than data.bad_share=0.01 allows; they are"
    ):
        list(loader)
    for path in damaged.glob("train/*/*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(BadImageError, match="54 images in a row cannot be read, from .* on; are these images?"):
        list(set_up(damaged, tmp_path).train_dataloader())


def test_the_classes_are_kept_in_the_checkpoint(photographs: Path, tmp_path: Path) -> None:
    data = set_up(photographs, tmp_path)
    data.train_dataloader()
    state = data.state_dict()
    assert state["classes"] == ["astronaut", "chelsea", "china", "coffee", "flower", "rocket"]
    state["classes"][2] = "cat"
    with pytest.raises(ValueError, match="trained on 6 classes, from astronaut to rocket; .* has other ones"):
        data.load_state_dict(state)
    state["classes"][2] = "China"
    with pytest.raises(
        ValueError, match="other ones: 'China' in the checkpoint and 'china' in .* differ only in capital"
    ):
        data.load_state_dict(state)


def test_training_crops_grow(photographs: Path, tmp_path: Path) -> None:
    data = set_up(photographs, tmp_path, input_size=224, start_size=128)
    sizes = [data.training_size(epoch) for epoch in range(10)]
    assert (sizes[0], sizes[-1]) == (128, 224)
    assert sizes == sorted(sizes)
    assert set(sizes) == {128, 160, 192, 224}
    small = set_up(photographs, tmp_path, input_size=64, start_size=32)
    assert together(small.train_dataloader())[0].shape[2:] == (32, 32)


MISTAKES = [
    ({"num_classes": 10}, "data.num_classes=10, but .* has 6 classes; set data.num_classes=6"),
    ({"channels": 1, "mean": [0.5], "std": [0.5]}, "data.channels=1: image files are read as RGB"),
    ({"mean": [0.5, 0.5]}, "data.mean=.0.5, 0.5.: must have one value, or one for each of data.channels=3"),
    ({"centre_crop": 1.2}, "data.centre_crop=1.2: must be a share"),
    ({"bad_share": 1.0}, "data.bad_share=1.0: must be a share"),
    ({"start_size": 300}, "data.start_size=300: must lie between 32 and data.input_size=32"),
    ({"num_workers": -1}, "data.num_workers=-1: must be 0 or more"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_mistakes_are_explained(photographs: Path, tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        set_up(photographs, tmp_path, **change)
