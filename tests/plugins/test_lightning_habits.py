"""What authors of Lightning modules are used to: it works here, or is refused before it could do harm."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lightning_gen import records, registry
from lightning_gen.cli import main
from lightning_gen.testing import check_model

SCHEDULERS = """
import torch
from lightning_gen.models.gan import GAN


class Mine(GAN):
    "A model."

    def configure_optimizers(self):
        optimizers = super().configure_optimizers()
        return optimizers, [torch.optim.lr_scheduler.ExponentialLR(one, 0.5) for one in optimizers]
"""

LOG = """
from lightning_gen.models.gan import GAN


class Mine(GAN):
    "A model."

    def training_step(self, batch, batch_idx):
        self.log("gap/a", 0.0)
        return super().training_step(batch, batch_idx)
"""

OWN = """
from lightning_gen.models.gan import GAN


class Mine(GAN):
    __doc__ = GAN.__doc__

    def step_output(self, images_seen, **values):
        return super().step_output(images_seen, gap=values["loss_d"] - values["loss_g"], **values)
"""

OF_THE_RECORD = OWN.replace("gap=", "step=")

SMALL = ("--model.width", "2", "--data.size", "40", "--data.resolution", "8", "--data.batch_size", "20", "--logger",
         "none", "--metrics.every_kimg", "0", "--samples.every_kimg", "0", "--kimg", "0.04")  # fmt: skip


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(source: str) -> Result:
    Path("mine.py").write_text(source)
    return CliRunner().invoke(main, ["fit", "--plugin", "mine.py:Mine", *SMALL, "--out", "run"], prog_name="lgen")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (SCHEDULERS, "Mine returns schedulers with its optimizers, and rates follow the clock here"),
        (
            LOG,
            "Mine logs 'gap/a' by `log`, which counts batches, not images: end training_step with `self.step_output(",
        ),
    ],
)
def test_what_would_be_undone_or_misplaced_is_one_line_and_leaves_nothing(source: str, message: str) -> None:
    done = train(source)
    assert done.exit_code == 2, done.output + repr(done.exception)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not Path("run").exists()


def test_a_further_value_of_a_step_keeps_the_contract_and_is_recorded() -> None:
    assert train(OWN).exit_code == 0
    assert all("gap" in record for record in records.read(Path("run/metrics.jsonl")))
    with registry.including(["mine.py:Mine"]):
        check_model("Mine")


def test_a_value_that_would_take_the_place_of_one_that_records_have_breaks_the_contract() -> None:
    Path("mine.py").write_text(OF_THE_RECORD)
    with registry.including(["mine.py:Mine"]), pytest.raises(AssertionError, match="'step', which every record has"):
        check_model("Mine")
