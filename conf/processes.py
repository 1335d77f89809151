"""How many processes torchrun or Slurm has started for a run, and whether it counts on as many.

Lightning asks only some of its strategies. Otherwise each process would train the whole run, all in one directory, or a
single one would take itself for one of several.
"""

import os
import sys

from conf.logs import is_first_process

INTERACTIVE = ("bash", "interactive")  # names of Slurm jobs in whose shell Lightning starts the processes itself


def require_all(number: int) -> None:
    """ValueError where another number of processes than `number`, that of the run, was started from outside."""
    started, nodes = _started()
    if started in (None, number):
        return
    if not is_first_process():  # the first one speaks for all
        sys.exit(1)
    if nodes is None:
        raise ValueError(f"in this Slurm job srun has to start the {number} processes: srun python train.py ...")
    raise ValueError(
        f"{started} processes were started, but trainer.num_nodes times trainer.devices is {number}; "
        f"these need trainer.num_nodes={nodes} trainer.devices={started // nodes}"
    )


def several() -> bool:
    """Whether this is one of several processes of a run, as far as can be told before they know of each other."""
    return not is_first_process() or (_started()[0] or 1) > 1


def _started() -> tuple[int | None, int | None]:
    """The number of processes and of their nodes; None, None where Lightning starts the processes.

    1, None in a batch script without srun, where Lightning waits for others that nobody starts.
    """
    variables = os.environ
    if "TORCHELASTIC_RUN_ID" in variables:
        started = int(variables["WORLD_SIZE"])
        return started, started // int(variables["LOCAL_WORLD_SIZE"])
    if "SLURM_NTASKS" not in variables or variables.get("SLURM_JOB_NAME") in INTERACTIVE:
        return None, None
    if "SLURM_STEP_ID" not in variables:
        return 1, None
    return int(variables["SLURM_NTASKS"]), int(variables["SLURM_NNODES"])
