"""A loss that is no number: the step and the images are those that a network was made to fail on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from data.in_memory import InMemoryData
from models.training.classifier import Classifier
from models.training.schedules import cosine
from models.training.tally import Tally

pytestmark = pytest.mark.filterwarnings("ignore")
MARKED = 7  # the position of the training image on which the network fails, among those that are not held out


class Fragile(nn.Module):
    """No numbers where an image of the batch is white all over."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        white = (x.flatten(1) == x.max()).all(1).any()
        return self.linear(x.flatten(1)) * torch.where(white, torch.nan, 1.0)


@pytest.fixture
def data(composed: Callable[..., DictConfig]) -> InMemoryData:
    config = composed("data=digits", "data.batch_size=16", "data.val_fraction=0.1", "data.crop_padding=0")
    config.data.flip, config.data.mean, config.data.std = None, [0.0], [1.0]
    digits: InMemoryData = instantiate(config.data)
    digits.setup("fit")
    assert digits.arrays is not None
    digits.arrays.train_images[digits.train_index[MARKED]] = 255
    return digits


@pytest.mark.parametrize(("every", "accumulated"), [(1, 1), (0, 3)])
def test_the_step_and_the_images_are_named(data: InMemoryData, tmp_path: Path, every: int, accumulated: int) -> None:
    """Whether it is found at once, or at the end of the epoch."""
    module = Classifier(Fragile(), partial(torch.optim.SGD, lr=0.01), partial(cosine, warmup_epochs=0))
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"log_every_n_steps": every, "accumulate_grad_batches": accumulated, "max_epochs": 1}
    trainer = pl.Trainer(accelerator="cpu", logger=False, **quiet, **options)
    with pytest.raises(ValueError, match="the training loss is nan in epoch 1, step ") as caught:
        trainer.fit(module, data)
    batches = data.train_dataloader().indices(0)
    number = next(n for n, batch in enumerate(batches) if MARKED in batch)
    expected = [str(int(image)) for image in data.train_index[batches[number]]]
    said, (note,) = str(caught.value), caught.value.__notes__
    step = number // accumulated + 1
    assert f"in epoch 1, step {step} (training images {', '.join(expected[:8])} and 8 more (failed.txt)); lower" in said
    assert note == f"training images of step {step}: {', '.join(expected)}"
    assert str(int(data.train_index[MARKED])) in expected


def test_the_first_of_several_batches_counts() -> None:
    tally = Tally()
    assert tally.batches_since_no_number() is None
    for loss in (1.0, torch.inf, 2.0, torch.nan):
        tally.add(torch.tensor(loss), torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    assert tally.batches_since_no_number() == 2
