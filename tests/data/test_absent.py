"""The data set of a run is looked for before anything heavy is imported."""

from dataclasses import replace
from pathlib import Path

import pytest

from conf import present

FASHION = "data.fashion_mnist.fashion_mnist"


@pytest.mark.parametrize("load", present.KNOWN)
def test_an_absent_root_is_explained_with_commands(tmp_path: Path, monkeypatch, load: str) -> None:
    monkeypatch.setitem(present.KNOWN, FASHION, replace(present.KNOWN[FASHION], instead=tmp_path / "not installed"))
    data = {"load": {"_target_": load}, "root": str(tmp_path / "nowhere")}
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*/nowhere; expected in data.root(.|\n)*mkdir -p .*/nowhere"
    ):
        present.require(data)
    (tmp_path / "nowhere").touch()
    with pytest.raises(FileNotFoundError, match="nowhere is a file, not a folder; expected"):
        present.require(data)
    present.require(data | {"root": str(tmp_path)})


def test_fashion_mnist_needs_no_root_where_debian_has_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(present.KNOWN, FASHION, replace(present.KNOWN[FASHION], instead=tmp_path))
    present.require({"load": {"_target_": FASHION}, "root": str(tmp_path / "nowhere")})


def test_both_look_for_debians_package_in_one_place() -> None:
    from data.fashion_mnist import DEBIAN

    assert present.KNOWN[FASHION].instead == DEBIAN
