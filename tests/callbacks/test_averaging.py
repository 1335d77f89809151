"""The average against its definition, its statistics against those of all sampled images, and what training keeps."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from callbacks.averaging import AveragedWeights

DECAY = 0.9
STEPS = 20


class Images(pl.LightningDataModule):
    """Batches of 8; a sample of 24."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.images = torch.randn(STEPS, 8, 3, 6, 6).cumsum(0) / 5  # they drift
        self.asked = 0

    def train_dataloader(self) -> Any:
        return DataLoader(self.images, batch_size=None)

    def val_dataloader(self) -> Any:
        return DataLoader(self.images[:1], batch_size=None)

    test_dataloader = val_dataloader

    def training_sample(self, num_images: int) -> Any:
        self.asked += 1
        return ((images, torch.zeros(8)) for images in self.images[:3])


class Net(pl.LightningModule):
    """Trained to no purpose; keeps what it was when judged."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(4, 4, 3)]
        self.net = nn.Sequential(*layers, nn.BatchNorm2d(4))
        self.history: list[dict[str, torch.Tensor]] = []
        self.judged: dict[str, torch.Tensor] = {}
        self.drawn: list[torch.Tensor] = []

    def state(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.net.state_dict().items()}

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.net(batch).square().mean()

    def on_train_batch_end(self, *_: Any) -> None:
        self.history.append(self.state())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.judged = self.state()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.judged = self.state()

    def on_train_epoch_end(self) -> None:
        self.drawn.append(torch.get_rng_state())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.3, momentum=0.9)


def fit(net: Net, *callbacks: pl.Callback, **options) -> tuple[pl.Trainer, Images]:
    torch.manual_seed(0)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 1}
    quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer, data = pl.Trainer(accelerator="cpu", callbacks=[*callbacks], **{**quiet, **options}), Images()
    trainer.fit(net, data)
    return trainer, data


pytestmark = pytest.mark.filterwarnings("ignore")


def averaged(history: list[dict[str, torch.Tensor]], name: str) -> torch.Tensor:
    """By its definition, in double precision."""
    average = history[0][name].double()
    for step, weights in enumerate(history[1:], 2):
        decay = min(DECAY, 1 - step ** (-2 / 3))
        average = decay * average + (1 - decay) * weights[name].double()
    return average


def test_the_average_is_judged_with_statistics_of_its_own_and_training_goes_on_undisturbed() -> None:
    net = Net()
    plain = copy.deepcopy(net)
    trainer, data = fit(net, AveragedWeights(DECAY))
    fit(plain)
    for name, _ in net.net.named_parameters():
        torch.testing.assert_close(net.judged[name].double(), averaged(net.history, name), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(net.state().values(), plain.state().values(), strict=True):
        assert torch.equal(ours, theirs)
    # The first layer's statistics by hand: the mean over the sample, and the mean of the batches' variances.
    maps = nn.functional.conv2d(data.images[:3].flatten(0, 1), net.judged["0.weight"], net.judged["0.bias"])
    torch.testing.assert_close(net.judged["1.running_mean"], maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in maps.split(8)])
    torch.testing.assert_close(net.judged["1.running_var"], variances.mean(0), rtol=1e-4, atol=1e-5)
    judged = net.judged
    trainer.test(net, data, verbose=False)
    for name, tensor in judged.items():
        assert torch.equal(net.judged[name], tensor), name
    assert data.asked == 1  # the test takes what validation measured


def test_statistics_draw_no_random_numbers() -> None:
    net, plain = Net(dropout=0.5), Net(dropout=0.5)
    fit(net, AveragedWeights(DECAY))
    fit(plain)
    assert torch.equal(net.drawn[0], plain.drawn[0])


@pytest.mark.parametrize(("options", "times"), [({"limit_val_batches": 0}, 3), ({"check_val_every_n_epoch": 2}, 3)])
def test_each_epoch_ends_with_statistics_that_fit(tmp_path, options: dict[str, int], times: int) -> None:
    net = Net()
    trainer, data = fit(net, AveragedWeights(DECAY), max_epochs=3, **options)
    assert data.asked == times
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    trainer.test(net, data, verbose=False)
    for name, tensor in net.judged.items():
        assert torch.equal(state["state_dict"][f"net.{name}"], tensor), name


def test_accumulated_batches_are_one_step() -> None:
    net = Net()
    fit(net, AveragedWeights(DECAY), accumulate_grad_batches=4)
    net.history = net.history[3::4]
    torch.testing.assert_close(net.judged["0.weight"].double(), averaged(net.history, "0.weight"))


def test_the_average_is_where_the_network_is_and_not_in_half_precision(monkeypatch) -> None:
    """Made once the network has moved to its device, whichever that is."""
    made: list[tuple[str, torch.dtype]] = []
    monkeypatch.setattr(
        "callbacks.averaging.ModelEmaV3",
        lambda net, *_, dtype, **__: made.append((next(net.parameters()).device.type, dtype)),
    )
    callback, module = AveragedWeights(DECAY), Net()
    trainer: Any = SimpleNamespace(callbacks=[callback])
    callback.setup(trainer, module, "fit")
    module.to("meta", torch.bfloat16)
    callback.on_fit_start(trainer, module)
    assert made == [("meta", torch.float32)]


def test_decay_is_checked() -> None:
    with pytest.raises(ValueError, match="callbacks.ema.decay=1: must lie in .0, 1.; 0.999 is usual"):
        AveragedWeights(1)
