"""The network of a run as a folder for timm and the Hub, from the command line."""

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import ClassVar

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import ModelCard, constants
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from data.prepared import Prepared
from models.build import Input
from models.load import load_run
from models.preprocessing import Preprocessing
from scripts.exports import hub
from scripts.exports.card import card
from tests import processes
from tests.conftest import FinishedRun

pytestmark = pytest.mark.slow
FILES = ("README.md", "config.json", "model.safetensors")
COLOURS = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def test_timm_opens_the_folder_and_its_card_has_the_figures_of_the_run(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    out = tmp_path / "made" / "folder"
    out.mkdir(parents=True)
    (out / ".README.md.1").touch()  # of a process that was killed
    command = ["scripts/export.py", f"run={finished_run.directory}", "format=hub", f"out={out}"]
    done = processes.run(*command, status=0)
    assert done.stdout.startswith(
        f"{out}: README.md, config.json, model.safetensors\non 16 test images its logits diff"
    )
    run = load_run(finished_run.directory)
    net = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    images = torch.randn(5, 1, 16, 16)
    assert torch.equal(net(images), run.net(images))
    again = load_run(out)
    assert torch.equal(again.net(images), run.net(images))
    assert (again.input, again.classes, again.preprocessing) == (run.input, run.classes, run.preprocessing)
    config = json.loads((out / "config.json").read_text())
    assert (config["architecture"], config["num_classes"], config["num_features"]) == ("cheapconv", 10, 64)
    assert config["label_names"] == list("0123456789")
    result = json.loads((finished_run.directory / "result.json").read_text())
    read = ModelCard.load(out / "README.md")
    assert read.data.license is None
    (found,) = read.data.eval_results
    assert (found.dataset_name, found.metric_value) == ("digits", pytest.approx(result["top1"] / 100, abs=1e-6))
    for figure in ("params", "macs", "baseline_macs", "macs_effective_images"):
        assert f"{result[figure]:,}" in read.text
    assert f"{result['macs_effective']:,.0f} ± {result['macs_effective_std']:,.0f}" in read.text
    assert f"| test top-1 | {result['top1']:.2f} % of 360 images |" in read.text
    assert f"`{result['command']}`" in read.text
    assert 'timm.create_model("local-dir:FOLDER", pretrained=True)' in read.text


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as an upload asks for; `commits` are the files of each commit by name."""

    commits: ClassVar[list[dict[str, bytes]]] = []

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            answer = {"url": f"http://{self.headers['Host']}/me/digits"}
        elif self.path == "/api/validate-yaml":
            answer = {"errors": [], "warnings": []}
        elif self.path == "/api/models/me/digits/preupload/main":
            paths = [file["path"] for file in json.loads(content)["files"]]
            answer = {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
        else:
            assert self.path == "/api/models/me/digits/commit/main"
            files = [each["value"] for each in map(json.loads, content.splitlines()) if each["key"] == "file"]
            self.commits.append({file["path"]: base64.b64decode(file["content"]) for file in files})
            answer = {"commitUrl": f"http://{self.headers['Host']}/me/digits/commit/1", "commitOid": "1"}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to upload, on a machine that has a token."""
    for name in FILES:
        (tmp_path / name).write_text("---\n---\n")
    monkeypatch.setenv("HF_TOKEN", "secret")
    return tmp_path


def test_what_was_written_is_uploaded_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "private.txt").touch()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        assert hub.push(folder, "me/digits") == f"{address}/me/digits"
        server.shutdown()
    assert Hub.commits == [{name: (folder / name).read_bytes() for name in FILES}]


def test_an_upload_that_fails_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        OSError, match=r"push=me/digits: \[Errno 111\] Connection refused; .* is written, the same comm"
    ):
        hub.push(folder, "me/digits")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "none"))
    with pytest.raises(OSError, match="push=me/digits: there is no token of the Hub here; set HF_TOKEN"):
        hub.push(folder, "me/digits")


def test_a_model_folder_has_no_figures(finished_run: FinishedRun) -> None:
    run = load_run(finished_run.directory / "model")
    assert "Exported from a model folder, which has no figures." in (text := card(run, None, "me/digits"))
    assert 'timm.create_model("hf-hub:me/digits", pretrained=True)' in text


@pytest.mark.parametrize(
    ("options", "reason"),
    [(["format=hub", "deploy=true"], "leave out deploy"), (["push=me/digits"], "give format=hub, or leave out push")],
)
def test_what_does_not_go_together_is_refused(
    options: list[str], reason: str, finished_run: FinishedRun, tmp_path: Path
) -> None:
    done = processes.run("scripts/export.py", f"run={finished_run.directory}", f"out={tmp_path}", *options, status=1)
    assert reason in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("centre_crop", [None, 0.875])
def test_timms_transform_prepares_images_as_we_do(centre_crop: float | None) -> None:
    shown = Preprocessing(*COLOURS, border=0.0, centre_crop=centre_crop)
    config = resolve_model_data_config(
        torch.nn.Identity(), pretrained_cfg=hub.shown(shown) | {"input_size": (3, 32, 32)}
    )
    smooth = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    image, file = Image.fromarray(smooth).resize((97, 120)), BytesIO()
    image.save(file, "png")
    ours = Prepared([], size=32, channels=3, preprocessing=shown).prepare(file.getvalue())
    mean, std = (torch.tensor(each)[:, None, None] for each in COLOURS)
    pixels = create_transform(**config)(image) * std + mean
    assert (255 * pixels - ours).abs().max() <= 1.01  # of 255: PIL and torchvision round differently


def test_a_border_which_timm_lacks_is_described(finished_run: FinishedRun) -> None:
    run = load_run(finished_run.directory)
    shown = Preprocessing((0.5,), (0.25,), border=0.25, centre_crop=None)
    text = card(type(run)(run.net, Input(10, 16, 1), run.classes, shown, run.config), None, None)
    assert "a black border, on each side 0.25 of its own width" in text
