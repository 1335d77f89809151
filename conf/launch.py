"""Start a Hydra application: every mistake in the configuration ends in one readable message.

Imports nothing heavy, so that --help and a wrong word answer at once.
"""

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from conf import schema
from conf.lock import RunningElsewhereError
from conf.logs import is_first_process, log_to_stderr
from conf.stop import STOPPED

FOLDER = Path(__file__).parent
FULL_ERROR = "HYDRA_FULL_ERROR"


def launch(
    task: Callable[[DictConfig], object], config_name: str, in_a_sweep: Callable[[DictConfig], object] | None = None
) -> None:
    """Run `task` on the configuration `config_name` composed with the command line's overrides; log to stderr.

    With -m, `in_a_sweep` is run on the configuration of each job instead, if it is given.
    Users' mistakes (ValueError, OSError and what Hydra refuses) are printed without a traceback and
    end the process with status 1, or 75 where another process trains the run; HYDRA_FULL_ERROR=1 shows the traceback.
    """
    schema.register()
    wants_traceback = os.environ.get(FULL_ERROR) == "1"
    os.environ[FULL_ERROR] = "1"  # Hydra then raises instead of printing its own way

    is_composed = False

    def checked(config: DictConfig) -> object:
        nonlocal is_composed
        log_to_stderr()
        _refuse_unknown_keys(config)
        is_composed = True
        if not wants_traceback:
            del os.environ[FULL_ERROR]  # not for the processes that the task starts
        chosen = in_a_sweep if in_a_sweep and HydraConfig.get().mode == RunMode.MULTIRUN else task
        try:
            return chosen(config)
        finally:
            os.environ[FULL_ERROR] = "1"

    try:
        hydra.main(version_base=None, config_path=str(FOLDER), config_name=config_name)(checked)()
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        if wants_traceback:
            raise
        if not is_composed and not is_first_process():
            sys.exit(1)  # srun and torchrun give all processes the same words, and the first one says what is wrong
        _stop(explain(error), STOPPED if isinstance(error, RunningElsewhereError) else 1)


def explain(error: BaseException) -> str:
    """The message for `error`: its root cause in the user's words, with near matches where a name is wrong."""
    if isinstance(error, MissingConfigException) and error.options:
        return _unknown_choice(error.missing_cfg_file or "", error.options)
    cause = error.__cause__
    if isinstance(error, HydraException) and isinstance(cause, (OmegaConfBaseException, ValueError, OSError)):
        return explain(cause)
    if isinstance(error, InstantiationException) and cause:
        key = str(error).rpartition("full_key: ")[2] if "full_key: " in str(error) else ""
        about_devices = "Trainer" in str(error) and any(
            word in str(cause) for word in ("accelerator", "backend", "gpu")
        )
        hint = " (trainer.accelerator=auto trainer.devices=auto take what there is)" if about_devices else ""
        return (f"{key}: " if key else "") + str(cause).strip() + hint
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)) and isinstance(error.parent_node, DictConfig):
        return _unknown_key(str(error.full_key), map(str, error.parent_node))
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} needs a value: {error.full_key}=..."
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {str(error).splitlines()[0]}"
    if str(error).startswith("Config group override must be"):
        return f"{error}; a group is left out with ~group"
    return str(error)


def near_matches(word: str, options: Iterable[str]) -> str:
    """`; did you mean a, b?` with the options closest to `word`, all where none is close, `` where there are none."""
    options = sorted(option for option in options if not option.startswith("_") and option != "hydra")
    if not options:
        return ""
    close = get_close_matches(word, options, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(close)}?" if close else f"; there are: {', '.join(options)}"


def _unknown_choice(path: str, options: Iterable[str]) -> str:
    group, _, choice = path.rpartition("/")
    return f"{group}={choice}: no such choice{near_matches(choice, options)}"


def _unknown_key(full_key: str, known: Iterable[str]) -> str:
    return f"{full_key}: no such key{near_matches(full_key.rpartition('.')[2], known)}"


def _refuse_unknown_keys(config: DictConfig, path: str = "") -> None:
    """Hydra lets `+key=value` add to a schema; here a key that no schema has is a mistake."""
    kind = OmegaConf.get_type(config)
    if not is_dataclass(kind):
        return
    known = [field.name for field in fields(kind)]
    absent = [name for name in known if name not in config and not OmegaConf.is_missing(config, name)]
    if absent:
        raise ValueError(f"{path}{absent[0]} needs a value: {path}{absent[0]}=...")
    for key in map(str, config):
        if key not in known:
            raise ValueError(_unknown_key(path + key, known))
        if not OmegaConf.is_missing(config, key) and isinstance(config[key], DictConfig):
            _refuse_unknown_keys(config[key], f"{path}{key}.")


def _stop(message: str, status: int) -> NoReturn:
    print(f"error: {message}\n(the traceback: {FULL_ERROR}=1)", file=sys.stderr)
    sys.exit(status)
