"""What a sweep is made of, before anything runs."""

from collections.abc import Callable, Sequence

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from conf import schema
from sweeps.plan import Job, plan
from tests.conftest import ROOT


@pytest.fixture
def planned() -> Callable[..., list[Job]]:
    schema.register()

    def compose_(overrides: Sequence[str]) -> DictConfig:
        config = compose("train", list(overrides), return_hydra_config=True)
        config.hydra.job.config_name = "train"
        HydraConfig.instance().set_config(config)
        del config.hydra
        return config

    def plan_(*combinations: list[str]) -> list[Job]:
        with initialize_config_dir(str(ROOT / "conf"), version_base=None):
            return plan(combinations, compose_)

    return plan_


def test_a_job_has_a_label_and_the_directory_that_its_own_command_would_have(
    planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = planned(["data=digits", "seed=1"], ["data=digits", "seed=2"])
    assert [job.label for job in jobs] == ["seed=1", "seed=2"]
    assert len({job.directory for job in jobs}) == 2
    (alone,) = planned(["data=digits", "seed=2"])
    assert alone.directory == jobs[1].directory
    assert alone.label == alone.directory.name
    monkeypatch.setenv("RUN_ROOT", "/elsewhere")  # as on another machine, perhaps
    (again,) = planned(alone.overrides)
    assert again.run == alone.run


def test_labels_of_jobs_that_change_different_values(planned) -> None:
    jobs = planned(["data=digits", "seed=1"], ["data=digits", "seed=1", "model=resnet20"])
    assert [job.label for job in jobs] == [jobs[0].directory.name, "model=resnet20"]


def test_two_ways_to_write_one_run_are_one_job(planned) -> None:
    assert len(planned(["optimizer.lr=0.1"], ["optimizer.lr=1e-1"])) == 1


def test_a_wrong_job_is_named_before_any_starts(planned) -> None:
    with pytest.raises(ValueError, match=r"^seed=2 optimizer.lr=abc: optimizer.lr=abc: must be a number"):
        planned(["seed=1", "optimizer.lr=0.1"], ["seed=2", "optimizer.lr=abc"])
    with pytest.raises(ValueError, match=r"^model=resnt20: model=resnt20: no such choice; did you mean resnet20"):
        planned(["model=resnet20"], ["model=resnt20"])


def test_jobs_that_would_share_a_directory_are_refused(planned) -> None:
    with pytest.raises(ValueError, match="seed=1 and seed=2 have the same run_dir, here; leave run_dir out: RUN_ROOT"):
        planned(["seed=1", "run_dir=here"], ["seed=2", "run_dir=here"])
