"""Search for the networks that no other beats in accuracy and cost at once: Optuna proposes, a launcher trains.

Any number of processes, here or elsewhere, may run the same command: they share one study. A trial whose process is
gone is taken up by the next one, and its run goes on from its checkpoint.
"""

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import sleep

import optuna
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from callbacks.pruning import PRUNED
from conf.lock import RunningElsewhereError, locked, owner, taking_turns
from conf.logs import log_to_stderr
from conf.stop import STOPPED, asked_by, noting
from models.run_directory import write_whole
from sweeps.dry import built
from sweeps.outcome import State, outcome
from sweeps.plan import Job, Overrides, plan, quoted
from sweeps.search_table import RUN, search_table, shortened
from sweeps.space import split
from sweeps.sweep import Launch, require_one_process
from sweeps.watch import watching

log = logging.getLogger(__name__)
COSTS = ("macs", "ms")
PATIENCE = 5.0  # seconds


@dataclass(frozen=True)
class Wanted:
    """How much to search and for what; conf/hydra/sweeper/optuna.yaml says what each means."""

    trials: int
    parallel: int
    cost: str
    prune: bool

    def __post_init__(self) -> None:
        for name in ("trials", "parallel"):
            if getattr(self, name) < 1:
                raise ValueError(f"hydra.sweeper.{name}={getattr(self, name)}: must be at least 1")
        if self.cost not in COSTS:
            raise ValueError(f"hydra.sweeper.cost={self.cost}: no such choice; there are: {', '.join(COSTS)}")


class Search:
    """The search of one command: what varies in `overrides` decides which study it is, together with what does not."""

    def __init__(self, config: DictConfig, overrides: Sequence[Override], wanted: Wanted, storage: str | None) -> None:
        log_to_stderr()
        require_one_process()
        self.config, self.wanted = config, wanted
        self.fixed, self.space = split(overrides)
        identity = json.dumps([sorted(self.fixed), {key: repr(self.space[key]) for key in self.space}, wanted.cost])
        name = f"search-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
        self.folder = Path(os.environ.get("RUN_ROOT", "runs")).absolute() / name
        self.folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        with taking_turns(self.folder):
            self.study = optuna.create_study(
                storage=storage or _journal(self.folder),
                study_name=name,
                directions=["maximize", "minimize"],
                load_if_exists=True,
            )

    def run(self, compose: Callable[[Overrides], DictConfig], launch: Launch) -> None:
        """Run trials until there are as many as wanted, then print the table; SystemExit(75) where one is not over."""
        log.info(f"{self.folder}: {len(self._over())} of {self.wanted.trials} trials are over")
        with noting(self.config.stop_signals):
            while not asked_by():
                with ExitStack() as owned:
                    taken = self._take(owned)
                    if not taken:
                        break
                    self._train(taken, compose, launch)
        print(search_table(self.study, self.folder, self.wanted.cost))
        if len(self._over()) < self.wanted.trials:
            log.info("not all trials are over; the same command goes on")
            raise SystemExit(STOPPED)

    def _over(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])

    def _take(self, owned: ExitStack) -> list[FrozenTrial]:
        """Trials that this process now owns: first those whose process is gone, then new ones."""
        taken: list[FrozenTrial] = []
        with taking_turns(self.folder):
            trials = self.study.get_trials(deepcopy=False)
            for trial in trials:
                if trial.state is TrialState.RUNNING and len(taken) < self.wanted.parallel:
                    self._own(trial, taken, owned)
            for number in range(len(trials), self.wanted.trials):
                if len(taken) < self.wanted.parallel:
                    # A sampler of its own for each trial: what it proposes follows from the seed and the trials so far.
                    self.study.sampler = TPESampler(seed=self.config.seed + number, constant_liar=True)
                    asked = self.study.ask(self.space)
                    self._own(self.study.trials[asked.number], taken, owned)
        return taken

    def _own(self, trial: FrozenTrial, taken: list[FrozenTrial], owned: ExitStack) -> None:
        folder = self._of(trial)
        folder.mkdir(exist_ok=True)
        if owner(folder):
            return
        try:
            owned.enter_context(locked(folder))
        except RunningElsewhereError:
            return
        taken.append(trial)

    def _of(self, trial: FrozenTrial) -> Path:
        return self.folder / f"trial{trial.number}"

    def _train(self, trials: Sequence[FrozenTrial], compose: Callable[[Overrides], DictConfig], launch: Launch) -> None:
        jobs: dict[int, Job] = {}
        for trial in trials:
            try:
                jobs[trial.number] = self._job(trial, compose)
            except ValueError as refusal:
                log.info(f"trial {trial.number}: failed, {refusal}")
                self.study.tell(trial.number, state=TrialState.FAIL)
        if jobs:
            with watching(list(jobs.values())):
                launch([job.overrides for job in jobs.values()])
        told = [self._tell(number, job) for number, job in jobs.items()]
        if not all(told) and not asked_by():
            sleep(PATIENCE)  # another trial with the same values trains the same run

    def _job(self, trial: FrozenTrial, compose: Callable[[Overrides], DictConfig]) -> Job:
        values = [f"{key}={trial.params[key]}" for key in self.space]
        (job,) = plan([[*self.fixed, *values]], compose)
        macs = built(job.run.config).cost.macs
        write_whole(self._of(trial) / RUN, f"{job.directory}\n")
        values_of = f"search:{quoted(self.folder)},trial:{trial.number},macs:{macs}"
        pruning = f"_target_:callbacks.pruning.Pruning,{values_of}"
        more = [f"+callbacks.pruning={{{pruning}}}"] if self.wanted.prune else []
        label = " ".join(f"{key}={shortened(trial.params[key])}" for key in self.space)
        return Job(f"trial {trial.number}: {label}", [*job.overrides, *more], job.run)

    def _tell(self, number: int, job: Job) -> bool:
        """Tell the study what came of a trial; nothing, and False, where it was stopped, so that it goes on."""
        found = outcome(job.directory)
        if found.result:
            self.study.tell(number, [found.result["val_top1"], self._cost(job, found.result)])
        elif found.state is State.FAILED:
            self.study.tell(number, state=TrialState.FAIL)
        elif (pruned := self.folder / f"trial{number}" / PRUNED).is_file():
            log.info(f"trial {number}: pruned, {pruned.read_text().strip()}")
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            return False
        return True

    def _cost(self, job: Job, result: dict) -> float:
        if self.wanted.cost == "macs":
            return result["macs"] if result["macs_effective"] is None else result["macs_effective"]
        from sweeps.latency import milliseconds

        return milliseconds(job.directory)


def _journal(folder: Path) -> BaseStorage:
    return JournalStorage(JournalFileBackend(str(folder / "journal.log")))
