"""What a program says on standard error while it works."""

import logging
import os
import warnings


def is_first_process() -> bool:
    """Whether this is the process that speaks and writes for all, as far as the environment tells."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("RANK", "0") == "0"


def log_to_stderr() -> None:
    """Our own lines from the first process alone; of Lightning's only warnings that call for something."""
    logging.basicConfig(level=logging.INFO if is_first_process() else logging.WARNING, format="%(message)s")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    moot = ("You're resuming .* not resumable", "The number of training batches", ".*LeafSpec.* is deprecated")
    moot += ("The `srun` command is available",)  # on every login node
    moot += ("Grad strides do not match bucket view strides",)  # of 1x1 weights: the same memory under two names
    for message in (*moot, "It is recommended to use .*sync_dist"):  # our sums are over all processes already
        warnings.filterwarnings("ignore", message)
