"""Every backbone is a preset of its own name: `model=resnet20` is that network as it is, no convolution replaced.

The files conf/model/*.yaml are the presets that say more than that.
"""

from pathlib import Path

from hydra.core.config_store import ConfigStore

ANY_NETWORK = ("timm", "torchvision")  # these backbones stand for every network of a library, chosen by its name there


def register_backbones() -> None:
    """Make `model=<backbone>` known to Hydra for each file of conf/model/backbone."""
    store = ConfigStore.instance()
    # Hydra copies the whole store about 180 times for --help, which took 2.3 s; what it loads it copies once more.
    vars(store)["__deepcopy__"] = lambda memo: store
    for path in (Path(__file__).parent / "model" / "backbone").glob("*.yaml"):
        if path.stem not in ANY_NETWORK:
            node = {"defaults": [{"backbone": path.stem}, {"layer": "conv"}, {"scope": "spatial"}]}
            store.store(group="model", name=path.stem, node=node)
