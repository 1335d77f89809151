"""A trained network as one file for other programs: torch.export's, ONNX, or its weights as safetensors.

All of them describe the network in their metadata, one JSON value a key, and take batches of any size.
"""

import copy
import io
import json
import logging
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..errors import first_line
from ..kernels.fused_gated_conv import FusedGatedConv
from ..layers import gated_layers
from ..layers.subdivided import Subdivided
from ..memory_format import plain_copy

log = logging.getLogger(__name__)
Metadata = Mapping[str, Any]
Run = Callable[[Tensor], Tensor]
WIDE = 256  # channels from which on ONNX Runtime and OpenVINO run a subdivided layer faster block by block
MOST_RUNS = 2  # in which a block's inputs may lie, to be read without copying channel by channel
ONNX_PACKAGES = "format=onnx needs onnx, onnxscript and onnxruntime: pip install onnx onnxscript onnxruntime"


def dense(net: nn.Module) -> nn.Module:
    """A copy of `net`, as built or deployed, made of operators that every runtime has; it computes the same.

    Gated convolutions compute every position, and subdivided ones become convolutions (`_convolutions`). The log says
    how many there were of each.
    """
    net = copy.deepcopy(net).eval().requires_grad_(False)
    for tensor in (*net.parameters(), *net.buffers()):
        tensor.data = plain_copy(tensor)
    skipping = [module for module in net.modules() if isinstance(module, FusedGatedConv)]
    for module in skipping:
        module.skips = False
    if gated := len(skipping) + len(gated_layers(net)):
        log.info(f"{gated} gated convolutions are exported as dense products: closed positions are computed too")
    subdivided = {name: module for name, module in net.named_modules() if isinstance(module, Subdivided)}
    made = {name: _convolutions(module) for name, module in subdivided.items()}
    for name, module in made.items():
        net.set_submodule(name, module)
    if subdivided:
        whole = sum(isinstance(module, nn.Conv2d) for module in made.values())
        log.info(
            f"{len(made)} subdivided convolutions are exported as dense ones: {whole} with zeros for the connections "
            f"they lack, {len(made) - whole} block by block"
        )
    return net


def _convolutions(layer: Subdivided) -> nn.Module:
    """What computes `layer` without its windows, which no engine runs fast, nor grouped convolutions of few channels.

    For a wide layer that is a convolution for each block of outputs that sees the same inputs, in ONNX Runtime and
    OpenVINO up to three times as fast as one with zeros in the place of missing connections, which narrow layers are.
    """
    blocks = len(layer.seen)
    runs = [_runs(seen) for seen in layer.seen.tolist()]
    is_wide = min(layer.geometry.in_channels, layer.geometry.out_channels) >= WIDE
    if blocks == 1 or not is_wide or max(map(len, runs)) > MOST_RUNS:
        return _conv(layer, layer.dense_weight(), layer.bias)
    biases = [None] * blocks if layer.bias is None else layer.bias.chunk(blocks)
    return _Blocks(runs, [_conv(layer, *each) for each in zip(layer.weight.chunk(blocks), biases, strict=True)])


class _Blocks(nn.Module):
    """Convolutions side by side, each of which sees its own runs of the input channels, first and last + 1."""

    def __init__(self, runs: list[list[tuple[int, int]]], convs: list[nn.Conv2d]) -> None:
        super().__init__()
        self.runs, self.convs = runs, nn.ModuleList(convs)

    def forward(self, x: Tensor) -> Tensor:
        seen = [torch.cat([x[:, first:end] for first, end in runs], 1) for runs in self.runs]
        return torch.cat([conv(each) for conv, each in zip(self.convs, seen, strict=True)], 1)


def _runs(channels: list[int]) -> list[tuple[int, int]]:
    """`channels` as runs of neighbours: (4, 5, 0, 1) is 4 to 6 and 0 to 2."""
    starts = [n for n, channel in enumerate(channels) if n == 0 or channel != channels[n - 1] + 1]
    return [(channels[n], channels[m - 1] + 1) for n, m in pairwise([*starts, len(channels)])]


def _conv(layer: Subdivided, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    g = layer.geometry
    conv = nn.Conv2d(weight.shape[1], len(weight), g.kernel_size, g.stride, g.padding, g.dilation, bias=False)
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return conv


def exported(net: nn.Module, image: tuple[int, int, int]) -> ExportedProgram:
    """`dense(net)` for batches (N, *image) of any N, recorded by torch.export.

    Raises ValueError where torch.export cannot record it.
    """
    batch = Dim("batch", min=1)
    try:
        with torch.no_grad():
            return torch.export.export(dense(net), (torch.zeros(2, *image),), dynamic_shapes=({0: batch},))
    except Exception as error:  # whatever the network's own code makes of symbolic shapes
        raise ValueError(f"torch.export cannot record {type(net).__name__} ({first_line(error)})") from error


def torch_export(program: ExportedProgram, metadata: Metadata) -> tuple[bytes, Run]:
    """The content of a file for torch.export.load, and what it computes once it is loaded again."""
    file = io.BytesIO()
    torch.export.save(program, file, extra_files=_texts(metadata))
    file.seek(0)
    return file.getvalue(), torch.export.load(file).module()


def onnx(program: ExportedProgram, metadata: Metadata, *, threads: int) -> tuple[bytes, Run]:
    """The content of an ONNX file (`images` -> `logits`), and what ONNX Runtime computes from it on CPU `threads`.

    Raises ValueError where packages are missing, or where the exporter has no translation for an operator.
    """
    content = onnx_file(program, metadata)
    return content, onnx_runtime(content, threads)


def onnx_file(program: ExportedProgram, metadata: Metadata) -> bytes:
    """The content of an ONNX file; raises ValueError as `onnx` does."""
    try:
        import onnxscript  # noqa: F401  (PyTorch's exporter takes it)
    except ImportError as error:
        raise ValueError(ONNX_PACKAGES) from error
    try:
        made = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ValueError(f"PyTorch cannot export this network to ONNX ({error.__cause__ or error})") from error
    assert made is not None
    made.model.metadata_props.update(_texts(metadata))
    return made.model_proto.SerializeToString()


def onnx_runtime(content: bytes, threads: int) -> Run:
    """What ONNX Runtime computes on CPU `threads` from an ONNX file of `onnx_file`, for batches of any size."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(ONNX_PACKAGES) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # its threads wait for work only in a call
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"images": images.contiguous().numpy()})
        return torch.from_numpy(logits)

    return run


def weights(net: nn.Module, metadata: Metadata) -> bytes:
    """The content of a safetensors file with the weights and buffers of `net`, as built or deployed, by their names."""
    return safetensors.torch.save({name: plain_copy(t) for name, t in net.state_dict().items()}, _texts(metadata))


def _texts(metadata: Metadata) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in metadata.items()}
