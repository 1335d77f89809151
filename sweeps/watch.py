"""Show how the jobs of a sweep go, wherever their launcher runs them: by the files in their directories."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from shutil import get_terminal_size
from threading import Event, Thread

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from conf.lock import owner
from models.run_directory import RESULT
from sweeps.outcome import last_line, outcome
from sweeps.plan import Job

log = logging.getLogger(__name__)
PERIOD = 1.0  # seconds
LINES = 8  # at most so many jobs have a live line


@contextmanager
def watching(jobs: Sequence[Job]) -> Iterator[None]:
    """While inside, a line for each job that starts or ends; on a terminal a live line for each that runs."""
    end, watch = Event(), _Watch(jobs, on_terminal=sys.stderr.isatty())

    def look_until_the_end() -> None:
        while not end.wait(PERIOD):
            watch.look()

    thread = Thread(target=look_until_the_end, daemon=True)
    with logging_redirect_tqdm():
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
            watch.look()
            watch.close()


class _Watch:
    def __init__(self, jobs: Sequence[Job], on_terminal: bool) -> None:
        total = len(jobs)
        self.names = {job: f"[{number}/{total}] " * (total > 1) + job.label for number, job in enumerate(jobs, 1)}
        self.waiting, self.running = set(jobs), set[Job]()
        places = range(min(LINES, len(jobs)) if on_terminal else 0)
        self.bars = [tqdm(bar_format="{desc}", position=place, leave=False, file=sys.stderr) for place in places]

    def look(self) -> None:
        for job, name in self.names.items():
            has_result, is_running = (job.directory / RESULT).is_file(), owner(job.directory) is not None
            if job in self.waiting and (is_running or has_result):
                self.waiting.remove(job)
                self.running.add(job)
                log.info(f"{name}: started, {job.directory}")
            if job in self.running and (has_result or not is_running):
                self.running.remove(job)
                log.info(f"{name}: {outcome(job.directory)}")
        self._draw()

    def _draw(self) -> None:
        shown = [job for job in self.names if job in self.running]
        width = get_terminal_size().columns - 1
        for place, bar in enumerate(self.bars):
            line = f"{self.names[shown[place]]}: {last_line(shown[place].directory)}" if place < len(shown) else ""
            bar.set_description_str(line[:width])

    def close(self) -> None:
        for bar in self.bars:
            bar.close()
