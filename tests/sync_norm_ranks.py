"""BatchNorm over two processes against BatchNorm of all images in one: run by tests/models/training/test_sync_norm.py.

Prints, for each kind of layer, the largest difference of outputs, gradients and statistics in double precision.
"""

import copy
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from timm.layers import BatchNormAct2d
from torch import nn

from models.training.processes import gather_images, mean_over_processes
from models.training.sync_norm import SyncBatchNorm

CASES = {
    "BatchNorm1d": (nn.BatchNorm1d(4), (8, 4)),
    "BatchNorm2d": (nn.BatchNorm2d(4), (8, 4, 5, 3)),
    "BatchNorm3d": (nn.BatchNorm3d(4), (8, 4, 2, 5, 3)),
    "BatchNormAct2d": (BatchNormAct2d(4), (8, 4, 5, 3)),
    "cumulative": (nn.BatchNorm2d(4, momentum=None), (8, 4, 5, 3)),
    "bare": (nn.BatchNorm2d(4, affine=False, track_running_stats=False), (8, 4, 5, 3)),
}
rank = int(os.environ["RANK"])
torch.distributed.init_process_group("gloo")
for case, (norm, shape) in CASES.items():
    torch.manual_seed(0)
    norm = norm.double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    whole, images = copy.deepcopy(norm), (3 * torch.randn(shape) + 2).double()
    SyncBatchNorm().apply(nn.Sequential(norm))
    ours, theirs = images[rank::2].clone().requires_grad_(), images.clone().requires_grad_()
    for _ in range(2):
        out, expected = norm(ours), whole(theirs)
    out.pow(3).mean().backward()
    expected.pow(3).mean().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    pairs = [(gather_images(out.detach()), expected), (ours.grad / 2, theirs.grad[rank::2])]
    for parameter, other in zip(norm.parameters(), whole.parameters(), strict=True):
        mean_over_processes(parameter.grad)
        pairs.append((parameter.grad, other.grad))
    pairs += zip(norm.buffers(), whole.buffers(), strict=True)
    difference = max((one - other).abs().max().item() for one, other in pairs)
    print(f"{case} {difference:.1e} {len(pairs)}")
