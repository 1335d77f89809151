"""Hydra's way to launchers that it does not bring: hydra/launcher=joblib, submitit_local and submitit_slurm.

They start the processes of jobs and need nothing of Hydra in them. The packages of launchers that there are would give
up a sweep at the first job that ends without a word.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from sweeps.job import Process


class _Processes(Launcher):
    """Starts a process for each job."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.master = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; what has become of them, the directories of their runs say."""
        self.run([self._process(overrides) for overrides in job_overrides])
        return []

    @abstractmethod
    def run(self, jobs: Sequence["Process"]) -> None:
        """Run all `jobs`, and return when that is done."""

    def _process(self, overrides: Sequence[str]) -> "Process":
        # Here and below, not at the top: every command of this project looks at its plugins.
        from sweeps.job import process_of

        return process_of(self.context.config_loader.load_sweep_config(self.master, list(overrides)))


class Joblib(_Processes):
    """`n_jobs` processes at the same time on this machine."""

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs

    def run(self, jobs: Sequence["Process"]) -> None:
        from joblib import Parallel, delayed

        from sweeps.job import train_apart

        Parallel(self.n_jobs, backend="threading")(delayed(train_apart)(job) for job in jobs)


class Submitit(_Processes):
    """Jobs of `cluster` (slurm, or local: this machine), `array_parallelism` at the same time.

    `parameters` are those of submitit; its files and what the jobs print are kept in `submitit_folder`.
    """

    def __init__(self, cluster: str, submitit_folder: str, array_parallelism: int, **parameters: Any) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise ValueError(f"hydra/launcher=submitit_{cluster} needs submitit: pip install submitit") from error
        self.cluster, self.folder, self.parallel = cluster, submitit_folder, array_parallelism
        self.parameters = {
            name: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for name, value in parameters.items()
        }

    def run(self, jobs: Sequence["Process"]) -> None:
        from sweeps.submit import run_all

        run_all(jobs, self.cluster, self.folder, self.parallel, self.parameters)
