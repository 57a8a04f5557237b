"""`--plugin FILE.py:Class`: code that no distribution brings, and when it may run again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from lightning_gen import checkpoints, registry, unpackaged
from lightning_gen.cli import main
from lightning_gen.errors import UserError

SOURCE = """
from lightning_gen.models.gan import GAN


class Mine(GAN):
    \"\"\"A model of one's own.\"\"\"


class Plain: ...

"""

CALLBACK = '''
from pytorch_lightning import Callback


class Farewell(Callback):
    """A callback without a setting."""

    def on_train_end(self, trainer, pl_module):
        print("farewell")
'''

SMALL = ("--model.width", "2", "--data.size", "40", "--data.resolution", "8", "--data.batch_size", "20", "--logger",
         "none", "--metrics.samples", "20", "--samples.every_kimg", "0", "--kimg", "0.04")  # fmt: skip


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LGEN_CACHE", str(tmp_path / "cache"))
    Path("mine.py").write_text(SOURCE)


def lgen(*arguments: str) -> Result:
    os.environ.pop("LGEN_RUN", None)
    return CliRunner().invoke(main, arguments, prog_name="lgen")


def succeed(*arguments: str) -> str:
    done = lgen(*arguments)
    assert done.exit_code == 0, done.output + repr(done.exception)
    return done.output


def mistake(*arguments: str) -> str:
    done = lgen(*arguments)
    assert done.exit_code == 2, done.output + repr(done.exception)
    (said,) = done.stderr.splitlines()
    return said


def train() -> None:
    succeed("fit", "--plugin", "mine.py:Mine", *SMALL, "--out", "run")


def draw(*plugin: str) -> tuple[str, ...]:
    return ("sample", "run", "--n", "1", "--grid", "grid.png", *plugin)


def test_it_is_trained_recorded_scored_and_found_again() -> None:
    train()
    digest = unpackaged.find("mine.py:Mine").digest
    kept = [{"file": str(Path("mine.py").absolute()), "class": "Mine", "digest": digest}]
    assert yaml.safe_load(Path("run/run.yaml").read_text())["plugins"] == kept
    assert checkpoints.read(Path("run/checkpoints/last.ckpt"))[checkpoints.ORIGIN]["plugins"] == kept
    assert json.loads(Path("run/passport.json").read_text())["libraries"]["mine.py"] == digest
    succeed(*draw())
    scored = json.loads(lgen("evaluate", "run", "--n", "20", "--metrics", "fid", "--json").stdout)
    assert scored["passport"]["libraries"]["mine.py"] == digest
    assert "0.08 kimg" in succeed("fit", "--resume", "run", "--kimg", "0.08")
    succeed("fit", "--config", "run/run.yaml", "--out", "again")
    assert "Mine" not in registry.names(), "known only while the verb runs"


def test_a_file_that_moved_is_asked_for_and_may_be_named_where_it_is() -> None:
    train()
    Path("mine.py").rename("theirs.py")
    for verb in (draw(), ("fit", "--resume", "run")):
        assert "mine.py, which is not there: if it moved, say --plugin FILE.py:Mine" in mistake(*verb)
    assert not Path("grid.png").exists()
    succeed(*draw("--plugin", "theirs.py:Mine"))
    succeed("fit", "--resume", "run", "--kimg", "0.08", "--plugin", "theirs.py:Mine")
    assert yaml.safe_load(Path("run/run.yaml").read_text())["plugins"][0]["file"].endswith("theirs.py")


def test_a_file_that_changed_does_not_run_unless_it_is_named() -> None:
    train()
    Path("mine.py").write_text(f"{SOURCE}\n# another text\n")
    for verb in (draw(), ("fit", "--resume", "run")):
        assert "and the file has changed" in mistake(*verb)
    succeed(*draw("--plugin", "mine.py:Mine"))
    said = succeed("fit", "--resume", "run", "--kimg", "0.08", "--plugin", "mine.py:Mine")
    assert "Mine is not the code it was" in said


def test_a_run_from_elsewhere_cannot_say_which_code_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    train()
    monkeypatch.setenv("LGEN_CACHE", str(Path("another-users-cache").absolute()))
    said = mistake(*draw())
    assert said.endswith(f"was never named here: look at it, then say --plugin {Path('mine.py').absolute()}:Mine")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mime.py:Mine", "there is no file mime.py; did you mean 'mine.py'?"),
        ("mine.py:Mime", "no class 'Mime'; did you mean 'Mine'? (mine.py has Mine, Plain)"),
        ("mine.py", "which class? (mine.py has Mine, Plain)"),
        ("mine:Mine", "--plugin mine:Mine: expected FILE.py:Class"),
        ("mine.py:Plain", "mine.py:Plain derives from none of lightning_gen.module.GenerativeModule, "),
        ("broken.py:Mine", "broken.py is no Python (line 1): "),
        ("raising.py:Mine", "raising.py:Mine cannot be imported: RuntimeError: not today"),
        ("leaving.py:Mine", "leaving.py:Mine cannot be imported: SystemExit: 3"),
        ("two.py:Mine", "No module named 'mine' (a file stands alone: it imports installed packages only)"),
        ("taken.py:progan", "lightning-gen 0.1.0 has a model of that name, give the class another one"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(spec: str, message: str) -> None:
    Path("broken.py").write_text("class Mine(:\n")
    Path("raising.py").write_text("class Mine: ...\nraise RuntimeError('not today')\n")
    Path("leaving.py").write_text("class Mine: ...\nimport sys; sys.exit(3)\n")
    Path("two.py").write_text("from mine import Mine as Base\nclass Mine(Base): ...\n")
    Path("taken.py").write_text(SOURCE.replace("Mine", "progan"))
    assert message in mistake("fit", "--plugin", spec, "--out", "run")
    assert not Path("run").exists()


def test_naming_one_model_and_training_another_is_a_mistake() -> None:
    said = mistake("fit", "--plugin", "mine.py:Mine", "--model", "dcgan", "--out", "run")
    assert "--plugin names the model Mine, and the run is one of dcgan: leave one of them out" in said


def test_a_data_source_may_come_from_a_file_too() -> None:
    Path("own.py").write_text(
        "from lightning_gen.data.shapes import Shapes\nclass Own(Shapes):\n    'Shapes of a file.'\n    title = 'own'\n"
    )
    succeed("fit", "--model", "gan", "--plugin", "own.py:Own", "--data", "Own", *SMALL, "--out", "run")
    succeed("evaluate", "run", "--n", "20", "--metrics", "fid")


def test_plugins_in_a_file_of_settings_must_be_as_run_yaml_has_them() -> None:
    Path("odd.yaml").write_text("model: {name: gan}\nplugins: [mine.py:Mine]\n")
    assert "expected plugins as run.yaml has them, each with file, class and digest" in mistake(
        "fit", "--config", "odd.yaml"
    )


def test_a_cache_that_cannot_be_written_only_means_that_the_file_must_be_named_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("file").write_text("")
    monkeypatch.setenv("LGEN_CACHE", str(Path("file").absolute()))
    with registry.including(["mine.py:Mine"]):
        assert "Mine" in registry.names()
    with pytest.raises(UserError, match="never named here"):
        unpackaged.recall(unpackaged.record(unpackaged.find("mine.py:Mine")), "it")


def test_a_callback_without_settings_runs_and_runs_again_when_resumed() -> None:
    Path("farewell.py").write_text(CALLBACK)
    asked = ("--plugin", "farewell.py:Farewell", "--callback", "Farewell")
    assert "farewell" in succeed("fit", "--plugin", "mine.py:Mine", *asked, *SMALL, "--out", "run")
    assert "farewell" in succeed("fit", "--resume", "run", "--kimg", "0.08")


def test_a_callback_that_is_named_beside_a_file_of_settings_or_a_run_joins_theirs() -> None:
    Path("farewell.py").write_text(CALLBACK)
    asked = ("--plugin", "farewell.py:Farewell", "--callback", "Farewell")
    succeed("fit", "--model", "gan", *SMALL, "--out", "run")
    assert "farewell" in succeed("fit", "--config", "run/run.yaml", *asked, "--out", "again")
    assert "farewell" in succeed("fit", "--resume", "run", "--kimg", "0.08", *asked)
    assert yaml.safe_load(Path("run/run.yaml").read_text())["callbacks"][-2:] == ["report", "Farewell"]


def test_a_model_that_hands_keywords_on_to_a_model_of_ours_trains_with_the_settings_of_both() -> None:
    Path("mine.py").write_text(
        "from lightning_gen.models.gan import GAN\nclass Mine(GAN):\n    'A model.'\n"
        "    def __init__(self, extra: int = 1, **settings):\n        super().__init__(**settings)\n"
    )
    train()
    kept = yaml.safe_load(Path("run/run.yaml").read_text())["model"]
    assert (kept["extra"], kept["width"], kept["image_shape"]) == (1, 2, [3, 8, 8])
    succeed(*draw())


VIEWING = """
import torch
from torch import nn

