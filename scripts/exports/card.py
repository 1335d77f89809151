"""The model card of an exported network: what its run measured, how it was trained and how to load it."""

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from models.load import LoadedRun

TASK = "image-classification"


def card(run: LoadedRun, result: dict[str, Any] | None, repo: str | None) -> str:
    """Markdown with the metadata that the Hub reads in front; without a `result` it has no figures.

    The licence is a line to fill in, because whoever publishes chooses it.
    """
    name = result["model"] if result else "network"
    metadata = ModelCardData(library_name="timm", pipeline_tag=TASK, tags=[TASK, "timm"], **_evaluation(result))
    where = f"hf-hub:{repo}" if repo else "local-dir:FOLDER"
    return "\n".join(
        [
            "---",
            metadata.to_yaml(),
            "# license: the one you choose, as mit",
            "---",
            f"# {name}" + (f", trained on {result['data']}" if result else ""),
            "",
            *(_figures(result) if result else ["Exported from a model folder, which has no figures.", ""]),
            "## Use",
            "",
            "```python",
            "import cheapconv.registry  # pip install of the code that trained it; makes its networks known to timm",
            "import timm",
            f'net = timm.create_model("{where}", pretrained=True).eval()',
            "```",
            "",
            *_images(run),
        ]
    )


def _evaluation(result: dict[str, Any] | None) -> dict[str, Any]:
    if result is None:
        return {}
    top1 = round(result["top1"] / 100, 6)
    found = EvalResult(TASK, result["data"], result["data"], "accuracy", top1, metric_name="top-1 accuracy")
    return {"model_name": result["model"], "eval_results": [found]}


def _figures(result: dict[str, Any]) -> list[str]:
    """A table of what the run wrote down; one multiply-add is one MAC."""
    images = f" of {result['test_images']:,} images" if "test_images" in result else ""  # older runs did not say
    rows = {
        "test top-1": f"{result['top1']:.2f} %{images}",
        "test top-5": f"{result['top5']:.2f} %{images}",
        "parameters": f"{result['params']:,}",
        "MACs an image": f"{result['macs']:,}",
        **_effective(result),
        "MACs with plain convolutions": f"{result['baseline_macs']:,}",
        "epochs": f"{result['epochs']}",
        "seed": f"{result['seed']}",
        "command": f"`{result['command']}`",
        "commit": f"{result['git_sha']}",
        "machine": f"{result['machine']}",
    }
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""]


def _effective(result: dict[str, Any]) -> dict[str, str]:
    """The MACs that remain where closed gates are skipped, of a network that has gates."""
    if result["macs_effective"] is None:
        return {}
    mean, spread, images = (result[f"macs_effective{part}"] for part in ("", "_std", "_images"))
    return {
        "MACs where closed gates are skipped": f"{mean:,.0f} ± {spread:,.0f} (mean and standard deviation of "
        f"{images:,} test images)"
    }


def _images(run: LoadedRun) -> list[str]:
    """How an image becomes an input, in words."""
    shown, size = run.preprocessing, run.input.size
    assert shown
    scaling = f"the whole image to {size} x {size}"
    if shown.centre_crop:
        scaling = f"its shorter side to {int(size / shown.centre_crop)} pixels, of which the centre is cut out"
    text = (
        f"An image is scaled, bilinear and antialiased, {scaling}; then (pixel / 255 - mean) / std, as in config.json."
    )
    if shown.border:
        text += (
            f" Before that it gets a black border, on each side {shown.border:.4g} of its own width, which timm's "
            "transform does not make: accuracy is lost without it."
        )
    return ["## Images", "", text, ""]
