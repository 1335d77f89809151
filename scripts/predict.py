"""Classify images with a trained network: python scripts/predict.py run=runs/<directory of a run> images=photo.jpg."""

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import logging
import os

from omegaconf import DictConfig

from conf.launch import launch
from conf.run import plain_config
from scripts.predictions.text import TOP, Prediction, header, line

if TYPE_CHECKING:
    from data.prepared import Prepared
    from models.load import LoadedRun
    from scripts.predictions.maps import GateMapFiles

log = logging.getLogger(__name__)


def main(config: DictConfig) -> None:
    """Print a line for each image as it is classified; exit with status 1 where one could not be read."""
    plain = plain_config(config)
    if config.batch_size < 1:
        raise ValueError(f"batch_size={config.batch_size}: must be at least 1; 64 is usual")
    # Here, not at the top: a wrong word in the command need not wait for torch.
    from models.load import load_run

    run = load_run(config.run)
    images = prepared(run, plain["images"], config.run)
    maps = None
    if config.maps:
        # Here, not at the top: Matplotlib takes a while.
        from scripts.predictions.maps import GateMapFiles

        maps = GateMapFiles(run, Path(config.maps))
    num_unreadable = 0
    for text in header(config.format):
        print(text)
    for prediction in predictions(run, images, config.batch_size, config.num_workers, maps):
        if prediction.problem:
            num_unreadable += 1
            log.warning(f"cannot read {prediction.image}: {prediction.problem}")
        print(line(prediction, config.format))
    if num_unreadable:
        log.warning(f"{num_unreadable:,} of {len(images):,} images could not be read")
        sys.exit(1)


def prepared(run: "LoadedRun", words: str | list[str], source: str) -> "Prepared":
    """The images that `words` name, as the network of `run`, loaded from `source`, takes them.

    ValueError where there are none, or where the run does not say how its images were prepared.
    """
    from data.listing import listed
    from data.prepared import Prepared

    if run.preprocessing is None:
        raise ValueError(f"{source} does not say how its images were prepared: train it again with this version")
    paths = list(listed(words if isinstance(words, list) else [words], sys.stdin))
    if not paths:
        raise ValueError("images=-: standard input names no image; give one name a line")
    return Prepared(paths, size=run.input.size, channels=run.input.channels, preprocessing=run.preprocessing)


def predictions(
    run: "LoadedRun", images: "Prepared", batch_size: int, num_workers: int | None, maps: "GateMapFiles | None"
) -> Iterator[Prediction]:
    """What the network of `run` takes each of `images` for, in their order; `maps` are written on the way."""
    import torch
    from torch.utils.data import DataLoader
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from data.augment import normalise
    from models.gate_maps import recorded
    from models.memory_format import channels_last

    shown = run.preprocessing
    assert shown
    if num_workers is None:
        num_workers = max(1, len(os.sched_getaffinity(0)) - 1) if len(images) > batch_size else 0
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net, numbers = channels_last(run.net).to(device), count()
    loader = DataLoader(images, batch_size, num_workers=num_workers)
    with torch.inference_mode(), logging_redirect_tqdm(), tqdm(total=len(images), unit="image", disable=None) as bar:
        for batch, problems in loader:
            inputs = normalise(batch.to(device, memory_format=torch.channels_last), shown.mean, shown.std)
            with recorded(net) as gate_maps:
                best = net(inputs).float().softmax(1).topk(min(TOP, run.input.num_classes))
            found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            for place, (problem, (classes, values)) in enumerate(zip(problems, found, strict=True)):
                image = images.paths[number := next(numbers)]
                if maps and not problem:
                    maps.write(number, image, inputs[place], {name: each[place] for name, each in gate_maps.items()})
                top = [] if problem else [(run.classes[i], value) for i, value in zip(classes, values, strict=True)]
                yield Prediction(image, problem, top)
                bar.update()


if __name__ == "__main__":
    launch(main, "predict")
