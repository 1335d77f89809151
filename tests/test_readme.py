"""The README's example of using a trained network from Python runs as it stands there."""

from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.conftest import ROOT, FinishedRun

pytestmark = pytest.mark.slow


def test_the_example_in_python_runs(finished_run: FinishedRun, tmp_path: Path, monkeypatch, capsys) -> None:
    section = (ROOT / "README.md").read_text().partition("## Use a trained network")[2]
    example = section.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/plain").symlink_to(finished_run.directory)
    pixels = load_digits().images[0]
    Image.fromarray((pixels * 255 / 16).astype("uint8")).save("photo.jpg")
    exec(compile(example, "README.md", "exec"), {})
    answer, problem = capsys.readouterr().out.removesuffix("\n").split(" ")
    assert answer in "0123456789"
    assert not problem
    Path("photo.jpg").write_text("no image")
    exec(compile(example, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.split()) > 1
