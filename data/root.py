"""The folder that data sets live in."""

from pathlib import Path


def require_folder(root: Path, name: str, layout: str, size: str) -> None:
    """FileNotFoundError with the expected layout where `root` does not exist, before anything is downloaded into it."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder {root} to read {name} from. Set data.root (or the environment variable DATA_ROOT) to the "
            f"folder that holds {layout}, or make it (mkdir -p {root}) and run again to download into it ({size})"
        )
