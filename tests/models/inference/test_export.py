"""Networks as files: what ONNX Runtime and torch.export compute from them, and what they say of themselves."""

import json
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
import safetensors.torch
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from conf import schema
from models import scope
from models.backbones.cifar_resnet import cifar_resnet
from models.build import Input, build
from models.inference import export
from models.inference.deploy import deploy
from models.layers.lccl import LCCL
from models.layers.subdivided import Subdivided
from tests.conftest import choices
from tests.models.inference.deploy_every_network import ANY_NETWORK
from tests.models.inference.deployed import randomise
from tests.models.inference.export_every_network import row


def small(layer: type[nn.Module] = LCCL) -> nn.Module:
    net = build(partial(cifar_resnet, depth=8), layer, scope.spatial, Input(5, 8, 1)).net
    randomise(net)
    return net.eval()


def assert_equal(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * max(1, expected.abs().max().item()))


@pytest.mark.slow
@pytest.mark.parametrize("layer", choices("model/layer"))
def test_onnx_runtime_computes_what_every_layer_does(composed, layer: str) -> None:
    make = instantiate(composed(f"model/layer={layer}").model.layer, _convert_="all")
    net = nn.Sequential(make(16, 16, 3, 1, 1), make(16, 16, 3, 2, 1, bias=False))
    randomise(net)
    _, run = export.onnx(export.exported(net.eval(), (16, 7, 7)), {}, threads=1)
    for batch in (1, 3):
        images = torch.randn(batch, 16, 7, 7)
        assert_equal(run(images), net(images))


RECORD = Path(__file__).with_name("every_backbone_in_onnx.jsonl")
CANNOT: dict[str, str] = {}  # the backbones that ONNX Runtime does not compute equally, each with the reason


def is_equal(row: dict[str, Any]) -> bool:
    return row["difference"] < 1e-4 * max(1, row["largest"])


def test_of_every_backbone_it_is_recorded_what_onnx_runtime_computes() -> None:
    rows = [json.loads(line) for line in RECORD.read_text().splitlines()]
    assert {row["name"] for row in rows} == {
        f"conf:{name}" for name in choices("model/backbone") if name not in ANY_NETWORK
    }
    unequal = {row["name"]: row.get("reason", "differs") for row in rows if "reason" in row or not is_equal(row)}
    assert unequal == CANNOT


# Their operators are the least usual ones; the record has all of them.
BACKBONES = ["channelnet", "p4_all_cnn_c"]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_onnx_runtime_computes_what_backbones_do(backbone: str) -> None:
    schema.register()
    found = row(f"conf:{backbone}")
    assert found["largest"] > 0.01
    assert is_equal(found)


@pytest.mark.parametrize("form", [lambda net: net, deploy], ids=["built", "deployed"])
def test_gates_become_dense_products(form, caplog) -> None:
    net, images = small(), torch.randn(3, 1, 8, 8)
    with caplog.at_level(logging.INFO):
        program = export.exported(form(net), (1, 8, 8))
    assert "6 gated convolutions are exported as dense products: closed positions are computed too" in caplog.text
    assert "cheapconv" not in str(program.graph)
    content, run = export.torch_export(program, {"classes": ["a"]})
    assert b'["a"]' in content
    for batch in (images, images[:1]):
        assert_equal(run(batch), net(batch))


def test_subdivided_layers_become_convolutions(caplog) -> None:
    net = small(Subdivided)
    with caplog.at_level(logging.INFO):
        made = export.dense(net)
    said = (
        "6 subdivided convolutions are exported as dense ones: 6 with zeros for the connections they lack, 0 block by"
    )
    assert said in caplog.text
    assert not any(isinstance(module, Subdivided) for module in made.modules())
    images = torch.randn(2, 1, 8, 8)
    assert_equal(made(images), net(images))


@pytest.mark.parametrize(
    ("channels", "choices", "convolutions"),
    [
        ((256, 256), {}, 8),
        ((256, 512), {"kept": 1 / 16}, 32),
        ((255, 510), {"grid": (5, 51), "window": (2, 51)}, 1),  # too narrow
        ((512, 256), {"kept": 1}, 1),
        ((256, 256), {"num_dims": 4}, 1),  # what a block sees lies in too many places
    ],
)
def test_a_wide_subdivided_layer_becomes_a_convolution_for_each_block(channels, choices, convolutions: int) -> None:
    layer, images = Subdivided(*channels, 3, 2, 1, **choices), torch.randn(2, channels[0], 5, 5)
    made = export.dense(nn.Sequential(layer))
    assert isinstance(made.get_submodule("0"), nn.Conv2d) == (convolutions == 1)
    assert sum(isinstance(module, nn.Conv2d) for module in made.modules()) == convolutions
    assert not any(isinstance(module, Subdivided) for module in made.modules())
    assert_equal(made(images), layer(images))


def test_an_onnx_file_says_what_it_is() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten())
    content, _ = export.onnx(export.exported(net, (1, 4, 4)), {"preprocessing": {"mean": [0.5]}}, threads=1)
    model = onnx.load_from_string(content)
    assert json.loads({each.key: each.value for each in model.metadata_props}["preprocessing"]) == {"mean": [0.5]}
    (images,), (logits,) = model.graph.input, model.graph.output
    assert (images.name, logits.name) == ("images", "logits")
    shape = images.type.tensor_type.shape.dim
    assert (shape[0].dim_param, [each.dim_value for each in shape[1:]]) == ("batch", [1, 4, 4])


def test_the_weights_of_a_deployed_network_fit_one_of_the_same_kind(tmp_path: Path) -> None:
    net = deploy(small())
    assert not all(tensor.is_contiguous() for tensor in net.state_dict().values())  # what safetensors refuses
    (tmp_path / "weights").write_bytes(export.weights(net, {"size": 8}))
    with safetensors.safe_open(tmp_path / "weights", "pt") as file:
        assert file.metadata() == {"size": "8"}
    other, images = deploy(small()), torch.randn(2, 1, 8, 8)
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "weights"))
    assert_equal(other(images), net(images))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    program = export.exported(nn.Sequential(nn.Flatten()), (1, 2, 2))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="format=onnx needs onnx, onnxscript and onnxruntime: pip install"):
        export.onnx(program, {}, threads=1)


class Fickle(nn.Module):
    """Goes another way for other numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_recorded_is_refused() -> None:
    with pytest.raises(ValueError, match=r"torch.export cannot record Fickle \(.+\)"):
        export.exported(Fickle(), (1, 2, 2))
