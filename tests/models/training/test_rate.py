"""The rate of a step of another number of images, against the rule as it is published."""

import logging
from functools import partial

import pytest
import torch

from models.training.rate import rate_for

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def test_minibatches_k_times_as_large_have_k_times_the_rate(caplog: pytest.LogCaptureFixture) -> None:
    """Goyal et al. 2017: 0.1 for 256 images, 3.2 for 8192."""
    with caplog.at_level(logging.INFO):
        optimizer = rate_for(SGD, 8192, 256)([torch.zeros(1, requires_grad=True)])
    assert optimizer.defaults["lr"] == pytest.approx(3.2)
    assert optimizer.defaults["momentum"] == 0.9
    assert caplog.messages == ["optimizer.lr 0.1 is for steps of 256 images (lr_batch_size); 3.2 for 8192"]


def test_the_rate_is_taken_as_it_is_where_nothing_else_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert rate_for(SGD, 8192, None) is SGD
        assert rate_for(SGD, 256, 256).keywords["lr"] == 0.1
    assert not caplog.messages


def test_a_rate_that_is_not_there_cannot_be_scaled() -> None:
    with pytest.raises(ValueError, match="lr_batch_size=256: there is no optimizer.lr to scale; give one"):
        rate_for(partial(torch.optim.SGD), 8192, 256)
