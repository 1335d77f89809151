"""Export networks to ONNX and compare them in ONNX Runtime with themselves: one line of JSON each.

    python tests/models/inference/export_every_network.py > tests/models/inference/every_backbone_in_onnx.jsonl
    python tests/models/inference/export_every_network.py conf:vgg16_bn timm:resnet18

The first takes every backbone of conf/ and half an hour; test_export.py looks at what it wrote. BatchNorms have random
statistics, weights and biases. `difference` is the largest of a logit, `largest` the largest logit: untrained networks
without a last BatchNorm have large ones. `reason` says why a network cannot be exported. `seconds` are those of the
clock, whatever else the machine did.
"""

import json
import sys
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch

from conf import schema
from models.inference import export
from tests.models.inference.deploy_every_network import names, randomised


def row(name: str) -> dict[str, Any]:
    start = perf_counter()
    net, shape = randomised(name)
    try:
        content, run = export.onnx(export.exported(net.eval(), shape), {}, threads=1)
    except ValueError as refusal:
        return {"name": name, "reason": str(refusal)}
    images = torch.randn(3, *shape)
    with torch.no_grad():
        expected = net(images)
    found = {"difference": (run(images) - expected).abs().max().item(), "largest": expected.abs().max().item()}
    return {"name": name, **found, "megabytes": len(content) / 1e6, "seconds": round(perf_counter() - start, 1)}


def main() -> None:
    schema.register()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for name in sys.argv[1:] or [name for name in names() if name.startswith("conf:")]:
        print(json.dumps(row(name)), flush=True)


if __name__ == "__main__":
    main()
