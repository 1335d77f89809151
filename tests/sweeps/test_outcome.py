"""How far a run is, by its files."""

import json
from pathlib import Path

import pytest

from conf.lock import locked
from sweeps.outcome import State, outcome

LOGS = [
    (
        "$ python train.py\nepoch 1/2\nerror: no such thing\n(the traceback: X=1)\nexit status 1\n",
        State.FAILED,
        "no such thing",
    ),
    ("$ a\nerror: old\nexit status 1\n$ a\nepoch 1/2\nexit status 75\n", State.STOPPED, "the same command goes on"),
    ("$ a\nKeyError: 'x'\nexit status 1\n", State.FAILED, "KeyError: 'x' (exit status 1)"),
    ("$ a\nepoch 1/2\nexit status -9\n", State.FAILED, "ended by SIGKILL"),
    ("$ a\nerror: old\nexit status 1\n$ a\nepoch 1/2\n", State.STOPPED, "the same command goes on"),
    ("", State.NEW, ""),
]


@pytest.mark.parametrize(("log", "state", "text"), LOGS)
def test_the_last_attempt_in_the_log_says_it(tmp_path: Path, log: str, state: State, text: str) -> None:
    (tmp_path / "log.txt").write_text(log)
    found = outcome(tmp_path)
    assert (found.state, found.text) == (state, text)


def test_without_a_log_the_run_s_own_files_say_it(tmp_path: Path) -> None:
    assert outcome(tmp_path / "nowhere").state is State.NEW
    (tmp_path / "last.ckpt").write_text("")
    assert outcome(tmp_path).state is State.STOPPED
    (tmp_path / "failed.txt").write_text("ValueError: the loss is nan\n")
    assert outcome(tmp_path).text == "ValueError: the loss is nan"
    with locked(tmp_path):
        assert outcome(tmp_path).state is State.RUNNING
    result = {"config": {}, "data": "digits", "top1": 97.5}
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert outcome(tmp_path).result == result
    assert outcome(tmp_path).text == "top-1 97.50 %"
