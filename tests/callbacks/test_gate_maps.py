"""Where gates let layers compute: maps against what the gates themselves return, and the pictures made of them."""

from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from callbacks.gate_figures import closed_by_epoch, open_on_images, small_png
from callbacks.gate_maps import GateMaps, different, pixels, spread
from callbacks.gates import GateCounter
from models.backbones.cifar_resnet import cifar_resnet
from models.cost import Cost, count
from models.gate_maps import overall, recorded
from models.layers import gated_layers
from models.layers.lccl import LCCL
from models.scope import spatial
from tests.conftest import FinishedRun, replace

EACH = {"gate_kernel": "1x1", "gate_channels": "each"}


def gated(channels: int = 1, **knobs: str) -> tuple[nn.Module, Cost]:
    net = cifar_resnet(10, 16, channels, depth=8)
    replace(net, partial(LCCL, **knobs), spatial, (1, channels, 16, 16))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics are those of what was seen, so that some gates are closed
    with torch.no_grad():
        net.train()(torch.randn(32, channels, 16, 16))
    return net.eval(), count(net, (channels, 16, 16))


@pytest.mark.parametrize("knobs", [{}, EACH], ids=str)
def test_maps_are_where_gates_are_open(knobs: dict[str, str]) -> None:
    net, _ = gated(**knobs)
    image, seen = torch.randn(1, 1, 16, 16), dict[str, Tensor]()
    hooks = [
        layer.get_submodule("gate").register_forward_hook(lambda module, args, out, name=name: seen.update({name: out}))
        for name, layer in gated_layers(net).items()
    ]
    net(image)
    for hook in hooks:
        hook.remove()
    with recorded(net) as maps:
        net(image)
    assert list(maps) == list(gated_layers(net)) == list(seen)
    for name, each in maps.items():
        channels = seen[name][0]
        torch.testing.assert_close(each[0], sum((channel != 0).float() for channel in channels) / len(channels))
    assert any(0 < each.mean() < 1 for each in maps.values())


@pytest.mark.parametrize("knobs", [{}, EACH], ids=str)
def test_all_layers_together_are_what_the_gates_do_not_save(knobs: dict[str, str]) -> None:
    net, cost = gated(**knobs)
    images = torch.randn(5, 1, 16, 16)
    counter = GateCounter(net, cost)
    with recorded(net) as maps:
        net(images)
    counter.close()
    share = overall(maps, counter.conv_macs, (16, 16))
    assert share.shape == (5, 16, 16)
    saved = (1 - share.double().mean().item()) * sum(counter.conv_macs.values())
    assert cost.macs - saved == pytest.approx(counter.report().macs_mean)


def test_images_are_of_many_classes_and_layers_from_all_over() -> None:
    assert different([3, 3, 1, 3, 2, 1], 4) == [0, 2, 4, 1]
    assert different([0], 6) == [0]
    assert spread([*"abcdefghi"], 3) == ["a", "e", "i"]
    assert spread(["a", "b"], 6) == ["a", "b"]
    assert spread(["a"], 6) == ["a"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_are_what_they_were_before_normalisation(channels: int) -> None:
    mean, std = [0.3, 0.4, 0.5, 0.6][:channels], [0.1, 0.2, 0.3, 0.4][:channels]
    raw = torch.rand(2, channels, 4, 5, dtype=torch.float64)
    normalised = (raw - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    shown = pixels(normalised, mean, std)
    assert shown.shape == (2, 4, 5, 3)
    expected = raw if channels == 3 else raw.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    np.testing.assert_allclose(shown, expected.permute(0, 2, 3, 1), atol=1e-5)


def after_a_test(net: nn.Module, cost: Cost, run_dir: Path, images: Tensor, **trainer: Any) -> GateMaps:
    """The callback after two batches of a test."""
    callback, module = GateMaps(run_dir, cost), SimpleNamespace(net=net)
    data = SimpleNamespace(mean=[0.5] * images.shape[1], std=[0.25] * images.shape[1])
    usual = {"is_global_zero": True, "fast_dev_run": False, "loggers": [], "global_step": 0, "datamodule": data}
    told: Any = SimpleNamespace(**(usual | trainer))
    for number in range(2):
        callback.on_test_batch_start(told, module, (images, torch.arange(len(images))), number)  # type: ignore[arg-type]
        with torch.no_grad():
            net(images)
        callback.on_test_batch_end(told, module, None, (images,), number)  # type: ignore[arg-type]
    callback.on_test_end(told, module)  # type: ignore[arg-type]
    return callback


@pytest.mark.parametrize(("channels", "number"), [(1, 8), (3, 1)])
def test_a_test_leaves_a_small_picture_and_nothing_in_memory(tmp_path: Path, channels: int, number: int) -> None:
    net, cost = gated(channels, **EACH)
    callback = after_a_test(net, cost, tmp_path, torch.randn(number, channels, 16, 16))
    with Image.open(tmp_path / "gate_maps.png") as picture:
        assert picture.width > 600
    assert not callback.maps
    assert not hasattr(callback, "images")
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("trainer", [{"is_global_zero": False}, {"fast_dev_run": True}], ids=str)
def test_other_processes_and_trials_leave_none(tmp_path: Path, trainer: dict[str, bool]) -> None:
    after_a_test(*gated(), tmp_path, torch.randn(2, 1, 16, 16), **trainer)
    assert not list(tmp_path.iterdir())


def test_a_network_without_gates_leaves_none(tmp_path: Path) -> None:
    net = cifar_resnet(10, 16, 1, depth=8).eval()
    after_a_test(net, count(net, (1, 16, 16)), tmp_path, torch.randn(2, 1, 16, 16))
    assert not list(tmp_path.iterdir())


def test_photographs_make_no_large_file() -> None:
    corners = [(0, 0), (100, 100), (0, 250), (250, 0), (250, 250), (150, 50)]
    images = np.stack([astronaut()[y : y + 224, x : x + 224] / 255 for y, x in corners])
    smooth = avg_pool2d(torch.rand(6, 7, 56, 56), 7, stride=1, padding=3)  # as gates are: open in some regions
    maps = {f"layer{number}": (smooth[:, number] > 0.48).double().numpy() for number in range(7)}
    png = small_png(open_on_images(images, maps))
    assert len(png) < 200_000
    assert Image.open(BytesIO(png)).width > 600


def test_a_run_leaves_the_picture(finished_run: FinishedRun) -> None:
    assert (finished_run.directory / "gate_maps.png").stat().st_size < 200_000


def test_layers_run_down_and_epochs_to_the_right() -> None:
    axes, _ = closed_by_epoch({2: {"a": 0.1, "b": 0.2}, 1: {"a": 0.3, "b": 0.4}, 5: {"a": 0.5, "b": 0.6}}).axes
    (mesh,) = axes.collections
    np.testing.assert_allclose(mesh.get_array(), [[30, 10, 50], [40, 20, 60]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.yaxis.get_inverted()
    assert mesh.get_coordinates()[0, :, 0].tolist() == [0.5, 1.5, 4.5, 5.5]  # until the next validation
    assert mesh.get_clim() == (0, 100)
