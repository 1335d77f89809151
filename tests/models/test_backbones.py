"""Backbones: shapes, the small-input stem and what is refused."""

import logging

import pytest
import torch

from models.backbones.cifar_resnet import cifar_resnet
from models.backbones.library import library_network


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("size", [8, 13, 16, 32])
def test_cifar_resnet_takes_any_size_from_8(shortcut, size: int) -> None:
    assert cifar_resnet(7, size, 1, depth=8, shortcut=shortcut)(torch.zeros(2, 1, size, size)).shape == (2, 7)


def test_shortcut_a_is_the_subsampled_input_between_zero_channels() -> None:
    shortcut = cifar_resnet(depth=8).get_submodule("stage2.0.shortcut")
    x = torch.randn(2, 16, 5, 5)
    y = shortcut(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert y[:, :8].count_nonzero() == y[:, 24:].count_nonzero() == 0


@pytest.mark.parametrize(("depth", "nearest"), [(21, 20), (24, 26), (3, 8)])
def test_cifar_resnet_refuses_other_depths(depth: int, nearest: int) -> None:
    with pytest.raises(ValueError, match=f"depth={depth}: .* nearest: {nearest}"):
        cifar_resnet(depth=depth)


STEMS = [("resnet18", "timm", True), ("densenet121", "timm", True), ("mobilenetv2_100", "timm", False)]


@pytest.mark.parametrize(("name", "library", "pools"), STEMS)
def test_small_inputs_get_a_small_stem_and_are_told(name, library, pools, caplog) -> None:
    with caplog.at_level(logging.INFO):
        net = library_network(10, 32, 1, name=name, library=library)
    assert f"{name} at 32 px: the" in caplog.text
    assert "3x3 stride-1" in caplog.text
    assert ("pooling is left out" in caplog.text) == pools
    sizes = []
    convs = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
    for conv in convs[:2]:
        conv.register_forward_hook(lambda module, args, output: sizes.append(output.shape[-1]))
    assert net.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 10)
    assert sizes == [32, 32]


def test_large_inputs_keep_the_stem(caplog) -> None:
    with caplog.at_level(logging.INFO):
        net = library_network(10, 65, 3, name="resnet18")
    assert not caplog.text
    assert net.get_submodule("conv1").stride == (2, 2)


def test_vgg_keeps_its_stem_and_its_pooling_at_32_px(caplog) -> None:
    with caplog.at_level(logging.INFO), torch.device("meta"):
        net = library_network(10, 32, 3, name="vgg16_bn", library="torchvision")
    assert not caplog.text
    assert sum(isinstance(module, torch.nn.MaxPool2d) for module in net.modules()) == 5


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_an_unknown_name_is_answered_with_near_ones(library) -> None:
    with pytest.raises(ValueError, match=f"{library} has no network 'resnet8'; near it: .*resnet18"):
        library_network(name="resnet8", library=library)


@pytest.mark.parametrize(("name", "nearest"), [("mobilenetv2_100", 17), ("resnet18", 9)])
def test_what_leaves_less_than_2_by_2_is_refused(name: str, nearest: int) -> None:
    with torch.device("meta"):
        with pytest.raises(ValueError, match=f"input_size=8: {name} .* nearest: {nearest}"):
            library_network(10, 8, 3, name=name)
        library_network(10, nearest, 3, name=name)


def test_a_network_that_takes_no_small_stem_keeps_its_own(caplog) -> None:
    """Only one of the parallel branches of RepVGG's stem would become the small one."""
    with torch.device("meta"), caplog.at_level(logging.INFO):
        with pytest.raises(ValueError, match="input_size=32: repvgg_a0 must have 2 x 2 .*; nearest: 33"):
            library_network(10, 32, 3, name="repvgg_a0")
        net = library_network(10, 33, 3, name="repvgg_a0")
    assert not caplog.text
    assert [conv.stride for conv in net.modules() if isinstance(conv, torch.nn.Conv2d)][:2] == [(2, 2), (2, 2)]


def test_patches_stay_as_large_as_they_are(caplog) -> None:
    """This network takes any number of patches: 1024 of them at 32 px would be absurd."""
    with torch.device("meta"), caplog.at_level(logging.INFO):
        net = library_network(10, 32, 3, name="vit_small_patch16_dinov3")
    assert not caplog.text
    assert net.get_submodule("patch_embed.proj").stride == (16, 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "library", "size", "nearest"),
    [
        ("inception_v3", "torchvision", 70, 107),
        ("vit_b_16", "torchvision", 100, 112),
        ("vit_tiny_patch16_224", "timm", 16, 32),
        ("botnet26t_256", "timm", 300, 288),
        ("vgg16", "torchvision", 1, 32),
        ("convnext_atto", "timm", 8, 16),
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(name: str, library, size: int, nearest: int) -> None:
    with torch.device("meta"):
        with pytest.raises(ValueError, match=f"input_size={size}: {name} .*; nearest: {nearest}$"):
            library_network(10, size, 3, name=name, library=library)
        library_network(10, nearest, 3, name=name, library=library)


@pytest.mark.parametrize(
    ("name", "library", "size"),
    [
        ("vit_tiny_patch16_224", "timm", 32),
        ("swin_tiny_patch4_window7_224", "timm", 96),
        ("vit_b_16", "torchvision", 96),
        ("vgg11", "timm", 224),
        ("bat_resnext26ts", "timm", 256),  # its last convolution larger than 1x1 is in a side branch, on 1 x 1
        ("maxvit_t", "torchvision", 448),
    ],
)
def test_sizes_that_networks_take(name: str, library, size: int) -> None:
    with torch.device("meta"):
        net = library_network(10, size, 1, name=name, library=library)
        assert net(torch.zeros(2, 1, size, size)).shape == (2, 10)


def test_what_returns_no_logits_is_refused() -> None:
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=r"gemma4.*, returns \(1, 256, 768\), not logits of \(1, 10"),
    ):
        library_network(10, 768, 3, name="gemma4_vit_167m_enc")


def test_an_argument_that_a_network_does_not_take_is_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="vit_tiny.* cannot be made .*output_stride"):
        library_network(10, 224, 3, name="vit_tiny_patch16_224", output_stride=8)
