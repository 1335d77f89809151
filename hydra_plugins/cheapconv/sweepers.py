"""Hydra's way to sweepers that it does not bring: it looks for them in every folder named hydra_plugins."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

Params = Mapping[str, Any]


class _Sweeper(Sweeper):
    """What the sweepers here have in common: the overrides of an experiment that is a sweep, as mappings.

    The command's own overrides come after them.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.master = hydra_context, task_function, config

    def _parse(self, params: Params, arguments: list[str]) -> list[Override]:
        texts = {text.partition("=")[0]: text for text in arguments}
        texts = {key: f"{key}={value}" for key, value in params.items()} | texts
        return OverridesParser.create(config_loader=self.context.config_loader).parse_overrides(list(texts.values()))

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        config = self.context.config_loader.load_sweep_config(self.master, list(overrides))
        with open_dict(config):
            HydraConfig.instance().set_config(config)
            del config["hydra"]
        return config

    def _launch(self, overrides: Sequence[Sequence[str]]) -> None:
        launcher = Plugins.instance().instantiate_launcher(self.context, self.task, self.master)
        launcher.launch([list(each) for each in overrides], initial_job_idx=0)


# The imports below are not at the top: every command of this project looks at its plugins.


class Grid(_Sweeper):
    """Every combination of the values that are listed: hydra/sweeper=grid, the default of train.py -m.

    Of several `params` each is a grid of its own, and the sweep has the jobs of all of them.
    """

    def __init__(self, params: Params | Sequence[Params] | None) -> None:
        self.grids = [params] if isinstance(params, Mapping) else params or [{}]

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs; SystemExit with the status of the sweep unless it is 0."""
        from sweeps.sweep import start

        grids = [BasicSweeper.split_arguments(self._parse(grid, arguments), None)[0] for grid in self.grids]
        start(self.master, [job for grid in grids for job in grid], self._compose, self._launch)


class Optuna(_Sweeper):
    """A search with two objectives: hydra/sweeper=optuna. conf/hydra/sweeper/optuna.yaml says what the values mean."""

    def __init__(
        self,
        params: dict[str, Any] | None,
        trials: int = 20,
        parallel: int = 1,
        cost: str = "macs",
        prune: bool = True,
        storage: str | None = None,
    ) -> None:
        self.params = params or {}
        self.trials, self.parallel, self.cost, self.prune, self.storage = trials, parallel, cost, prune, storage

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until there are as many; SystemExit with the status of the search unless it is 0."""
        if not isinstance(self.params, Mapping):
            raise ValueError("hydra.sweeper.params holds several grids, which no search takes; leave out hydra/sweeper")
        try:
            from sweeps.search import Search, Wanted
        except ModuleNotFoundError as absent:
            raise ValueError(f"hydra/sweeper=optuna needs {absent.name}: pip install 'optuna>=5'") from None

        wanted = Wanted(self.trials, self.parallel, self.cost, self.prune)
        Search(self.master, self._parse(self.params, arguments), wanted, self.storage).run(self._compose, self._launch)
