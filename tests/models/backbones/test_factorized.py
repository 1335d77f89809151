"""The factorized network: the totals of the paper, its formula and its sizes."""

from functools import partial

import pytest
import torch
from hydra.utils import instantiate

from models.backbones.factorized import factorized
from models.build import build, paper_input
from models.layers.bases import Bases

# arXiv:1608.04337: 470 M multiplications with 2.8 M parameters, 845 M, 1,172 M; 381 M from "42 times less than VGG-16".
PAPER = [
    ("factorized_470m", 470e6),
    ("factorized_845m", 845e6),
    ("factorized_1172m", 1172e6),
    ("factorized_381m", 381e6),
]


@pytest.mark.parametrize(("preset", "macs"), PAPER)
def test_totals_within_two_per_cent(composed, preset: str, macs: float) -> None:
    model = instantiate(composed(f"model={preset}", config="complexity").model, _convert_="all")
    with torch.device("meta"):
        cost = build(**model, input=paper_input(model["backbone"])).cost
    assert cost.macs == pytest.approx(macs, rel=0.02)
    if preset == "factorized_470m":
        assert cost.params == pytest.approx(2.8e6, rel=0.02)


def test_maps_are_108_36_18_and_6_wide() -> None:
    net = factorized(10, layers_per_stage=1, layer=partial(Bases, num_bases=1)).eval()
    sizes = []
    for module in net[:4]:
        module.register_forward_hook(lambda module, args, output: sizes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 221, 221)).shape == (1, 10)
    assert sizes == [(64, 108, 108), (128, 36, 36), (256, 18, 18), (512, 6, 6)]


def test_refuses_what_is_too_small() -> None:
    with pytest.raises(ValueError, match="input_size=32: .* nearest: 77"):
        factorized(10, 32, layers_per_stage=1, layer=Bases)
    assert factorized(10, 77, layers_per_stage=1, layer=Bases).eval()(torch.zeros(1, 3, 77, 77)).shape == (1, 10)
    with pytest.raises(ValueError, match="layers_per_stage=0: .* nearest: 1"):
        factorized(layers_per_stage=0, layer=Bases)
