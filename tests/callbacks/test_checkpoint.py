"""last.ckpt that no run can go on from: one message, which names it, and the one before in its place."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from callbacks.checkpoint import LAYOUT, LastCheckpoint, resume_from


class Net(pl.LightningModule):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.net = nn.Linear(3, width)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    torch.save({"layout": LAYOUT, "state_dict": Net().state_dict()}, tmp_path / "last.ckpt")
    return tmp_path


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def text(path: Path) -> None:
    path.write_text("hello\n")


def flipped(path: Path) -> None:
    """One bit of the weights, which torch.load would take as they are."""
    data = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=True)["state_dict"]["net.weight"].numpy().tobytes()
    data[data.index(weight) + 5] ^= 1
    path.write_bytes(data)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def code(path: Path) -> None:
    """What would run on loading is not loaded."""
    torch.save({"layout": LAYOUT, "state_dict": Net()}, path)


ANY_DAMAGE = pytest.mark.parametrize("damage", [empty, truncated, text, flipped, folder, code])


@ANY_DAMAGE
def test_one_that_cannot_be_read_is_named_and_kept(run_dir: Path, damage: Callable[[Path], None]) -> None:
    damage(run_dir / "last.ckpt")
    with pytest.raises(
        ValueError, match="cannot read .*last.ckpt .*; put a good copy there, or move it away"
    ) as caught:
        resume_from(run_dir, Net(), True)
    assert "\n" not in str(caught.value)
    assert (run_dir / "last.ckpt").exists()


@ANY_DAMAGE
def test_the_one_before_goes_on_in_its_place(
    run_dir: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Another process chooses the same, before the first has set the bad one aside and after it."""
    shutil.copy(run_dir / "last.ckpt", run_dir / "previous.ckpt")
    damage(run_dir / "last.ckpt")
    (run_dir / "last.bad1.ckpt").write_text("of an earlier fault")
    previous = run_dir / "previous.ckpt"
    assert resume_from(run_dir, Net(), False) == previous
    assert not caplog.messages
    assert resume_from(run_dir, Net(), True) == previous
    assert resume_from(run_dir, Net(), False) == previous
    (message,) = caplog.messages
    assert re.fullmatch(
        r"cannot read .*/last.ckpt \(.*\); it is last.bad2.ckpt now, and previous.ckpt goes on", message
    )
    assert sorted(path.name for path in run_dir.iterdir()) == ["last.bad1.ckpt", "last.bad2.ckpt", "previous.ckpt"]


def test_a_foreign_one_is_named(run_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"last.ckpt holds another network: net.weight is \(4, 3\) there and \(5, 3\)"):
        resume_from(run_dir, Net(5), True)
    torch.save({"state_dict": Net().state_dict(), "pytorch-lightning_version": "2.6.6"}, run_dir / "last.ckpt")
    with pytest.raises(ValueError, match="last.ckpt was not written by this version of the code; put a good copy"):
        resume_from(run_dir, Net(), True)


def test_where_both_are_bad_neither_is_touched(run_dir: Path) -> None:
    shutil.copy(run_dir / "last.ckpt", run_dir / "previous.ckpt")
    truncated(run_dir / "last.ckpt")
    with pytest.raises(ValueError, match="cannot read .*last.ckpt .*; .*previous.ckpt holds another .*; put a good"):
        resume_from(run_dir, Net(5), True)
    assert sorted(path.name for path in run_dir.iterdir()) == ["last.ckpt", "previous.ckpt"]


def test_a_good_one_or_none(run_dir: Path, tmp_path: Path) -> None:
    assert resume_from(run_dir, Net(), True) == run_dir / "last.ckpt"
    (run_dir / "last.ckpt").rename(run_dir / "previous.ckpt")
    assert resume_from(run_dir, Net(), True) == run_dir / "previous.ckpt"
    shutil.rmtree(run_dir)
    assert resume_from(tmp_path, Net(), True) is None


@pytest.mark.parametrize("minutes", [-1, float("nan")])
def test_every_minutes_is_checked(minutes: float) -> None:
    with pytest.raises(ValueError, match="callbacks.checkpoint.every_minutes=.*: must be at least 0; 10 is usual"):
        LastCheckpoint("run", minutes)
