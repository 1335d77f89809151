"""An absent data set is explained with commands: before anything heavy is imported, and by its reader."""

from dataclasses import replace
from pathlib import Path

import pytest
from hydra.utils import get_method

from data import absent

FASHION = "data.fashion_mnist.fashion_mnist"


def without_debians_package(monkeypatch, instead: Path) -> None:
    monkeypatch.setitem(absent.BY_LOADER, FASHION, replace(absent.FASHION_MNIST, instead=instead))
    monkeypatch.setattr("data.fashion_mnist.DEBIAN", instead)


@pytest.mark.parametrize("load", absent.BY_LOADER)
def test_an_absent_root_is_explained_with_commands(tmp_path: Path, monkeypatch, load: str) -> None:
    without_debians_package(monkeypatch, tmp_path / "not installed")
    root = tmp_path / "nowhere"
    data = {"load": {"_target_": load}, "root": str(root)}
    commands = r"nowhere; expected in data.root(.|\n)*(mkdir -p|out=|--local-dir).*/nowhere"
    with pytest.raises(FileNotFoundError, match=f"no folder .*/{commands}"):
        absent.require(data)
    if "hugging_face" not in load:  # its library is asked for first
        with pytest.raises(FileNotFoundError, match=f"no folder .*/{commands}"):
            get_method(load)(root)
    root.touch()
    with pytest.raises(FileNotFoundError, match="nowhere is a file, not a folder; expected"):
        absent.require(data)
    absent.require(data | {"root": str(tmp_path)})


def test_fashion_mnist_needs_no_root_where_debian_has_it(tmp_path: Path, monkeypatch) -> None:
    without_debians_package(monkeypatch, tmp_path)
    absent.require({"load": {"_target_": FASHION}, "root": str(tmp_path / "nowhere")})
