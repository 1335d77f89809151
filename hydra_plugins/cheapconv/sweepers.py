"""Hydra's way to sweepers that it does not bring: it looks for them in every folder named hydra_plugins."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class Grid(Sweeper):
    """Every combination of the values that are listed: hydra/sweeper=grid, the default of train.py -m.

    `params` are overrides as a mapping, for an experiment that is a sweep; the command's own come after them.
    """

    def __init__(self, params: dict[str, Any] | None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.master = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs; SystemExit with the status of the sweep unless it is 0."""
        # Here, not at the top: every command of this project looks at its plugins.
        from sweeps.sweep import start

        texts = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        overrides = OverridesParser.create(config_loader=self.context.config_loader).parse_overrides(texts)
        start(self.master, BasicSweeper.split_arguments(overrides, None)[0], self._compose, self._launch)

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        config = self.context.config_loader.load_sweep_config(self.master, list(overrides))
        with open_dict(config):
            HydraConfig.instance().set_config(config)
            del config["hydra"]
        return config

    def _launch(self, overrides: Sequence[Sequence[str]]) -> None:
        launcher = Plugins.instance().instantiate_launcher(self.context, self.task, self.master)
        launcher.launch([list(each) for each in overrides], initial_job_idx=0)
