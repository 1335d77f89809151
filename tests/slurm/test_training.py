"""One training over two nodes of a real cluster."""

from pathlib import Path

import pytest

from tests import processes
from tests.resumption import checkpoint, equal, result
from tests.slurm.cluster import ON_CPUS, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.slurm]
SMALL = ["model.backbone.depth=8", "data.batch_size=128", "trainer.accelerator=cpu", "trainer.max_epochs=1"]


def test_the_template_trains_over_two_nodes_as_two_processes_on_one(cluster: Cluster, tmp_path: Path) -> None:
    """One run, told once, with the same bits."""
    nodes, one, said = tmp_path / "nodes", tmp_path / "one", tmp_path / "said.txt"
    job = cluster.submit(*ON_CPUS, f"--output={said}", "scripts/train.sbatch", *SMALL, f"run_dir={nodes}")
    processes.run_ranks(2, "train.py", *SMALL, "trainer.devices=2", "trainer.strategy=ddp", f"run_dir={one}")
    assert cluster.end(job) == "COMPLETED", said.read_text()
    assert cluster.shown(job)["NumNodes"] == "2"
    assert said.read_text().count("epoch 1/1") == said.read_text().count("result:") == 1
    assert {path.name for path in nodes.iterdir()} == {path.name for path in one.iterdir()}
    assert result(nodes) == result(one)
    assert equal(checkpoint(nodes)["state_dict"], checkpoint(one)["state_dict"])
