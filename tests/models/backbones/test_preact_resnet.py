"""Pre-activation and wide ResNets: published sizes, the blocks by hand, limits."""

import pytest
import torch
from torch.nn import functional as F

from models.backbones.preact_resnet import preact_resnet, wide_resnet
from models.cost import count

COUNTS = [
    # He et al. 2016; basic blocks with shortcut A cost what they cost with the activation behind.
    (preact_resnet, (20, "basic", "A"), 269_722, 40_551_040),
    (preact_resnet, (32, "basic", "A"), 464_154, 68_862_592),
    (preact_resnet, (44, "basic", "A"), 658_586, 97_174_144),
    (preact_resnet, (56, "basic", "A"), 853_018, 125_485_696),
    (preact_resnet, (110, "basic", "A"), 1_727_962, 252_887_680),
    (preact_resnet, (20, "basic", "B"), 272_282, 40_813_184),
    (preact_resnet, (164, "bottleneck", "B"), 1_703_258, 244_500_992),
    # 247,646,720 and 1,490,995,712 MACs with the stride in the 3x3: then two 1x1 have four times the positions.
    (preact_resnet, (1001, "bottleneck", "B"), 10_327_706, 1_490_995_712 - 3 * (64 * 32 * 256 + 128 * 64 * 64)),
    (wide_resnet, (28, 10, 0.0), 36_479_194, 5_243_328_768),
    (wide_resnet, (28, 10, 0.3), 36_479_194, 5_243_328_768),
    (wide_resnet, (16, 10, 0.0), 17_116_634, 2_412_173_568),
    (wide_resnet, (40, 8, 0.0), 35_748_314, 5_172_024_320),
]
KNOBS = {preact_resnet: ("depth", "block", "shortcut"), wide_resnet: ("depth", "widen_factor", "dropout")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "own", "params", "macs"), COUNTS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_counts(backbone, own, params: int, macs: int) -> None:
    with torch.device("meta"):
        cost = count(backbone(**dict(zip(KNOBS[backbone], own, strict=True))), (3, 32, 32))
    assert (cost.params, cost.macs) == (params, macs)


def test_a_hundred_classes() -> None:
    with torch.device("meta"):
        assert count(wide_resnet(100, depth=28, widen_factor=10, dropout=0.0), (3, 32, 32)).params == 36_536_884


def bn_relu(norm, x):
    return torch.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_basic_blocks_by_hand(stage: str) -> None:
    """Shortcut A: each stage's first block activates before it splits, the second leaves its input as it is."""
    net = preact_resnet(depth=14, block="basic", shortcut="A").double().eval()
    first, second = net.get_submodule(stage)
    x = torch.randn(2, {"stage1": 16, "stage2": 16}[stage], 6, 6, dtype=torch.float64)
    stride = {"stage1": 1, "stage2": 2}[stage]
    y = bn_relu(first.norm, x)
    z = bn_relu(first.branch.norm2, F.conv2d(y, first.branch.conv1.weight, stride=stride, padding=1))
    expected = F.conv2d(z, first.branch.conv2.weight, padding=1)
    padding = (expected.shape[1] - 16) // 2
    expected[:, padding : padding + 16] += y[:, :, ::stride, ::stride]
    torch.testing.assert_close(first(x), expected, rtol=0, atol=1e-10)
    z = bn_relu(second.branch.norm2, F.conv2d(bn_relu(second.norm, expected), second.branch.conv1.weight, padding=1))
    z = expected + F.conv2d(z, second.branch.conv2.weight, padding=1)
    torch.testing.assert_close(second(expected), z, rtol=0, atol=1e-10)


def test_the_first_1x1_of_a_bottleneck_strides() -> None:
    net = preact_resnet(depth=11, block="bottleneck", shortcut="B")
    strides = [net.get_submodule(f"stage2.0.{name}").stride for name in ("shortcut", "branch.conv1", "branch.conv2")]
    assert strides == [(2, 2), (2, 2), (1, 1)]


def test_a_wide_network_of_factor_1_has_no_first_projection() -> None:
    net = wide_resnet(depth=10, widen_factor=1, dropout=0.3)
    blocks = [net.get_submodule(f"stage{stage}.0") for stage in (1, 2, 3)]
    assert [isinstance(block.shortcut, torch.nn.Conv2d) for block in blocks] == [False, True, True]
    assert [block.shared for block in blocks] == [False, True, True]


@pytest.mark.parametrize("size", [5, 8, 31])
def test_any_size_from_5(size: int) -> None:
    x = torch.zeros(2, 1, size, size)
    assert preact_resnet(7, size, 1, depth=8, block="basic", shortcut="A")(x).shape == (2, 7)
    assert wide_resnet(7, size, 1, depth=10, widen_factor=2, dropout=0.3)(x).shape == (2, 7)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"depth=163: .* 9n \+ 2 layers; nearest: 164"):
        preact_resnet(depth=163, block="bottleneck", shortcut="B")
    with pytest.raises(ValueError, match=r"depth=2: .* 6n \+ 2 layers; nearest: 8"):
        preact_resnet(depth=2, block="basic", shortcut="A")
    with pytest.raises(ValueError, match=r"depth=26: .* 6n \+ 4 layers; nearest: 28"):
        wide_resnet(depth=26, widen_factor=10, dropout=0.0)
    with pytest.raises(ValueError, match="widen_factor=0: .* nearest: 1"):
        wide_resnet(depth=28, widen_factor=0, dropout=0.0)
    with pytest.raises(ValueError, match="input_size=4: .* nearest: 5"):
        wide_resnet(10, 4, depth=28, widen_factor=1, dropout=0.0)
