"""Which jobs a sweep has: every combination is composed, checked and named before the first of them starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from conf.launch import explain
from conf.run import Run, settle

Overrides = Sequence[str]


@dataclass(frozen=True, eq=False)
class Job:
    """One run of a sweep: the `overrides` that compose it, and a `label` of those that set it apart from the others."""

    label: str
    overrides: list[str]
    run: Run

    @property
    def directory(self) -> Path:
        return self.run.directory


def plan(combinations: Sequence[Overrides], compose: Callable[[Overrides], DictConfig]) -> list[Job]:
    """The jobs of `combinations`, one for each run, with its directory among its overrides.

    ValueError names the job whose configuration is wrong, and two that would share a directory.
    """
    jobs: dict[Path, Job] = {}
    shared = set(combinations[0]).intersection(*combinations)
    for overrides in combinations:
        label = " ".join(each for each in overrides if each not in shared)
        try:
            run = settle(compose(overrides))
        except Exception as error:
            raise ValueError(f"{label}: {explain(error)}" if label else explain(error)) from error
        known = jobs.get(run.directory)
        if known and known.run != run:
            raise ValueError(
                f"{known.label} and {label} have the same run_dir, {run.directory}; leave run_dir out: RUN_ROOT names "
                "the folder in which each run has a directory of its own"
            )
        where = f"run_dir={quoted(run.directory)}"
        jobs.setdefault(run.directory, Job(label or run.directory.name, [*overrides, where], run))
    return list(jobs.values())


def quoted(path: Path) -> str:
    """`path` as a value in Hydra's grammar, whatever characters it has."""
    return QuotedString(str(path), Quote.double).with_quotes()
