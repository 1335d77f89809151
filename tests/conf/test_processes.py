"""As many processes as the run counts on, whoever starts them."""

import pytest

from conf.processes import require_all

VARIABLES = ["TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK"]
VARIABLES += ["SLURM_NTASKS", "SLURM_NNODES", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_JOB_NAME"]
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "0"}
SRUN = {"SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "train"}
BATCH = {"SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_JOB_NAME": "train"}
FOUR = "4 processes were started.* trainer.num_nodes=2 trainer.devices=2$"


def started_with(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


RIGHT = [
    ({}, 2),  # Lightning starts them
    (TORCHRUN, 4),
    (TORCHRUN | BATCH, 4),  # torchrun in a batch script
    (SRUN, 4),
    (BATCH, 1),  # a batch script, for which more was asked than it uses
    (BATCH | {"SLURM_JOB_NAME": "interactive"}, 2),  # salloc's shell, where Lightning starts them
]


@pytest.mark.parametrize(("variables", "number"), RIGHT)
def test_as_many_as_there_are_to_be(monkeypatch, variables: dict[str, str], number: int) -> None:
    started_with(monkeypatch, variables)
    require_all(number)


WRONG = [(TORCHRUN, 1, FOUR), (SRUN, 1, FOUR), (SRUN, 8, FOUR), (BATCH, 2, "srun has to start the 2 processes")]


@pytest.mark.parametrize(("variables", "number", "message"), WRONG)
def test_another_number_is_refused(monkeypatch, variables: dict[str, str], number: int, message: str) -> None:
    started_with(monkeypatch, variables)
    with pytest.raises(ValueError, match=message):
        require_all(number)


def test_the_first_process_speaks_for_all(monkeypatch) -> None:
    started_with(monkeypatch, SRUN | {"SLURM_PROCID": "1"})
    with pytest.raises(SystemExit) as ended:
        require_all(1)
    assert ended.value.code == 1
