"""What computes: the name of a GPU, or of this machine's CPU."""

import platform
from pathlib import Path

import torch

CPUS = Path("/proc/cpuinfo")  # Linux; elsewhere the platform says what it knows


def machine(device: torch.device) -> str:
    """The name of `device` as its maker gives it, e.g. NVIDIA H100 80GB HBM3."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = [line for line in CPUS.read_text().splitlines() if line.startswith("model name")] if CPUS.is_file() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
