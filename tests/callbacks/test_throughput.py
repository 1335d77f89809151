"""Images a second on a clock that only training and validation steps move."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from callbacks.throughput import Throughput


class Net(pl.LightningModule):
    """A step takes 2 seconds in the first epoch and half a second later, a validation step 10."""

    now = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.now += 0.5 if self.current_epoch else 2.0
        return self.layer(batch).mean()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.now += 10.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.parametrize(("epochs", "speed"), [(1, 4 / 2.0), (2, 4 / 0.5), (3, 4 / 0.5)])
def test_training_alone_counts_and_the_first_epoch_only_where_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch, epochs: int, speed: float
) -> None:
    net, throughput = Net(), Throughput()
    monkeypatch.setattr("callbacks.throughput.perf_counter", lambda: net.now)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=epochs, val_check_interval=3, callbacks=[throughput], **quiet)
    trainer.fit(net, DataLoader(torch.ones(24, 1), 4), DataLoader(torch.ones(4, 1), 4))
    assert throughput.images_per_second == speed
