"""The command that a run was started with."""

import shlex
from typing import Any

from hydra.core.hydra_config import HydraConfig

NOT_TOLD = ("run_dir=", "dry=")  # where a run lies is no part of it


def arguments(hydra: Any) -> list[str]:
    """What train.py was given, by `hydra`, Hydra's own node of its configuration."""
    sources = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    return [f"--config-dir={path.removeprefix('file://')}" for path in sources] + list(hydra.overrides.task)


def command() -> str:
    """`python train.py ...` as the shell takes it: the command of this process, without its run directory."""
    told = [word for word in arguments(HydraConfig.get()) if not word.startswith(NOT_TOLD)]
    return shlex.join(["python", "train.py", *told])
