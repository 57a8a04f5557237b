"""Rows of a suite over a Ray cluster: a local one here."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lightning_gen.benchmark import results
from lightning_gen.cli import main

SUITE = """
about: Small.
tier: smoke
n: 64
metrics: [fid]
kimg: 0.16
seeds: [0, 1]
settings: {data.size: 96, data.batch_size: 16, metrics.samples: 32, samples.count: 4, model.width: 4}
entries:
  - {model: dcgan, settings: {model.image_shape: [3, 32, 32]}}
"""


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # Ray's own, of many kinds
def test_rows_over_ray_give_the_results_of_rows_run_here(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed (`tox -e full` has it)")
    (tmp_path / "small.yaml").write_text(SUITE)
    found = {}
    try:
        for launcher in ("ray", "local"):
            command = ["benchmark", "run", str(tmp_path / "small.yaml"), "--launcher", launcher]
            command += ["--out", str(tmp_path / launcher), "--runs", str(tmp_path / f"runs-{launcher}")]
            done = CliRunner().invoke(main, command)
            assert done.exit_code == 0, done.output + repr(done.exception)
            rows = results.read(tmp_path / launcher / "small.jsonl")
            found[launcher] = [(row.seed, row.state, row.evaluations[0].scores) for row in rows]
    finally:
        ray.shutdown()
    assert len(found["ray"]) == 2
    assert found["ray"] == found["local"]
