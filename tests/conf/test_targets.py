"""What a configuration from elsewhere may name."""

import json
from typing import Any

import pytest

from conf.targets import require_own_targets
from tests.conftest import ROOT

FOREIGN: list[dict[str, Any]] = [
    {"layer": {"_target_": "os.system", "command": "true"}},
    {"layer": {"_target_": "torch.os.system", "command": "true"}},
    {"layer": {"_target_": "torch.hub.load", "repo_or_dir": "a/b"}},
    {"layer": {"_target_": "models.kernels.compilation._compile", "command": ["true"]}},
    {"layer": {"_target_": "torch.nn.Conv2d", "bias": [{"_target_": "builtins.eval"}]}},
    {"layer": {"_target_": "torch.nn.Conv2d", "_partial_": {"_target_": "hydra.utils.get_method"}}},
]


@pytest.mark.parametrize("config", FOREIGN, ids=str)
def test_what_no_file_here_names_is_not_called(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"there/result.json names _target_: .*, which no file in conf/ names"):
        require_own_targets(config, "there/result.json")


def test_every_recorded_result_can_be_built_again() -> None:
    records = [json.loads(path.read_text()) for path in (ROOT / "results").rglob("*.json")]
    configs = [record["config"] for record in records if isinstance(record, dict) and "config" in record]
    assert configs
    for config in configs:
        require_own_targets({part: config[part] for part in ("model", "data")}, "results")
