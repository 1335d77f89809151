"""A folder that timm opens and the Hugging Face Hub takes: weights, a description in timm's format, a model card."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import HfApi, get_token
from timm.models import save_for_hf
from torch import nn

from models import registry
from models.errors import first_line
from models.load import LoadedRun
from models.preprocessing import Preprocessing
from models.timm_network import TimmNetwork
from scripts.exports.card import card

log = logging.getLogger(__name__)
CARD = "README.md"
OF_TIMM = ("config.json", "model.safetensors")  # what its save_for_hf writes


def write(folder: Path, run: LoadedRun, result: dict[str, Any] | None, repo: str | None) -> None:
    """Write to `folder` the network of `run`, with the figures of its `result`; `repo` is the name it will have.

    ValueError where the run does not say how an image becomes an input.
    """
    if run.preprocessing is None:
        raise ValueError("format=hub: this run is of before runs kept how an image becomes an input; train it again")
    net = timm.create_model(
        registry.FOLDERS,
        model=run.config["model"],
        input=vars(run.input),
        pretrained_cfg=shown(run.preprocessing),
    )
    assert isinstance(net, TimmNetwork)
    net.net.load_state_dict(run.net.state_dict())
    if run.preprocessing.border:
        log.info(f"timm's own transform knows no border: images for this network get one first, as {CARD} says")
    # timm goes by `shown`, and reads no `preprocessing`: models/model_folder.py does.
    description = {"label_names": list(run.classes), "preprocessing": asdict(run.preprocessing)}
    save_for_hf(net, str(folder), model_config=description, safe_serialization=True)
    (folder / CARD).write_text(card(run, result, repo))


def opened(folder: str) -> nn.Module:
    """The network in `folder` as whoever has timm opens it, in evaluation mode."""
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def push(folder: Path, repo: str) -> str:
    """Upload `folder` to the Hub as `repo`, which is made if need be; its address. OSError where that fails."""
    if not get_token():
        raise OSError(f"push={repo}: there is no token of the Hub here; set HF_TOKEN, or log in with: hf auth login")
    api = HfApi(library_name="timm", library_version=timm.__version__)
    try:
        url = api.create_repo(repo, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id,
            folder_path=folder,
            allow_patterns=[CARD, *OF_TIMM],
            commit_message="A network with cheap convolutions",
        )
    except Exception as error:  # of several libraries' own types
        raise OSError(
            f"push={repo}: {first_line(error)}; {folder} is written, the same command uploads it later"
        ) from error
    return str(url)


def shown(images: Preprocessing) -> dict[str, Any]:
    """How timm's transform has to prepare an image, in its words; but for a border, which it does not know."""
    crop = {"crop_mode": "center", "crop_pct": images.centre_crop} if images.centre_crop else {"crop_mode": "squash"}
    return {"mean": images.mean, "std": images.std, "interpolation": "bilinear", "crop_pct": 1.0, **crop}
