"""Processes agree on what one of them asks for, at the same call: three real ones, connected by gloo."""

import multiprocessing
from multiprocessing.queues import Queue
from pathlib import Path

from torch import distributed

from callbacks.agreement import Agreement

ASKED = [[0, 0, 5, 5, 0, 0, 0], [0, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 7]]  # by process and call


def ask(rank: int, meeting: str, answers: "Queue[tuple[int, list[int]]]") -> None:
    distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=len(ASKED))
    agreement = Agreement()
    *early, last = ASKED[rank]
    answers.put((rank, [*(agreement.lately(number) for number in early), agreement.now(last), agreement.lately(0)]))
    distributed.destroy_process_group()


def answers_of(meeting: Path) -> dict[int, list[int]]:
    context = multiprocessing.get_context("fork")
    answers: Queue[tuple[int, list[int]]] = context.Queue()
    processes = [context.Process(target=ask, args=(rank, str(meeting), answers)) for rank in range(len(ASKED))]
    for process in processes:
        process.start()
    found = dict(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    return found


def test_all_learn_at_the_next_call_what_one_asks_for(tmp_path: Path) -> None:
    """What has just been agreed on is not asked for again, and the last call is answered at once."""
    expected = [0, 0, 1, 5, 0, 0, 7, 0]
    assert answers_of(tmp_path / "meeting") == dict.fromkeys(range(len(ASKED)), expected)


def test_a_run_of_one_process_does_what_it_asks_for() -> None:
    agreement = Agreement()
    assert [agreement.lately(1), agreement.lately(0), agreement.now(3)] == [1, 0, 3]