from lightning_gen.models.dcgan import DCGAN


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 32 * 32, 1)

    def forward(self, images):
        maps = torch.relu(self.maps(images))
        return self.last(maps.view(maps.size(0), -1)).view(-1)


class Mine(DCGAN):
    \"\"\"A discriminator as many write one.\"\"\"

    def __init__(self, width: int = 2):
        super().__init__((3, 32, 32), 4, width)
        self.save_hyperparameters(logger=False)
        self.discriminator = Critic()
"""


def test_a_model_whose_networks_view_images_trains_and_is_told_how_it_would_be_faster() -> None:
    Path("mine.py").write_text(VIEWING)
    said = succeed("fit", "--plugin", "mine.py:Mine", *SMALL, "--data.resolution", "32", "--out", "run")
    assert "Mine is computed in PyTorch's own layout: `any_layout = True` in its class" in said


def test_it_is_shared_without_its_file_which_whoever_gets_it_has_to_name() -> None:
    train()
    succeed("push", "run", "shared")
    card = Path("shared/README.md").read_text()
    assert "pip install lightning-gen\n" in card
    assert "lgen sample shared --n 64 --seed 0 --grid grid.png --plugin FILE.py:Mine\n" in card
    assert "The model is the class `Mine` of the file mine.py, which is not among these." in card
    digest = unpackaged.find("mine.py:Mine").digest
    said = succeed("pull", "shared", "--out", "theirs")
    assert said.splitlines()[-1] == f"it needs the class Mine of mine.py {digest}: say --plugin FILE.py:Mine"
    Path("mine.py").rename("moved.py")
    succeed("sample", "theirs", "--n", "1", "--grid", "grid.png", "--plugin", "moved.py:Mine")
    assert "mine.py, which is not there" in mistake("push", "run", "again")
    succeed("push", "run", "again", "--plugin", "moved.py:Mine")


def own_metric(name: str, gives: str) -> None:
    """A file of a metric of that name."""
    Path(f"{name}.py").write_text(
        f"from lightning_gen.metrics.scores import Score\nclass {name}(Score):\n    'Better than it is.'\n"
        f"    def compute(self, generated):\n        return {gives}\n"
    )


def test_a_metric_cannot_take_the_name_of_one_of_our_scores_though_that_is_not_asked_for() -> None:
    own_metric("Own", "{'fid/tiny': 0.0}")
    train()
    done = lgen("evaluate", "run", "--plugin", "Own.py:Own", "--n", "20", "--metrics", "Own")
    assert done.exit_code == 2, done.output
    assert "the metric Own gives 'fid/tiny', a name of lightning-gen's scores: rename it" in done.stderr


def test_a_metric_cannot_take_the_name_of_a_number_that_another_gives() -> None:
    own_metric("Own", "{'ours': 0.0}")
    own_metric("Other", "{'ours': 1.0}")
    train()
    plugins = ("--plugin", "Own.py:Own", "--plugin", "Other.py:Other")
    done = lgen("evaluate", "run", *plugins, "--n", "20", "--metrics", "Other,Own")
    assert done.exit_code == 2, done.output
    assert "the metrics Other and Own both give 'ours': leave one out" in done.stderr
    succeed("evaluate", "run", *plugins, "--n", "20", "--metrics", "Own,Own")


@pytest.mark.parametrize("gives", ["None", "{'own': 'good'}", "{}[0]"])
def test_a_metric_that_gives_no_numbers_is_named(gives: str) -> None:
    own_metric("Own", gives)
    train()
    done = lgen("evaluate", "run", "--plugin", "Own.py:Own", "--n", "20", "--metrics", "fid,Own")
    assert done.exit_code == 2, repr(done.exception)
    assert "metric 'Own' of Own.py" in done.stderr
    assert " cannot be computed: " in done.stderr


@pytest.mark.parametrize("gives", ["images.float().mean((2, 3))", "Features(images.float().mean((2, 3)), None)"])
def test_an_extractor_that_gives_other_features_than_it_says_is_named(gives: str) -> None:
    Path("own.py").write_text(
        "from lightning_gen.metrics.extractors import Extractor, Features\nclass Own(Extractor):\n    'An extractor.'\n"
        "    name, feature_dim, logit_dim, resizes = 'Own', 4, 0, ('none',)\n    weights_digest = 'none'\n"
        f"    def extract(self, images):\n        return {gives}\n"
    )
    train()
    done = lgen("evaluate", "run", "--plugin", "own.py:Own", "--n", "20", "--extractor", "Own", "--metrics", "fid")
    assert done.exit_code == 2, repr(done.exception)
    assert "extractor 'Own' of own.py" in done.stderr
    assert "not Features of 4 each" in done.stderr
