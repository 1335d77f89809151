"""A run and its directory: found again by the same command, owned by one process, finished, or given more epochs."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from conf import binding
from conf.identity import differences, identifying
from conf.lock import RunningElsewhereError, locked
from conf.logs import is_first_process
from conf.processes import several
from conf.run_name import directory_name, run_names
from conf.stop import Stopped
from models.run_directory import CHECKPOINT, CONFIG, FAILURE, PREVIOUS, RESULT, read, write_whole

log = logging.getLogger(__name__)
EPOCHS = "trainer.max_epochs"
EXTENDED = "extended_from"


@dataclass(frozen=True)
class Run:
    """One run: `names` (model, backbone, layer, scope, data, seed), resolved `config`, `directory`.

    `extended_from`: the numbers of epochs that it was first to have, where it was given more of them later.
    """

    names: dict[str, Any]
    config: dict[str, Any]
    directory: Path
    extended_from: list[int] = field(default_factory=list)

    @property
    def extension(self) -> dict[str, Any]:
        """What is written down beside the configuration where the run was given more epochs later."""
        return {EXTENDED: self.extended_from} if self.extended_from else {}

    def with_model(self, values: dict[str, Any]) -> "Run":
        """The same run with `values` in the model's part of its configuration."""
        return replace(self, config=self.config | {"model": self.config["model"] | values})


def settle(config: DictConfig) -> Run:
    """Check `config`, name the run and fill in `run_dir` where it is null.

    ValueError where the configuration is wrong, or where that directory holds another run's work.
    """
    unnamed = config.copy()
    unnamed.run_dir = "runs" if config.run_dir is None else config.run_dir  # any path, until the run has a name
    binding.check(plain_config(unnamed))
    plain = plain_config(config)
    names = run_names(plain)
    if config.run_dir is None:
        config.run_dir = str(Path(os.environ.get("RUN_ROOT", "runs")) / directory_name(names, plain))
        plain = plain_config(config)
    directory = Path(plain["run_dir"])
    _recall_budget(directory, plain)
    return Run(names, plain, directory, _epochs_before(directory, plain))


def finished(run: Run) -> dict[str, Any] | None:
    """The result of a run that is complete; None where it is not, or was given more epochs since."""
    result = read(run.directory / RESULT)
    return result if result and not differences(identifying(result["config"]), identifying(run.config)) else None


def begin(run: Run) -> None:
    """Keep the configuration in the run's directory, which is the first process's; OSError where it cannot be written.

    The result of a run that is to be extended is set aside as result_<epochs>_epochs.json.
    """
    if not is_first_process():
        return
    result = run.directory / RESULT
    if run.extended_from:
        log.info(
            f"{run.directory} has {run.config['trainer']['max_epochs']} epochs now, {run.extended_from[-1]} before"
        )
    with _writing_to(run.directory):
        for partial in run.directory.glob(".*.ckpt.*"):  # of a process that was killed while it wrote
            partial.unlink(missing_ok=True)
        if result.is_file() and not finished(run):
            result.replace(result.with_stem(f"result_{run.extended_from[-1]}_epochs"))
        write_whole(run.directory / CONFIG, json.dumps(run.config | run.extension, indent=1) + "\n")
        (run.directory / FAILURE).unlink(missing_ok=True)


@contextmanager
def attempt(run: Run) -> Iterator[None]:
    """Own the run's directory; where the run ends before it is complete, the directory says why, if it came to one.

    RunningElsewhereError where another process owns it, OSError where it cannot be written.
    """
    if not is_first_process():
        yield
        return
    try:
        with ExitStack() as owned:
            with _writing_to(run.directory):
                run.directory.mkdir(parents=True, exist_ok=True)
                owned.enter_context(locked(run.directory))
            yield
    except (RunningElsewhereError, Stopped):
        raise
    except BaseException as error:
        reason = error.__context__ or error if isinstance(error, SystemExit) else error  # Lightning exits on Ctrl-C
        if (run.directory / CONFIG).is_file():
            with suppress(OSError):  # what cannot be written here is less than the error that is on its way
                notes = getattr(reason, "__notes__", [])
                write_whole(run.directory / FAILURE, "\n".join([f"{type(reason).__name__}: {reason}", *notes]) + "\n")
        raise
    finally:
        with suppress(OSError):  # what could not be built leaves no directory
            run.directory.rmdir()


@contextmanager
def _writing_to(directory: Path) -> Iterator[None]:
    try:
        yield
    except RunningElsewhereError:
        raise
    except OSError as error:
        raise OSError(f"cannot write to run_dir {directory} ({error.strerror}); set run_dir or RUN_ROOT") from error


def _recall_budget(directory: Path, config: dict[str, Any]) -> None:
    """Fill in the MACs that a budget of milliseconds came to when `directory` began: measured again, they may differ.

    So all processes of a run build the same network, and so does every later one. ValueError where several start at
    once and none has measured yet.
    """
    model = config["model"]
    if model["budget_ms"] is None:
        return
    kept = read(directory / CONFIG)
    if kept and not differences(identifying(kept), identifying(config)):
        model["budget_macs"] = kept["model"].get("budget_macs")
    elif several():
        raise ValueError(
            f"model.budget_ms={model['budget_ms']:g}: one process has to measure what that comes to, and several start "
            "here; give the model.budget_macs that scripts/complexity.py prints for it"
        )


def _epochs_before(directory: Path, config: dict[str, Any]) -> list[int]:
    """What `extended_from` becomes, by what `directory` holds; ValueError where that is another run's work."""
    result = read(directory / RESULT)
    goes_on = any((directory / checkpoint).is_file() for checkpoint in (CHECKPOINT, PREVIOUS))
    kept = result or read(directory / CONFIG)
    if not kept or not (goes_on or result):
        return []
    before = kept.pop(EXTENDED, [])
    changed = differences(identifying(result["config"] if result else kept), identifying(config))
    if not changed:
        return before
    old, new = changed.get(EPOCHS, (0, 0))
    if changed.keys() == {EPOCHS} and goes_on and 0 < old < new:
        return [*before, old]
    listed = ", ".join(f"{key}={one} there and {other} here" for key, (one, other) in changed.items())
    raise ValueError(
        f"{directory} holds a run with another configuration ({listed}); choose another run_dir. "
        f"Only {EPOCHS} may change, to more, where {CHECKPOINT} is there"
    )


def plain_config(config: DictConfig) -> dict[str, Any]:
    """`config` resolved to plain values; a missing one is an error."""
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
