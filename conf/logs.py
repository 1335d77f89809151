"""What a program says on standard error while it works."""

import logging
import os
import warnings

# Libraries that tell more than one wants to know.
CHATTY = (
    "pytorch_lightning",
    "lightning_fabric",
    "matplotlib",
    "hydra",
    "hydra_plugins",
    "onnx_ir",
    "onnxscript",
    "timm",
)


def is_first_process() -> bool:
    """Whether this is the process that speaks and writes for all, as torchrun, Slurm or Lightning tells it."""
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
    return rank == "0" and os.environ.get("LOCAL_RANK", "0") == "0"


def log_to_stderr() -> None:
    """Our own lines from the first process alone; of Lightning's only warnings that call for something."""
    handler = logging.StreamHandler()
    # A level of the library's logger would not do: Lightning sets its own when it is imported later.
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or not record.name.startswith(CHATTY))
    level = logging.INFO if is_first_process() else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])
    moot = ("You're resuming .* not resumable", "The number of training batches", ".*LeafSpec.* is deprecated")
    moot += ("The `srun` command is available",)  # on every login node
    moot += ("Grad strides do not match bucket view strides",)  # of 1x1 weights: the same memory under two names
    for message in (*moot, "It is recommended to use .*sync_dist"):  # our sums are over all processes already
        warnings.filterwarnings("ignore", message)
