"""benchmark=units: that a row compares what it says; not what it says of speed."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from scripts.benchmarks.units import prepare, rows

SHORT = {"engines": ["deploy"], "batch_sizes": [1], "threads": [1], "rounds": 2, "seconds": 0.0}


def test_a_layer_has_a_row_and_a_file_of_them(tmp_path: Path) -> None:
    out = tmp_path / "units.json"
    found = list(rows(channels=[256, 512], **SHORT, out=str(out)))
    names = [
        "sic_256",
        "sic_512",
        "sic_subdivided_256",
        "sic_subdivided_512",
        "subdivided_1x1_256",
        "subdivided_1x1_512",
    ]
    assert [row["network"] for row in found] == names
    assert [row["pixels"] for row in found] == [14, 7] * 3
    assert all(row["reason"] is None and row["best_plain"] == "deploy" for row in found)
    assert json.loads(out.read_text())["rows"] == found


@pytest.mark.parametrize(
    ("name", "ratio"),  # of 9 C^2 MACs, or C^2, at a position
    [("sic", 9 * 64 / (9 + 64)), ("sic_subdivided", 9 * 64 / (9 + 16)), ("subdivided_1x1", 4)],
)
def test_its_ratio_is_that_of_the_macs(name: str, ratio: float) -> None:
    assert prepare(name, 64, 1).mac_ratio == pytest.approx(ratio)


@torch.no_grad()
def test_beside_sic_stands_a_convolution_with_a_relu() -> None:
    pair = prepare("sic", 64, 1)
    x = torch.randn(1, 64, 56, 56)
    conv, relu = pair.networks["plain"].net.children()
    assert (type(conv), conv.kernel_size, type(relu)) == (nn.Conv2d, (3, 3), nn.ReLU)
    unit = pair.networks["network"].net[0]  # pyright: ignore[reportIndexIssue]
    torch.testing.assert_close(pair.networks["network"].net(x), torch.relu(x + unit.project(unit.depthwise(x))))


@pytest.mark.parametrize("channels", [0, 5000])
def test_channels_without_an_image_are_refused(channels: int) -> None:
    with pytest.raises(ValueError, match=rf"benchmark.channels=\[{channels}\]: from 1 to 1194"):
        next(rows(channels=[64, channels], **SHORT, out=None))
