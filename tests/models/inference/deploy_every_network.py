"""Deploy networks of timm, of torchvision and of conf/ and compare them with themselves: one line of JSON each.

    python tests/models/inference/deploy_every_network.py > rows.jsonl                 (everything; hours)
    python tests/models/inference/deploy_every_network.py timm:resnet18 conf:vgg16_bn

BatchNorms have random statistics, weights and biases; arithmetic is in double precision, so that a difference is a
mistake and not rounding that many layers have magnified.
"""

import json
import sys
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import timm
import torch
import torchvision
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from conf import schema
from models.build import paper_input
from models.inference.deploy import deploy
from models.kernels.fused_conv import FusedConv
from tests.conftest import ROOT, choices
from tests.models.inference.deployed import randomise

ROUNDING = 1e-8  # of the largest output, in double precision
ANY_NETWORK = ("timm", "torchvision")  # backbone choices without a network of their own


def names() -> list[str]:
    libraries = {"timm": timm.list_models(), "torchvision": torchvision.models.list_models(module=torchvision.models)}
    own = [f"conf:{name}" for name in choices("model/backbone") if name not in ANY_NETWORK]
    return own + [f"{library}:{name}" for library, known in libraries.items() for name in known]


def network(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network and the shape of an image for it."""
    library, _, model = name.partition(":")
    if library == "conf":
        with initialize_config_dir(str(ROOT / "conf"), version_base=None):
            make = instantiate(compose("train", [f"model/backbone={model}"]).model.backbone, _convert_="all")
        data = paper_input(make)
        return make(num_classes=10, input_size=data.size, in_channels=data.channels), data.shape
    if library == "timm":
        net = timm.create_model(model, num_classes=10)
        return net, net.default_cfg["input_size"]
    net = torchvision.models.get_model(model, weights=None, num_classes=10)
    return net, (3, 299 if model == "inception_v3" else 224, 299 if model == "inception_v3" else 224)


def randomised(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """As `network`, with random statistics, the same each time, and without weights that are all zero."""
    torch.manual_seed(0)
    net, shape = network(name)
    randomise(net)
    for parameter in net.parameters():  # of a head that starts at zero every output would be zero
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return net, shape


def row(name: str) -> dict[str, Any]:
    start = perf_counter()
    net, shape = randomised(name)
    net, images = net.double().eval(), torch.randn(1, *shape, dtype=torch.double)
    found: dict[str, Any] = {"name": name, "convs": sum(isinstance(m, nn.Conv2d) for m in net.modules())}
    try:
        deployed = deploy(net)
    except ValueError as refusal:
        return found | {"status": "refused", "reason": str(refusal)}
    found["fused"] = sum(isinstance(module, FusedConv) for module in deployed.modules())
    with torch.no_grad():
        expected, got = net(images), deployed(images)
    return found | compared(got, expected) | {"seconds": round(perf_counter() - start, 1)}


def compared(got: Any, expected: Any) -> dict[str, Any]:
    if not isinstance(expected, Tensor) or not expected.isfinite().all():
        same = isinstance(expected, Tensor) and torch.equal(got.isfinite(), expected.isfinite())
        return {"status": "not finite", "reason": f"{type(expected).__name__}, deployed likewise: {same}"}
    error = ((got - expected).abs().max() / expected.abs().max()).item()
    return {"status": "equal" if error < ROUNDING else "DIFFERENT", "error": error}


def main() -> None:
    schema.register()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for name in sys.argv[1:] or names():
        try:
            found = row(name)
        except Exception as failure:  # of the libraries: the sweep goes on, and the row says so
            found = {"name": name, "status": "failed", "reason": f"{type(failure).__name__}: {failure}"[:300]}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
