"""What is said where a run goes on with another number of processes."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from callbacks.processes import Processes

PLAIN, NORM, DROP = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)
CASES = [
    ([PLAIN], False, None, "each step has the same images, and what it learns from them is the same but for rounding"),
    ([PLAIN, NORM], True, None, "each step has the same images, and what it learns"),
    ([PLAIN, NORM], False, None, "BatchNorm's statistics are of 64 images at a time, not 32 (trainer.sync_batchnorm="),
    ([PLAIN, DROP], False, None, "dropout leaves out other units"),
    ([PLAIN, NORM, DROP], True, "mixup", "dropout leaves out other units; images are mixed with other partners"),
]


@pytest.mark.parametrize(("layers", "synchronised", "mix", "message"), CASES, ids=[case[3][:30] for case in CASES])
def test_what_is_not_the_same_is_said(
    caplog: pytest.LogCaptureFixture, layers: list[nn.Module], synchronised: bool, mix: Any, message: str
) -> None:
    trainer: Any = SimpleNamespace(world_size=4, datamodule=SimpleNamespace(batch_size=256, mix=mix))
    module: Any = nn.Sequential(*layers)
    callback = Processes(synchronised)
    callback.load_state_dict({"counts": [2, 8]})
    with caplog.at_level(logging.INFO):
        callback.on_train_start(trainer, module)
        callback.on_train_start(trainer, module)
    (said,) = caplog.messages
    assert said.startswith(f"processes: 4 now, 8 before; {message}")
    assert callback.state_dict() == {"counts": [2, 8, 4]}
