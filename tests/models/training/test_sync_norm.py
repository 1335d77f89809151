"""BatchNorm over all processes: the layers against one process that has all images, and how they are put in place."""

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from models.training.sync_norm import SyncBatchNorm
from tests import processes

PAIRS = {"BatchNorm1d": 7, "BatchNorm2d": 7, "BatchNorm3d": 7, "BatchNormAct2d": 7, "cumulative": 7, "bare": 2}


@pytest.mark.slow
def test_two_processes_normalise_as_one_with_all_images() -> None:
    """Outputs, gradients of input, scale and shift, and running statistics, after two batches."""
    for done in processes.run_ranks(2, "tests/sync_norm_ranks.py"):
        assert done.returncode == 0, done.stderr
        found = {case: (float(size), int(pairs)) for case, size, pairs in map(str.split, done.stdout.splitlines())}
        assert {case: pairs for case, (_, pairs) in found.items()} == PAIRS
        assert max(size for size, _ in found.values()) < 1e-12


def test_layers_stay_the_modules_that_they_are_and_evaluate_alike() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    net(torch.randn(8, 3, 5, 5))
    images, layers, names = torch.randn(8, 3, 5, 5), list(net), list(net.state_dict())
    expected = net.eval()(images)
    assert SyncBatchNorm().revert(SyncBatchNorm().apply(net)) is net
    assert list(net) == layers
    assert list(net.state_dict()) == names
    assert torch.equal(net(images), expected)
    assert torch.equal(SyncBatchNorm().apply(net)(images), expected)  # a second time, for the test


def test_a_layer_of_another_kind_is_named() -> None:
    class Strange(nn.BatchNorm2d):
        pass

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Strange(4))
    with pytest.raises(ValueError, match="trainer.sync_batchnorm=true: 1 is a Strange, which cannot be synchronised"):
        SyncBatchNorm().apply(net)
