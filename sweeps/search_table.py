"""The trials of a search as a table."""

from pathlib import Path

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from models.columns import columns
from models.run_directory import RESULT, read

RUN = "run.txt"  # in the folder of a trial: the directory of its run


def search_table(study: Study, folder: Path, cost: str) -> str:
    """A line for each trial that is over, the cheapest first; a star where no other trial is better in both."""
    over = [trial for trial in study.trials if trial.state.is_finished()]
    if not over:
        return "no trial is over"
    keys = list(over[0].params)
    best = {trial.number for trial in study.best_trials}
    over.sort(key=lambda trial: (trial.state is not TrialState.COMPLETE, trial.values[1] if trial.values else 0))
    rows = [("trial", *keys, "validation top-1 %", cost, "test top-1 %", "")]
    rows += [_cells(trial, keys, folder, "*" if trial.number in best else "") for trial in over]
    lines = columns(rows, left=1 + len(keys))
    lines.append("* no other trial has a higher validation top-1 at no more cost")
    return "\n".join(lines)


def _cells(trial: FrozenTrial, keys: list[str], folder: Path, star: str) -> tuple[str, ...]:
    values = [shortened(trial.params.get(key)) for key in keys]
    if trial.state is not TrialState.COMPLETE:
        return str(trial.number), *values, trial.state.name.lower(), "", "", star
    run = Path((folder / f"trial{trial.number}" / RUN).read_text().strip())
    result = read(run / RESULT)
    accuracy, cost = trial.values
    tested = f"{result['top1']:.2f}" if result else ""
    return (
        str(trial.number),
        *values,
        f"{accuracy:.2f}",
        f"{cost:,.4g}" if cost < 1000 else f"{cost:,.0f}",
        tested,
        star,
    )


def shortened(value: object) -> str:
    """`value` as people read it, a number with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
