"""Pictures of where a gated network computes in the images that it classifies."""

from pathlib import Path

from torch import Tensor

from callbacks.gate_figures import open_on_images, small_png
from callbacks.gate_maps import pixels
from models.cost import count
from models.gate_maps import overall
from models.layers import gated_layers
from models.load import LoadedRun
from models.run_directory import write_whole


class GateMapFiles:
    """Writes `folder`/<number>_<name of the image>.png: the image, and over it the share of MACs that is computed.

    ValueError where the network of `run` has no gates.
    """

    def __init__(self, run: LoadedRun, folder: Path) -> None:
        layers = gated_layers(run.net)
        if not layers:
            raise ValueError(f"maps={folder}: this network has no gates, it computes everywhere; leave out maps")
        folder.mkdir(parents=True, exist_ok=True)
        cost = count(run.net, run.input.shape)
        self.run, self.folder = run, folder
        self.conv_macs = {name: cost.macs_of(f"{name}.conv") for name in layers}

    def write(self, number: int, image: str, shown: Tensor, maps: dict[str, Tensor]) -> None:
        """Of the image of this `number`: `shown` (C, S, S), normalised, and the `maps` (H', W') of its layers."""
        preprocessing = self.run.preprocessing
        assert preprocessing
        batch = {name: each[None].cpu() for name, each in maps.items()}
        everywhere = overall(batch, self.conv_macs, (shown.shape[1], shown.shape[2]))
        picture = pixels(shown[None], preprocessing.mean, preprocessing.std)
        figure = open_on_images(picture, {"all gated layers": everywhere.numpy()})
        write_whole(self.folder / f"{number:06d}_{Path(image).stem}.png", small_png(figure))
