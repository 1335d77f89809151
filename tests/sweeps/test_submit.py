"""Launchers, without a cluster: what they ask for, what they make of what Slurm says. tests/slurm has a real one."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from conf import schema
from hydra_plugins.cheapconv.launchers import Submitit
from tests.conftest import ROOT, choices


@pytest.fixture
def _in_conf() -> Iterator[None]:
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        yield


def launcher(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of the launcher that `overrides` choose."""
    config = compose("train", list(overrides), return_hydra_config=True)
    OmegaConf.resolve(config.hydra.launcher)
    return {str(key): value for key, value in config.hydra.launcher.items()}


@pytest.mark.usefixtures("_in_conf")
@pytest.mark.parametrize("name", choices("hydra/launcher"))
def test_our_files_are_taken_as_they_are(name: str) -> None:
    """Also where packages are installed that bring launchers of the same names."""
    expected = OmegaConf.load(ROOT / "conf" / "hydra" / "launcher" / f"{name}.yaml")
    assert launcher(f"hydra/launcher={name}").keys() == expected.keys()


@pytest.mark.usefixtures("_in_conf")
@pytest.mark.parametrize(
    ("devices", "nodes", "tasks"),
    [("auto", 1, 1), ("8", 1, 8), ("4", 2, 4), ("[0,3]", 1, 2), ("-1", 1, 1)],
)
def test_a_slurm_job_has_a_task_and_a_gpu_for_each_process(devices: str, nodes: int, tasks: int) -> None:
    asked = launcher("hydra/launcher=submitit_slurm", f"trainer.devices={devices}", f"trainer.num_nodes={nodes}")
    assert (asked["nodes"], asked["tasks_per_node"], asked["gpus_per_node"]) == (nodes, tasks, tasks)


def test_a_missing_package_is_named_and_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match="hydra/launcher=submitit_slurm needs submitit: pip install submitit"):
        Submitit(cluster="slurm", submitit_folder="", array_parallelism=1)


def test_what_squeue_says_of_jobs() -> None:
    """As Slurm 22.05 prints it; a job that it has forgotten has ended, one that it has not listed yet has not."""
    from sweeps.squeue import Squeue

    states = Squeue()
    for job in ("7_0", "7_1", "7_2", "8"):
        states.register_job(job)
    states._info_dict = states.read_info("7_2|COMPLETED|n1\n7_1|CANCELLED|\n7_0|SUSPENDED|n2\n9|RUNNING|n1\n")
    assert [job for job in ("7_0", "7_1", "7_2", "8") if states.is_done(job, mode="cache")] == ["7_1", "7_2"]
    states._info_dict.update(states.read_info("9|RUNNING|n1\n"))
    assert [job for job in ("7_0", "7_1", "7_2", "8") if states.is_done(job, mode="cache")] == ["7_0", "7_1", "7_2"]
