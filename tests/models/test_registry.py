"""Our networks in timm: its own functions make them, and its own networks say what the methods have to return."""

from pathlib import Path

import pytest
import timm
import torch
from hydra.utils import instantiate
from timm.models import model_entrypoint, save_for_hf
from torch import Tensor

from models import registry
from models.build import Input, build
from models.timm_network import TimmNetwork

CIFAR = {"num_classes": 10, "size": 32, "channels": 3}
OF_TIMM = {
    "backbone": {"_target_": "models.backbones.library.library_network", "_partial_": True, "name": "test_resnet"},
    "layer": {"_target_": "torch.nn.Conv2d", "_partial_": True},
    "scope": {"_target_": "models.scope.spatial", "_partial_": True},
}


def made(name: str, **options) -> TimmNetwork:
    net = timm.create_model(name, **options)
    assert isinstance(net, TimmNetwork)
    return net.eval()


def images(net: TimmNetwork, size: int = 32) -> Tensor:
    return torch.randn(2, net.in_chans, size, size)


def test_presets_have_their_names_and_timm_keeps_its_own() -> None:
    assert timm.is_model("resnet50_sic")
    assert {"resnet20", "resnet20_lccl", "wrn28_10", registry.FOLDERS} <= set(timm.list_models(module="registry"))
    assert model_entrypoint("resnet50").__module__ == "timm.models.resnet"
    assert not timm.is_model("torchvision")


def test_a_preset_is_the_network_that_train_builds(plain) -> None:
    parts = instantiate(plain("model=ghost_resnet56")["model"], _convert_="all")
    expected = build(**parts, input=Input(7, 24, 1)).net
    assert str(made("ghost_resnet56", num_classes=7, in_chans=1, img_size=24).net) == str(expected)


def test_without_numbers_it_takes_the_images_of_its_paper() -> None:
    net = made("resnet20_sic")
    assert net.pretrained_cfg["input_size"] == (3, 32, 32)
    assert tuple(net(images(net)).shape) == (2, 10)


def test_features_and_head_are_those_of_timms_own_network() -> None:
    ours = made(registry.FOLDERS, model=OF_TIMM, input=CIFAR | {"size": 96})
    theirs = timm.create_model("test_resnet", num_classes=10).eval()
    theirs.load_state_dict(ours.net.state_dict())
    x = images(ours, 96)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.forward_features(x), theirs.forward_features(x))
    maps = theirs.forward_features(x)
    assert torch.equal(ours.forward_head(maps), theirs.forward_head(maps))
    assert torch.equal(ours.forward_head(maps, pre_logits=True), theirs.forward_head(maps, pre_logits=True))
    assert (ours.num_features, ours.head_hidden_size) == (theirs.num_features, theirs.head_hidden_size)
    assert [level["num_chs"] for level in ours.feature_info] == [level["num_chs"] for level in theirs.feature_info]
    assert [level["reduction"] for level in ours.feature_info] == [level["reduction"] for level in theirs.feature_info]


# Heads of every form: a mean, a sequence, three layers of it, a convolution before the pooling.
@pytest.mark.parametrize("name", ["resnet20_lccl", "vgg16_cifar", "alexnet", "squeezenet1_1"])
def test_head_and_features_are_the_two_halves_of_the_network(name: str) -> None:
    net = made(name, num_classes=10, img_size=32)
    x = images(net)
    maps = net.forward_features(x)
    assert maps.ndim == 4
    assert torch.equal(net.forward_head(maps), net(x))
    pooled = net.forward_head(maps, pre_logits=True)
    assert tuple(pooled.shape) == (2, net.num_features)
    net.reset_classifier(0)
    assert torch.equal(net(x), pooled)
    net.reset_classifier(3)
    assert tuple(net(x).shape) == (2, 3)
    assert net.get_classifier() is net.net.get_submodule(net.classifier_name)


def test_what_has_no_classifier_says_so() -> None:
    net = made("all_cnn_c")
    x = images(net)
    assert torch.equal(net.forward_head(net.forward_features(x)), net(x))
    with pytest.raises(ValueError, match="more than one layer of this network depends on the number of classes"):
        net.reset_classifier(3)


def test_features_only_returns_the_maps_of_each_size() -> None:
    x = torch.randn(2, 3, 32, 32)
    net = timm.create_model("resnet20_sic", features_only=True).eval()
    assert [tuple(each.shape[1:]) for each in net(x)] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert (net.feature_info.channels(), net.feature_info.reduction()) == ([16, 32, 64], [1, 2, 4])
    last = timm.create_model("resnet20_sic", features_only=True, out_indices=(2,)).eval()
    assert [tuple(each.shape[1:]) for each in last(x)] == [(64, 8, 8)]


def test_a_folder_is_opened_for_other_classes_and_channels(tmp_path: Path, plain) -> None:
    """Built for these classes, it would have other layers: the budget depends on what the classifier costs."""
    model = plain("model=resnet20", "model/layer=grouped", "model.budget_ratio=1.5", config="complexity")["model"]
    trained = made(registry.FOLDERS, model=model, input={"num_classes": 1000, "size": 8, "channels": 3})
    save_for_hf(trained, str(tmp_path), safe_serialization=True)
    same = made(f"local-dir:{tmp_path}", pretrained=True)
    assert torch.equal(same(x := images(same, 8)), trained(x))
    other = made(f"local-dir:{tmp_path}", pretrained=True, num_classes=5, in_chans=1)
    assert tuple(other(images(other, 8)).shape) == (2, 5)
    theirs = trained.state_dict()
    differ = [name for name, each in other.state_dict().items() if not torch.equal(each, theirs[name])]
    assert differ == ["net.conv.weight", "net.fc.weight", "net.fc.bias"]
    grey = theirs["net.conv.weight"].sum(1, keepdim=True)  # as timm adapts a first convolution to grey images
    torch.testing.assert_close(other.state_dict()["net.conv.weight"], grey)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"img_size": (32, 48)}, "built for square images; nearest: 32"),
        ({"drop_rate": 0.1}, "leave it out"),
        ({"pretrained_cfg": "in1k"}, "come without weights"),
        ({"model_name": registry.FOLDERS}, "needs a description"),
        ({"model_name": registry.FOLDERS, "model": OF_TIMM | {"layer": {"_target_": "os.system"}}}, "is not called"),
    ],
    ids=str,
)
def test_refusals_say_what_to_do(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        timm.create_model(**{"model_name": "resnet20_sic"} | options)
