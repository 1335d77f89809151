"""What all tests share: one thread each, the real configuration composed as the command line would, a finished run."""

import copy
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # the tests run in two processes on two cores; read when torch is imported

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import nn

from conf import schema
from models.rebuild import Layer, Scope, Swap, rebuild, require_a_replacement, survey

ROOT = Path(__file__).parents[1]

# Tests pin, for each of these layers, which networks they refuse. A layer that is added need not be listed here.
PINNED_LAYERS = {
    *("bases", "bottleneck", "channelwise", "conv", "dilated", "fire", "ghost", "group_channelwise", "grouped", "lccl"),
    *("separable", "shift", "shuffle_unit", "sic", "sic_subdivided", "single_basis", "spatial_bottleneck"),
    *("spatial_bottleneck_subdivided", "subdivided"),
}


def choices(group: str) -> list[str]:
    """The names of all YAML files of a configuration group."""
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def replace(net: nn.Module, layer: Layer, scope: Scope, input_shape: tuple[int, int, int, int]) -> list[Swap]:
    """`layer` in every place of `net` that `scope` selects."""
    found = survey(net, scope, input_shape)
    swaps = rebuild(net, found, {place.name: layer for place in found.places})
    require_a_replacement(swaps)
    return swaps


@pytest.fixture(autouse=True)
def _indifferent_to_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where whoever runs the tests keeps runs and data is no matter; MLflow itself sets the last of these."""
    for name in ("RUN_ROOT", "DATA_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@functools.cache
def _composed_once(config: str, overrides: tuple[str, ...]) -> DictConfig:
    """Hydra takes about 70 ms for each, and many tests look at the same configuration; nothing is resolved yet."""
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return compose(config, list(overrides))


@pytest.fixture(scope="session")
def composed() -> Callable[..., DictConfig]:
    """composed("model=resnet20", ..., config="train"): what Hydra makes of these overrides, a copy for each caller."""

    def compose_(*overrides: str, config: str = "train") -> DictConfig:
        return copy.deepcopy(_composed_once(config, overrides))

    return compose_


@pytest.fixture(scope="session")
def plain(composed: Callable[..., DictConfig]) -> Callable[..., dict[str, Any]]:
    """As `composed`, resolved to plain values, without what still needs a value."""

    def plain_(*overrides: str, config: str = "train") -> dict[str, Any]:
        container = OmegaConf.to_container(composed(*overrides, config=config), resolve=True)
        assert isinstance(container, dict)
        return {str(key): value for key, value in container.items()}

    return plain_


class FinishedRun(NamedTuple):
    """A run's directory and what it said."""

    directory: Path
    stdout: str
    stderr: str


# Two epochs of 10 steps, with a schedule that does not depend on the end.
GATED = ["model=resnet20_lccl", "model.backbone.depth=8", "trainer.accelerator=cpu", "trainer.max_epochs=2"]
GATED += ["scheduler=multistep", "scheduler.milestones=[0.5]", "data.batch_size=128"]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """`python train.py` with GATED in a process of its own; whoever asks for it only looks."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    command = [sys.executable, "train.py", *GATED, f"run_dir={directory}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return FinishedRun(directory, done.stdout, done.stderr)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that the workers end together."""
    with_slow = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: item.path not in with_slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files that use tests/processes.py, and those of tests/slurm, each go to one worker; other tests to any.

    So there is one fork server and one cluster.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneServer(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith("tests/slurm/"):
                return "slurm"
            return "processes" if _uses_processes(nodeid.partition("::")[0]) else nodeid

    return OneServer(config, log)


@functools.cache
def _uses_processes(file: str) -> bool:
    text = (ROOT / file).read_text()
    uses = ("from tests import processes\n", "from tests.resumption import ", "from tests.fault_campaign import ")
    return any(line in text for line in uses)
