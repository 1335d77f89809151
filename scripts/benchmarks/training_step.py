"""The training of a network alone: one step after another on images that lie on the device already."""

from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn
from torch.nn import functional as F

from models.memory_format import channels_last
from models.training.first_batch import initialise_from
from models.training.param_groups import param_groups
from models.training.penalty import gate_penalty

RATE = 1e-6  # so small that no step makes anything infinite, which a device may compute faster or slower
PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16}


def training_step(
    net: nn.Module, config: dict[str, Any], batch_size: int, precision: str | None = None
) -> Callable[[], None]:
    """What takes one step of `net`, forward and backward pass and update, with the rest of a run's plain `config`.

    It trains where the weights of `net` lie, on noise (batch_size, C, H, W) with random labels, in `precision` or that
    of the configuration. Input pipeline, schedule, averaged weights and loggers are no part of it. Raises ValueError
    where the precision is neither 32-true nor bf16-mixed.
    """
    precision = precision or config["trainer"]["precision"]
    if precision not in PRECISIONS:
        raise ValueError(f"trainer.precision={precision}: steps are timed in {' or '.join(PRECISIONS)}")
    dtype, data, device = PRECISIONS[precision], config["data"], next(net.parameters()).device
    if config["channels_last"]:
        channels_last(net)
    net.train()
    weights = config.get("gate_penalty")  # which a run of older code has not
    penalty = gate_penalty(net, **weights) if weights else None
    make_optimizer, smoothing = instantiate(config["optimizer"], _convert_="all"), config["label_smoothing"]
    decay = make_optimizer(net.parameters()).defaults["weight_decay"]
    optimizer = make_optimizer(param_groups(net, RATE, decay))
    images = torch.randn(batch_size, data["channels"], data["input_size"], data["input_size"], device=device)
    labels = torch.randint(data["num_classes"], (batch_size,), device=device)
    initialise_from(images, net)

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            loss = F.cross_entropy(net(images), labels, label_smoothing=smoothing)
            if penalty:
                loss = loss + penalty.take()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step
