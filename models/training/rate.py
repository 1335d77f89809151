"""The learning rate of a step of more or fewer images than it was meant for."""

import logging
from functools import partial

log = logging.getLogger(__name__)


def rate_for(optimizer: partial, images: int, meant_for: int | None) -> partial:
    """`optimizer` with its `lr` times `images` / `meant_for`, and a line in the log where that changes it.

    `images` are those of one optimizer step, over all processes and accumulated batches. The rate in proportion to
    them is the rule of Goyal et al. 2017, arXiv:1706.02677, section 2.1. `meant_for` None leaves the rate as it is.
    Raises ValueError where there is no rate to scale.
    """
    if meant_for is None:
        return optimizer
    if "lr" not in optimizer.keywords:
        raise ValueError(
            f"lr_batch_size={meant_for}: there is no optimizer.lr to scale; give one, or lr_batch_size=null"
        )
    lr = optimizer.keywords["lr"]
    scaled = lr * images / meant_for
    if images != meant_for:
        log.info(f"optimizer.lr {lr:g} is for steps of {meant_for} images (lr_batch_size); {scaled:g} for {images}")
    return partial(optimizer, lr=scaled)
