"""Let all processes of a run save and stop at the same step, though the clock and the signals are each one's own."""

from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from models.training.processes import together

PATIENCE = timedelta(minutes=10)  # that a process waits for the others: they compute the step in between


class Agreement:
    """The largest of the numbers that the processes name, in all of them; in a run of one, the one it names.

    The processes must ask equally often. They talk over the CPU (gloo), whatever carries their gradients: no GPU has
    to be waited for.
    """

    def __init__(self) -> None:
        self.group: Any = distributed.new_group(backend="gloo", timeout=PATIENCE) if together() else None
        self.asked: tuple[Tensor, distributed.Work] | None = None

    def lately(self, number: int) -> int:
        """What was agreed on with the call before, 0 at first: it arrived while the step between was computed.

        What has just been agreed on is not asked for again.
        """
        if self.group is None:
            return number
        before = self._answer()
        numbers = torch.tensor([number if number > before else 0])
        work = distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=self.group, async_op=True)
        assert work is not None
        self.asked = numbers, work
        return before

    def now(self, number: int) -> int:
        """What all agree on, with this call and the one before."""
        return max(self.lately(number), self._answer())

    def _answer(self) -> int:
        """To the last question, once."""
        if self.asked is None:
            return 0
        (numbers, work), self.asked = self.asked, None
        work.wait()
        return int(numbers)
