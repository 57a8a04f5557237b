"""What authors of Lightning modules are used to: it works here, or is refused before it could do harm."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lightning_gen import checkpoints, records, registry
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

FORGETFUL = """
from lightning_gen.models.gan import GAN


class Mine(GAN):
    "A model."

    def save_hyperparameters(self, **options):
        pass
"""

SILENT = """
from lightning_gen.models.gan import GAN


class Mine(GAN):
    "A model."

    def training_step(self, batch, batch_idx):
        pass
"""

DECIDED = """
from __future__ import annotations

from lightning_gen.models.gan import GAN


class Mine(GAN):
    \"\"\"A GAN with a depth for each size.

    Args:
        image_shape: (channels, height, width).
        width: Units of both networks.
        depths: Pairs of numbers.
        more: Perhaps some more.
    \"\"\"

    presets = {"quick": {"image_shape": (3, 8, 8), "width": 4}}
    recipes = {}

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 8, 8),
        width: int = 4,
        depths: list[tuple[int, int]] = [(1, 2), (3, 4)],
        more: tuple[tuple[int, int], ...] | None = None,
    ):
        super().__init__(image_shape=image_shape, width=width, discriminator_width=5, latent_dim=3)
        self.save_hyperparameters(logger=False)
        self.seen = {pair: 0 for pair in [*depths, *(more or ())]}
"""

PRESET = """
from lightning_gen.models.gan import GAN


class Mine(GAN):
    "A model."

    presets = {"quick": %s}
    recipes = {"quick": %s}
"""

ONLY_FLOAT32 = """
from lightning_gen.models.gan import GAN


class Mine(GAN):
    __doc__ = GAN.__doc__

    def training_step(self, batch, batch_idx):
        self.discriminator(batch["image"]).detach().numpy()  # which has no bf16
        return super().training_step(batch, batch_idx)
"""

OF_THE_RECORD = OWN.replace("gap=", "step=")

SMALL = ("--model.width", "2", "--data.size", "40", "--data.resolution", "8", "--data.batch_size", "20", "--logger",
         "none", "--metrics.every_kimg", "0", "--samples.every_kimg", "0", "--kimg", "0.04")  # fmt: skip


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(source: str, *more: str) -> Result:
    Path("mine.py").write_text(source)
    command = ["fit", "--plugin", "mine.py:Mine", *SMALL, *more, "--out", "run"]
    return CliRunner().invoke(main, command, prog_name="lgen")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (SCHEDULERS, "Mine returns schedulers with its optimizers, and rates follow the clock here"),
        (
            LOG,
            "Mine logs 'gap/a' by `log`, which counts batches, not images: end training_step with `self.step_output(",
        ),
        (SILENT, "Mine counts no images: its training_step must end with `return self.step_output(images_seen, ...)`"),
        (FORGETFUL, "and no checkpoint of it could be opened: call `self.save_hyperparameters(logger=False)` first"),
    ],
)
def test_what_would_be_undone_or_misplaced_is_one_line_and_leaves_nothing(source: str, message: str) -> None:
    done = train(source)
    assert done.exit_code == 2, done.output + repr(done.exception)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("preset", "recipe", "message"),
    [
        ("{'latnt_dim': 3}", "{}", "unknown setting model.latnt_dim; did you mean 'model.latent_dim'?"),
        ("{}", "{'kmg': 3}", "unknown setting kmg; did you mean 'kimg'?"),
        ("{}", "{'data.batch_size': 'x'}", "--data.batch_size: expected a whole number, got 'x'"),
    ],
)
def test_a_preset_that_sets_what_is_no_setting_is_refused_by_name(preset: str, recipe: str, message: str) -> None:
    done = train(PRESET % (preset, recipe), "--preset", "quick")
    assert done.exit_code == 2, done.output + repr(done.exception)
    assert message in done.stderr
    assert not Path("run").exists()


def test_what_a_subclass_decides_for_its_base_is_no_setting_of_its_checkpoints() -> None:
    assert train(DECIDED, "--model.depths", "[[5,6]]", "--model.more", "[[7,8]]").exit_code == 0
    drawn = CliRunner().invoke(main, ["sample", "run", "--n", "4", "--grid", "grid.png"], prog_name="lgen")
    assert drawn.exit_code == 0, drawn.output + repr(drawn.exception)
    with registry.including(["mine.py:Mine"]):
        model, _ = checkpoints.load_model(Path("run/checkpoints/last.ckpt"))
        check_model("Mine")
    assert set(model.hparams) > {"discriminator_width", "latent_dim"}  # of the base
    assert set(model.own_settings()) == {"image_shape", "width", "depths", "more"}
    assert model.seen == {(5, 6): 0, (7, 8): 0}


def test_a_further_value_of_a_step_keeps_the_contract_and_is_recorded() -> None:
    assert train(OWN).exit_code == 0
    assert all("gap" in record for record in records.read(Path("run/metrics.jsonl")))
    with registry.including(["mine.py:Mine"]):
        check_model("Mine")


def test_a_value_that_would_take_the_place_of_one_that_records_have_breaks_the_contract() -> None:
    Path("mine.py").write_text(OF_THE_RECORD)
    with registry.including(["mine.py:Mine"]), pytest.raises(AssertionError, match="'step', which every record has"):
        check_model("Mine")


def test_the_check_of_a_model_that_only_float32_can_train_says_so() -> None:
    Path("mine.py").write_text(ONLY_FLOAT32)
    done = CliRunner().invoke(main, ["plugin", "check", "mine.py:Mine"])
    assert done.exit_code == 2, done.output + repr(done.exception)
    assert "FAILED   model Mine: in bf16-mixed: TypeError: Got unsupported ScalarType BFloat16" in done.output
