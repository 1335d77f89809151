"""What has become of a run, by the files in its directory."""

import signal
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from conf.lock import owner
from conf.stop import STOPPED
from models.run_directory import CHECKPOINT, FAILURE, RESULT, read
from sweeps.job import LOG, PROMPT, STATUS

TAIL = 8192  # bytes of a log that are read: its last attempt's end


class State(Enum):
    """How far a run is."""

    FINISHED = "finished"
    RUNNING = "running"
    STOPPED = "stopped"  # asked to stop, or ended without a word; the same command goes on
    FAILED = "failed"
    NEW = "not started"


@dataclass(frozen=True)
class Outcome:
    """The state of a run, with what is to be said of it, and its result where it is finished."""

    state: State
    text: str
    result: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.state.value}, {self.text}" if self.text else self.state.value


def outcome(run_dir: Path) -> Outcome:
    """How far the run in `run_dir` is; ValueError where its result is something else."""
    if result := read(run_dir / RESULT):
        return Outcome(State.FINISHED, f"top-1 {result['top1']:.2f} %", result)
    if who := owner(run_dir):
        return Outcome(State.RUNNING, f"{who}{_after_colon(last_line(run_dir))}")
    attempt = _last_attempt(run_dir)
    status = int(attempt[-1].removeprefix(STATUS)) if attempt and attempt[-1].startswith(STATUS) else None
    if status not in (None, 0, STOPPED):
        return Outcome(State.FAILED, _reason(status, attempt))
    if status is None and (run_dir / FAILURE).is_file():
        return Outcome(State.FAILED, (run_dir / FAILURE).read_text().partition("\n")[0])
    if attempt or (run_dir / CHECKPOINT).is_file():
        return Outcome(State.STOPPED, "the same command goes on")
    return Outcome(State.NEW, "")


def last_line(run_dir: Path) -> str:
    """The last line that the run in `run_dir` wrote to its log, an empty one where there is none."""
    attempt = _last_attempt(run_dir)
    return attempt[-1] if len(attempt) > 1 else ""


def _after_colon(text: str) -> str:
    return f": {text}" if text else ""


def _last_attempt(run_dir: Path) -> list[str]:
    """The lines of the log since the last start, or its end; none where there is no log."""
    path = run_dir / LOG
    if not path.is_file():
        return []
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - TAIL))
        lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.startswith(PROMPT)]
    return lines[starts[-1] :] if starts else lines


def _reason(status: int, attempt: list[str]) -> str:
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    errors = [line for line in attempt if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else f"{attempt[-2]} (exit status {status})"
