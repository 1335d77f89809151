"""The root schemas: which keys a configuration has and of what type.

What a group holds is checked against the signatures of what it names (conf/binding.py).
"""

import re
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from conf.presets import register_backbones


@dataclass
class Model:
    """A network: a backbone, the layer that replaces its convolutions and the scope that selects them.

    A budget (MACs an image, how many times fewer than the backbone's own, or milliseconds an image on this machine)
    chooses the layer's knob.
    """

    backbone: dict[str, Any] = field(default_factory=dict)
    layer: dict[str, Any] = field(default_factory=dict)
    scope: dict[str, Any] = field(default_factory=dict)
    budget_macs: float | None = None
    budget_ratio: float | None = None
    budget_ms: float | None = None


@dataclass
class GatePenalty:
    """Weights of the elastic penalty on gate maps (models/training/penalty.py)."""

    l2: float = MISSING
    l1: float = MISSING


@dataclass
class Distillation:
    """How a network learns from its teacher (models/training/distillation.py)."""

    temperature: float = MISSING
    weight: float = MISSING
    features: float | None = MISSING


@dataclass
class Train:
    """python train.py"""

    model: Model = field(default_factory=Model)
    data: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    init: str | None = MISSING
    seed: int = MISSING
    label_smoothing: float = MISSING
    lr_batch_size: int | None = MISSING
    teacher: str | None = MISSING
    distillation: Distillation = field(default_factory=Distillation)
    gate_penalty: GatePenalty = field(default_factory=GatePenalty)
    channels_last: bool = MISSING
    compile: bool = MISSING
    stop_signals: list[str] = MISSING
    run_dir: str | None = MISSING
    dry: bool = MISSING


class Format(Enum):
    """How a script prints."""

    table = "table"
    json = "json"


class CountFormat(Enum):
    """How the counts of a network are printed; `row` is one line of a table over many networks."""

    table = "table"
    json = "json"
    row = "row"


@dataclass
class Complexity:
    """python scripts/complexity.py"""

    model: Model = field(default_factory=Model)
    data: dict[str, Any] | None = None
    format: CountFormat = MISSING


class TableFormat(Enum):
    """How the comparison with published figures is printed."""

    table = "table"
    json = "json"
    markdown = "markdown"
    html = "html"


@dataclass
class Tables:
    """python scripts/tables.py"""

    format: TableFormat = MISSING
    paper: str | None = None


@dataclass
class Benchmark:
    """python scripts/benchmark.py"""

    benchmark: dict[str, Any] = field(default_factory=dict)
    format: Format = MISSING


@dataclass
class MakeShards:
    """python scripts/make_shards.py"""

    root: str = MISSING
    out: str = MISSING
    images_per_shard: int = MISSING


@dataclass
class CheckData:
    """python scripts/check_data.py"""

    root: str = MISSING
    num_workers: int | None = MISSING
    format: Format = MISSING


@dataclass
class Runs:
    """python scripts/runs.py"""

    folder: str = MISSING
    format: Format = MISSING


class ReportFormat(Enum):
    """How a report is written; `png` is its picture alone."""

    html = "html"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"
    png = "png"


@dataclass
class Report:
    """python scripts/report.py"""

    folders: list[str] = MISSING
    format: ReportFormat = MISSING
    out: str | None = MISSING


class EvaluationFormat(Enum):
    """How an evaluation is written; `csv` is its confusion matrix, `png` the picture of that."""

    table = "table"
    json = "json"
    csv = "csv"
    png = "png"


@dataclass
class Evaluate:
    """python scripts/evaluate.py"""

    run: str = MISSING
    data: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    deploy: bool = MISSING
    format: EvaluationFormat = MISSING
    out: str | None = MISSING


class PredictionFormat(Enum):
    """How predictions are printed; `json` is one object a line."""

    table = "table"
    json = "json"
    csv = "csv"


@dataclass
class Predict:
    """python scripts/predict.py"""

    run: str = MISSING
    images: Any = MISSING  # a word, or a list of them
    maps: str | None = MISSING
    batch_size: int = MISSING
    num_workers: int | None = MISSING
    format: PredictionFormat = MISSING


class ExportFormat(Enum):
    """What a network becomes: a file, or for `hub` a folder."""

    onnx = "onnx"
    torch_export = "torch_export"
    safetensors = "safetensors"
    hub = "hub"


@dataclass
class Export:
    """python scripts/export.py"""

    run: str = MISSING
    format: ExportFormat = MISSING
    out: str | None = MISSING
    deploy: bool = MISSING
    push: str | None = MISSING


SCHEMAS = {
    "train": Train,
    "complexity": Complexity,
    "tables": Tables,
    "benchmark": Benchmark,
    "make_shards": MakeShards,
    "check_data": CheckData,
    "runs": Runs,
    "report": Report,
    "evaluate": Evaluate,
    "predict": Predict,
    "export": Export,
}


def register() -> None:
    """Make known to Hydra the schemas by name, the backbones as presets, and the functions that conf/ uses."""
    OmegaConf.register_new_resolver("one_word", _one_word, replace=True)
    OmegaConf.register_new_resolver("processes", _processes, replace=True)
    OmegaConf.register_new_resolver("last_part", lambda path: Path(str(path)).name, replace=True)
    register_backbones()
    _leave_launchers_to_us()
    for name, schema in SCHEMAS.items():
        node = OmegaConf.structured(schema)
        _open_groups(node)
        ConfigStore.instance().store(name=f"{name}_schema", node=node)


def _open_groups(node: DictConfig) -> None:
    """Let a group take arguments that its YAML does not list; whether there are such, conf/binding.py says."""
    for key in node:
        child = None if OmegaConf.is_missing(node, key) else node[key]
        if isinstance(child, DictConfig):
            if is_dataclass(OmegaConf.get_type(child)):
                _open_groups(child)
            else:
                OmegaConf.set_struct(child, False)


def _one_word(path: str | None) -> str:
    """`path` as a name without separators, of at most 128 characters."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", str(path)).strip("-")[-128:]


def _leave_launchers_to_us() -> None:
    """Hydra would take what the packages of launchers bring for the schemas of our files of the same names."""
    Plugins.instance()  # it is now that they bring it
    theirs = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for path in (Path(__file__).parent / "hydra" / "launcher").glob("*.yaml"):
        theirs.pop(path.name, None)


def _processes(devices: Any) -> int:
    """How many processes `trainer.devices` are on a node; where it takes what there is, a job is given one device."""
    if isinstance(devices, ListConfig):
        return len(devices)
    return devices if isinstance(devices, int) and devices > 0 else 1
