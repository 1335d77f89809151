"""What identifies a run: its names, its plain configuration and its directory, all functions of the configuration."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

CONFIG = "config.json"
ANY_NETWORK = ("timm", "torchvision")  # backbone choices that take the network's own name


@dataclass(frozen=True)
class Run:
    """One run: `identity` (model, backbone, layer, scope, data, seed), resolved `config`, `directory`."""

    identity: dict[str, Any]
    config: dict[str, Any]
    directory: Path


def settle(config: DictConfig) -> Run:
    """Name the run and fill in `run_dir` where it is null: one directory for one configuration and seed.

    No clock and no process number goes into it, so that the same command finds its run again.
    """
    plain = plain_config(config)
    data = HydraConfig.get().runtime.choices["data"]
    identity = network_names(plain) | {"data": data, "seed": plain["seed"]}
    if config.run_dir is None:
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]
        name = f"{identity['model']}-{identity['data']}-seed{identity['seed']}-{digest}"
        config.run_dir = str(Path(os.environ.get("RUN_ROOT", "runs")) / name)
        plain = plain_config(config)
    return Run(identity, plain, Path(plain["run_dir"]))


def network_names(plain: dict[str, Any]) -> dict[str, str]:
    """What the model of a plain configuration is called: its names as model, backbone, layer and scope."""
    hydra = HydraConfig.get()
    chosen = {group: str(choice) for group, choice in hydra.runtime.choices.items()}
    backbone, layer, scope = (chosen[f"model/{part}"] for part in ("backbone", "layer", "scope"))
    if backbone in ANY_NETWORK:
        backbone = plain["model"]["backbone"]["name"]
    # A preset whose parts were exchanged on the command line is no longer that preset.
    exchanged = any(override.startswith("model/") for override in hydra.overrides.task)
    parts = [backbone, layer if layer != "conv" else "", scope if scope != "spatial" else ""]
    model = "_".join(filter(None, parts)) if exchanged else chosen["model"]
    return {"model": model, "backbone": backbone, "layer": layer, "scope": scope}


def claim(run: Run) -> None:
    """Make the run's directory and keep its configuration there; OSError where that cannot be written."""
    path = run.directory / CONFIG
    text = json.dumps(run.config, indent=1) + "\n"
    try:
        run.directory.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise OSError(f"cannot write to run_dir {run.directory} ({error.strerror}); set run_dir or RUN_ROOT") from error


def refuse_foreign(run: Run) -> None:
    """ValueError where the run's directory holds finished work of another configuration."""
    path = run.directory / CONFIG
    work = [run.directory / name for name in ("last.ckpt", "result.json")]
    if any(file.is_file() for file in work) and path.is_file() and json.loads(path.read_text()) != run.config:
        raise ValueError(f"{run.directory} holds a run with another configuration ({path}); choose another run_dir")


def plain_config(config: DictConfig) -> dict[str, Any]:
    """`config` resolved to plain values; a missing one is an error."""
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
