"""What has become of Slurm jobs, by squeue.

submitit asks sacct, which works only where Slurm keeps accounts; elsewhere it warns at every question, and waits
forever for a job that was cancelled. Imports submitit: only for who uses it.
"""

from submitit.slurm.slurm import SlurmInfoWatcher

ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}
SECONDS = 60  # at most between two questions; Slurm forgets a job some minutes after its end


class Squeue(SlurmInfoWatcher):
    """The states of all jobs of this user at once, questions becoming rarer as time goes on."""

    def __init__(self) -> None:
        super().__init__(delay_s=SECONDS)

    def _make_command(self) -> list[str] | None:
        waited_for = self._registered - self._finished
        return ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T|%N"] if waited_for else None

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """By job number (of an array <number>_<index>) what submitit asks for; a job that is forgotten has ended."""
        text = string if isinstance(string, str) else string.decode()
        listed = {job: {"JobID": job, "State": state, "NodeList": nodes} for job, state, nodes in _rows(text)}
        forgotten = (self._info_dict.keys() & self._registered) - listed.keys()
        return listed | {job: {"JobID": job, "State": "COMPLETED", "NodeList": ""} for job in forgotten}

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Whether the job has ended for good: submitit takes every state that it does not know for the end."""
        return self.get_state(job_id, mode) in ENDED


def _rows(text: str) -> list[list[str]]:
    return [line.split("|") for line in text.splitlines()]
