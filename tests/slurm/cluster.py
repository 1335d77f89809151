"""The cluster of tests/slurm/daemons.py as tests see it: commands on it, jobs and what becomes of them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.conftest import ROOT
from tests.slurm.daemons import descendants

PACKAGES = "slurmctld slurmd slurm-client munge"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
ON_CPUS = ["--gpus-per-node=0", "--ntasks-per-node=1", "--cpus-per-task=1"]  # scripts/train.sbatch is for GPUs
GOING = ("PENDING", "RUNNING", "COMPLETING")
HERE = "/usr/sbin"  # not on every user's path


def missing() -> str:
    """Why there can be no cluster on this machine, and what to install; "" where there can."""
    absent = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:{HERE}")]
    return f"without {', '.join(absent)}: apt-get install -y --no-install-recommends {PACKAGES}" if absent else ""


class Cluster:
    """Two nodes of one CPU each, started now, idle; ended by `close`, and by the end of this process, whatever ends it.

    Commands run in the repository root, and `environment` is what they and their jobs see.
    """

    def __init__(self) -> None:
        # In a session of its own: Ctrl-C in a terminal must not end it before the tests have ended.
        command = [sys.executable, str(Path(__file__).with_name("daemons.py"))]
        self.daemons = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.daemons.stdin
        assert self.daemons.stdout
        self.configuration = self.daemons.stdout.readline().strip()
        assert self.configuration, "the cluster has not started; why, standard error says"
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SUBMITIT_"))}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # jobs call `python`
        self.environment = {**ours, "PATH": path, "SLURM_CONF": self.configuration}

    def close(self) -> None:
        """End every process and job; raises where that takes a minute."""
        assert self.daemons.stdin
        assert self.daemons.stdout
        self.daemons.stdin.close()
        self.daemons.wait(60)
        self.daemons.stdout.close()

    def run(self, *command: str | Path, timeout: float = 300, **environment: str) -> str:
        """What `command` prints; AssertionError with what it said where it fails."""
        new = {**self.environment, **environment}
        done = subprocess.run(command, cwd=ROOT, env=new, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, *arguments: str | Path, **environment: str) -> str:
        """The number of the job that `sbatch arguments...` submits."""
        return self.run("sbatch", "--parsable", *arguments, **environment).strip()

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, ..."""
        return self.shown(job)["JobState"]

    def queue(self) -> list[str]:
        """The numbers of the jobs that wait or run, in order."""
        return self.run("squeue", "--noheader", "--array", "--format=%i", "--sort=i").split()

    def shown(self, job: str) -> dict[str, str]:
        """What Slurm says of `job`: JobState, Restarts, ExitCode, ..."""
        words = self.run("scontrol", "-o", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def end(self, job: str, timeout: float = 300) -> str:
        """The state of `job` after its end."""
        wait_until(lambda: self.state(job) not in GOING, f"job {job} has not ended", timeout)
        return self.state(job)

    def start_again(self, job: str, restarts: int) -> None:
        """Wait until `job` has its start number `restarts` after the first, sparing it Slurm's two minutes before."""

        def has_started() -> bool:
            shown = self.shown(job)
            if shown["Reason"] == "BeginTime":
                self.run("scontrol", "update", f"JobId={job}", "StartTime=now")
            return shown["Restarts"] == str(restarts) and shown["JobState"] == "RUNNING"

        wait_until(has_started, f"job {job} has not started again")

    def lose(self, node: str, job: str) -> None:
        """Kill all processes of `job` and the slurmd of `node` at once, as a power cut would, and start that again."""
        supervisors = [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if path.exists() and path.read_bytes().startswith(f"slurmstepd: [{job}.".encode())
        ]
        slurmd = int(Path(self.configuration).with_name(f"slurmd-{node}.pid").read_text())
        for pid in [slurmd, *supervisors, *(found for one in supervisors for found in descendants(one))]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")  # sooner than Slurm sees it
        assert self.daemons.stdin
        print(node, file=self.daemons.stdin, flush=True)
        # Slurm tells the node again and again to end the job. Told after the job's next start, it would end that one.
        told = re.compile(r"^Agent count: +0$", re.MULTILINE)
        wait_until(lambda: told.search(self.run("sdiag")) is not None, f"{node} does not hear of its job")


def wait_until(is_so: Callable[[], bool], otherwise: str, timeout: float = 300) -> None:
    """AssertionError that says `otherwise` where it is not so within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not is_so():
        assert time.monotonic() < deadline, f"{otherwise} after {timeout} seconds"
        time.sleep(0.1)
