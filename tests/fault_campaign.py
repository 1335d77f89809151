"""Faults at random moments, many of each, in turn over configurations; then the same command, and a comparison.

    python tests/fault_campaign.py trials=20 faults=all seed=0 out=faults.json     as root: it mounts small disks

A trial is a run to which a fault comes once or twice, each time followed by the same command, which then
runs to its end. Its weights, averaged weights, optimizer, generators and result must be those of an undisturbed run,
bit by bit. Prints a line for each trial, a table in Markdown and writes both as JSON.
"""

import json
import random
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts.benchmarks.photographs import write_photographs
from tests import processes
from tests.faults import FAULTS, Outcome, Training
from tests.resumption import differing

INTERVAL = 2.0  # seconds between checkpoints
DIGITS = ["model=resnet20", "model.backbone.depth=8", "data=digits", "data.batch_size=128", "trainer.max_epochs=3"]
DROPOUT = [*DIGITS, "model/backbone=wrn28_10", "model.backbone.depth=10", "model.backbone.widen_factor=1"]
SHARDS = ["model=resnet20", "model.backbone.depth=8", "data=imagenet_shards", "data.num_classes=6"]
SHARDS += [
    "data.input_size=32",
    "data.batch_size=12",
    "data.num_workers=2",
    "data.randaugment=9",
    "trainer.max_epochs=3",
]
EMA = ["callbacks=ema", "callbacks.ema.decay=0.9"]
ACCUMULATED = ["+trainer.accumulate_grad_batches=2"]
CONFIGURATIONS: dict[str, tuple[list[str], int]] = {
    "accumulation, EMA": ([*DIGITS, *ACCUMULATED, *EMA], 1),
    "mixup, bf16": ([*DIGITS, "data.mixup=0.2", "trainer.precision=bf16-mixed"], 1),
    "two processes, EMA, mixup": ([*DIGITS, *EMA, "data.mixup=0.2"], 2),
    "dropout": ([*DROPOUT, "model.backbone.dropout=0.3"], 1),
    "workers": (SHARDS, 1),
    "two processes, workers, accumulation, EMA": ([*SHARDS, *ACCUMULATED, *EMA], 2),
    "gates, validation within epochs": ([*DIGITS, "model=resnet20_lccl", "+trainer.val_check_interval=3"], 1),
    "two processes, dropout": ([*DROPOUT, "model.backbone.dropout=0.3"], 2),
}


def undisturbed(name: str, folder: Path, shards: Path) -> Training:
    """The configuration of this name, once it has run without a fault."""
    arguments, ranks = CONFIGURATIONS[name]
    arguments = [*arguments, f"callbacks.checkpoint.every_minutes={INTERVAL / 60}"]
    if "data=imagenet_shards" in arguments:
        arguments.append(f"data.root={shards}")
    straight = folder / name.replace(", ", "-").replace(" ", "_") / "run"
    straight.parent.mkdir()
    return Training(name, arguments, ranks, straight, finish(arguments, ranks, straight))


def finish(arguments: list[str], ranks: int, run_dir: Path) -> float:
    """Run the training to its end, without a fault; the seconds that it takes."""
    start = time.monotonic()
    for done in [command.end(120) for command in Training("", arguments, ranks, run_dir, 0.0).start(run_dir)]:
        assert done.returncode == 0, done.stderr
    return time.monotonic() - start


def try_once(fault: str, training: Training, folder: Path, draw: random.Random) -> dict[str, Any]:
    """One trial in a new directory `folder`, as a row of the JSON."""
    folder.mkdir(parents=True)
    outcomes: list[Outcome] = []
    try:
        for _ in range(draw.randint(1, 2)):
            if not (folder / "run" / "result.json").exists():
                outcomes.append(FAULTS[fault](training, folder / "run", draw))
        finish(training.arguments, training.ranks, folder / "run")
        difference = differing(folder / "run", training.straight)
    except (AssertionError, TimeoutError, OSError) as error:
        difference = [f"{type(error).__name__}: {str(error)[-2000:]}"]
    if folder.is_mount():
        # Data workers notice within seconds that those whom they worked for are gone, and hold files until then.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    return {
        "fault": fault,
        "configuration": training.name,
        "statuses": [outcome.statuses for outcome in outcomes],
        "steps_lost": [outcome.steps for outcome in outcomes],
        "seconds_lost": [round(outcome.seconds, 2) for outcome in outcomes],
        "seconds_to_end": [round(outcome.ending, 2) for outcome in outcomes],
        "killed_by_launcher": sum(outcome.was_killed for outcome in outcomes),
        "tracebacks": sum("Traceback" in outcome.said for outcome in outcomes),
        "difference": difference,
    }


def table(trials: list[dict[str, Any]]) -> str:
    """A row for each fault."""
    lines = [
        "| fault | trials | faults | bit-equal | exit statuses | most steps lost | most seconds lost | slowest end |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for fault in dict.fromkeys(trial["fault"] for trial in trials):
        rows = [trial for trial in trials if trial["fault"] == fault]
        statuses = Counter(status for row in rows for ranks in row["statuses"] for status in ranks)
        counts = ", ".join(f"{status}: {number}" for status, number in sorted(statuses.items()))
        equal = sum(not row["difference"] for row in rows)
        number = sum(len(row["statuses"]) for row in rows)
        most = [max(each for row in rows for each in row[f"{key}"]) for key in KEYS]
        cells = [fault, len(rows), number, equal, counts, most[0], f"{most[1]:.1f}", f"{most[2]:.1f} s"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


KEYS = ("steps_lost", "seconds_lost", "seconds_to_end")


def _make_shards(folder: Path) -> Path:
    write_photographs(folder / "photographs", 132, 31, (64, 48))
    made = [f"root={folder / 'photographs'}", f"out={folder / 'shards'}", "images_per_shard=20"]
    processes.run("scripts/make_shards.py", *made, status=0)
    return folder / "shards"


def main(number: int, faults: list[str], seed: int, out: Path | None) -> bool:
    """Whether all runs survived and came to the same bits."""
    trials: list[dict[str, Any]] = []
    with TemporaryDirectory(prefix="cheapconv-faults-") as temporary:
        folder = Path(temporary)
        shards = _make_shards(folder)
        trainings = [undisturbed(name, folder, shards) for name in CONFIGURATIONS]
        for fault in faults:
            several = [each for each in trainings if each.ranks > 1 or fault != "dead rank"]
            for trial in range(number):
                training = several[trial % len(several)]
                draw = random.Random(zlib.crc32(f"{seed} {fault} {trial}".encode()))
                trials.append(try_once(fault, training, folder / fault.replace(" ", "_") / str(trial), draw))
                print(json.dumps(trials[-1]), flush=True)
                if out:
                    out.write_text(json.dumps({"seed": seed, "interval": INTERVAL, "trials": trials}, indent=1) + "\n")
    print(table(trials))
    return not any(trial["difference"] for trial in trials)


if __name__ == "__main__":
    given = {"trials": "20", "faults": "all", "seed": "0", "out": ""} | dict(word.split("=") for word in sys.argv[1:])
    chosen = list(FAULTS) if given["faults"] == "all" else given["faults"].split(",")
    good = main(int(given["trials"]), chosen, int(given["seed"]), Path(given["out"]) if given["out"] else None)
    sys.exit(not good)
