"""How long the network of a run takes for one image, on this machine."""

from pathlib import Path

import torch
from torch.utils.benchmark import Timer

from models.inference.deploy import deploy
from models.load import load_run

SECONDS = 1.0  # of measuring


def milliseconds(run_dir: Path) -> float:
    """The median time of the deployed network for one image: on the GPU if there is one, else on this CPU's threads."""
    run = load_run(run_dir)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    image = torch.randn(1, *run.input.shape, device=device)
    with torch.inference_mode():
        net = deploy(run.net).to(device)
        timer = Timer("net(image)", globals={"net": net, "image": image}, num_threads=torch.get_num_threads())
        return 1e3 * timer.blocked_autorange(min_run_time=SECONDS).median
