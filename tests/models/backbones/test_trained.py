"""Networks with the trained weights of their libraries, which lie where the libraries would have put them."""

from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from timm.models import save_for_hf
from torch import Tensor, nn

from models.backbones.library import library_network
from models.build import Input, build
from models.convert import start_from
from models.layers.bases import Bases
from models.load import model_parts
from models.scope import spatial

TIMM = "test_resnet"  # 0.5 million parameters
TORCHVISION = "squeezenet1_1"


@pytest.fixture(autouse=True)
def _without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for proxy in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")


@pytest.fixture
def of_timm(tmp_path: Path) -> dict[str, Tensor]:
    """Weights as the hub would have put them on this machine."""
    trained, folder = timm.create_model(TIMM), tmp_path / f"models--timm--{timm.get_pretrained_cfg(TIMM).hf_hub_id[5:]}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("1")
    save_for_hf(trained, str(folder / "snapshots" / "1"), safe_serialization=True)
    return trained.state_dict()


def test_timms_weights_fit_other_classes_and_grey_images(of_timm: dict[str, Tensor], caplog) -> None:
    before = torch.get_rng_state()
    with caplog.at_level("INFO"):
        net = library_network(10, 96, 1, name=TIMM, pretrained=True)
    ours = net.state_dict()
    differ = {name for name, weight in ours.items() if not torch.equal(weight, of_timm[name])}
    assert differ == {"conv1.0.weight", "fc.weight", "fc.bias"}
    torch.testing.assert_close(ours["conv1.0.weight"], of_timm["conv1.0.weight"].sum(1, keepdim=True))  # timm's way
    said = "the weights of timm's test_resnet; of another shape here, and random: fc.weight, fc.bias"
    assert said in caplog.messages
    torch.set_rng_state(before)
    untrained = library_network(10, 96, 1, name=TIMM)
    assert torch.equal(untrained.state_dict()["fc.weight"], ours["fc.weight"])  # loading draws no random numbers


def test_torchvisions_weights_fit_other_classes(tmp_path: Path, caplog) -> None:
    (weights,) = torchvision.models.get_model_weights(TORCHVISION)
    trained, folder = torchvision.models.squeezenet1_1(), tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(trained.state_dict(), folder / Path(weights.url).name)
    with caplog.at_level("INFO"):
        net = library_network(10, 96, 3, name=TORCHVISION, library="torchvision", pretrained=True)
    theirs, ours = trained.state_dict(), net.state_dict()
    differ = [
        name for name in ours if ours[name].shape != theirs[name].shape or not torch.equal(ours[name], theirs[name])
    ]
    assert differ == ["classifier.1.weight", "classifier.1.bias"]
    assert "random: classifier.1.weight, classifier.1.bias" in caplog.messages[-1]


def test_a_rebuilt_network_starts_from_them(of_timm: dict[str, Tensor]) -> None:
    backbone = partial(library_network, name=TIMM, pretrained=True)
    built = build(backbone, partial(Bases, num_bases=3), spatial, Input(10, 96, 3))
    assert built.trained is not None
    assert torch.equal(built.trained.get_submodule("layer4.0.conv1").weight, of_timm["layer4.0.conv1.weight"])
    assert not torch.equal(built.net.get_submodule("conv1.0").weight, of_timm["conv1.0.weight"])
    start = start_from(built.net, built.trained)
    assert {name for name, layer in built.net.named_modules() if isinstance(layer, Bases)} == {*start.approximated}
    assert not start.anew
    assert torch.equal(built.net.get_submodule("conv1.0").weight, of_timm["conv1.0.weight"])


def test_loading_a_run_loads_nothing_else() -> None:
    """Its own weights are all that it needs: here the library's could not be had."""
    part = {"_partial_": True}
    model = {
        "backbone": {"_target_": "models.backbones.library.library_network", "name": TIMM, "pretrained": True, **part},
        "layer": {"_target_": "torch.nn.Conv2d", **part},
        "scope": {"_target_": "models.scope.spatial", **part},
    }
    assert build(**model_parts({"model": model}, "a run"), input=Input(10, 96, 3)).trained is None


def test_counting_loads_nothing() -> None:
    with torch.device("meta"):
        built = build(partial(library_network, name=TIMM, pretrained=True), nn.Conv2d, spatial, Input(10, 96, 3))
    assert built.cost.macs


@pytest.mark.parametrize(("name", "library"), [(TIMM, "timm"), (TORCHVISION, "torchvision")])
def test_weights_that_cannot_be_had_are_one_line(name: str, library) -> None:
    with pytest.raises(
        OSError, match=f"pretrained=true: the weights of {library}'s {name} cannot be had .*connect this"
    ):
        library_network(10, 96, 3, name=name, library=library, pretrained=True)


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="timm has no trained weights of cspresnet50d; leave out pretrained"):
        library_network(10, 96, 3, name="cspresnet50d", pretrained=True)
