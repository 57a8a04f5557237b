"""A model that is given away: the same pictures elsewhere, a card that is true, nothing overwritten."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from lightning_gen.cli import main
from lightning_gen.metrics.passport import Passport
from lightning_gen.sharing import repository


def lgen(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output + repr(done.exception)
    return done.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LGEN_CACHE", str(tmp_path_factory.getbasetemp() / "lgen-cache"))
        small = ["--model.width", 8, "--data.size", 96, "--data.batch_size", 16, "--metrics.samples", 64]
        small += ["--samples.count", 4, "--logger", "none", "--kimg", 0.16]
        lgen("fit", "--model", "cgan", "--preset", "quick", *small, "--out", folder)
    return folder


@pytest.fixture
def pushed(run: Path, tmp_path: Path) -> Path:
    lgen("push", run, tmp_path / "shared")
    return tmp_path / "shared"


def test_a_pulled_model_draws_the_same_images_as_the_run(run: Path, pushed: Path, tmp_path: Path) -> None:
    said = lgen("pull", pushed, "--out", tmp_path / "elsewhere" / "mine")
    assert "cgan on shapes, 0.16 kimg, fid/tiny" in said
    shutil.rmtree(pushed)
    for source in (run, tmp_path / "elsewhere" / "mine"):
        lgen("sample", source, "--n", 4, "--seed", 3, "--out", tmp_path / "of" / source.name)
    ours, theirs = (sorted((tmp_path / "of" / name).iterdir()) for name in ("small", "mine"))
    assert len(ours) == 4
    assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]


def test_the_card_states_data_budget_scores_passport_and_use(run: Path, pushed: Path) -> None:
    text = (pushed / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    meta = yaml.safe_load(front)
    assert meta["library_name"] == "lightning_gen"
    assert "license" not in meta  # nobody's to guess
    (results,) = meta["model-index"][0]["results"]
    fid = next(metric for metric in results["metrics"] if metric["name"] == "fid/tiny")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert fid["value"] == [r["fid/tiny"] for r in records if "fid/tiny" in r][-1]
    passport = Passport.from_json(json.loads((run / "passport.json").read_text()))
    assert fid["args"]["passport"] == passport.digest()
    stated = ["0.16 thousand images of a budget of 0.16", "shapes", "Mirza", "![Samples](samples.png)"]
    stated += [f"lgen pull {pushed}", "lgen sample shared", passport.digest(), "num_classes: 48"]
    assert [part for part in stated if part not in body] == []
    assert (pushed / "samples.png").read_bytes() == sorted((run / "samples").glob("*.png"))[-1].read_bytes()


def test_a_licence_is_named_where_the_user_names_it(run: Path, tmp_path: Path) -> None:
    lgen("push", run, tmp_path / "shared", "--license", "mit")
    assert "license: mit" in (tmp_path / "shared" / "README.md").read_text()


def test_pushing_again_brings_the_folder_up_to_date(run: Path, pushed: Path) -> None:
    (pushed / "config.json").write_text((pushed / "config.json").read_text().replace('"kimg": 0.16', '"kimg": 0.1'))
    lgen("push", run, pushed)
    assert repository.config_of(pushed)["kimg"] == 0.16  # type: ignore[index]


def rolled_back(run: Path, to: Path) -> Path:
    """The run, with a grid of an attempt that was given up."""
    shutil.copytree(run, to)
    shutil.copy(run / "samples" / f"{0:012d}.png", to / "samples" / f"{320:012d}.png")
    return to


def test_the_picture_is_of_the_weights_that_are_pushed(run: Path, tmp_path: Path) -> None:
    lgen("push", rolled_back(run, tmp_path / "run"), tmp_path / "shared")
    grids = sorted((run / "samples").glob("*.png"))
    assert (tmp_path / "shared" / "samples.png").read_bytes() == grids[-1].read_bytes()
    lgen("push", run, tmp_path / "best", "--checkpoint", "best")
    kimg = repository.config_of(tmp_path / "best")["kimg"]  # type: ignore[index]
    not_newer = [grid for grid in grids if int(grid.stem) <= 1000 * kimg]
    assert (tmp_path / "best" / "samples.png").read_bytes() == not_newer[-1].read_bytes()


def test_pushing_a_model_without_a_picture_leaves_no_other_model_s(run: Path, pushed: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "samples")
    lgen("push", tmp_path / "run", pushed)
    assert sorted(path.name for path in pushed.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_the_card_states_every_score_and_no_loss() -> None:
    of_both, of_steps = [(0.0, 1.0), (0.1, 2.0)], [(0.1, 2.0)]
    for name in ("psnr", "modes_covered", "high_quality", "a_plugin_s"):
        assert repository._is_score(name, of_both)
    assert repository._is_score("fid/tiny", of_steps)  # scored since a resume
    for name in ("loss_d", "images_per_second", "diversity", "label_perplexity", "is/tiny/std"):
        assert not repository._is_score(name, of_both if "/" in name else of_steps)


def test_a_folder_that_cannot_be_made_is_said(pushed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot write" in lgen("pull", pushed, "--out", tmp_path / "file" / "mine", code=2)


def test_nothing_of_anybody_is_overwritten(run: Path, pushed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "README.md").write_text("mine")
    assert "holds something else" in lgen("push", run, other, code=2)
    assert "is there already" in lgen("pull", pushed, "--out", other, code=2)
    assert [path.read_text() for path in other.iterdir()] == ["mine"]


@pytest.mark.parametrize("damage", ["cut", "gone", "foreign", "silent"])
def test_a_damaged_model_is_not_pulled(damage: str, pushed: Path, tmp_path: Path) -> None:
    if damage == "cut":
        file = pushed / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "gone":
        (pushed / "model.safetensors").unlink()
    elif damage == "silent":
        config = json.loads((pushed / "config.json").read_text())
        del config["scores"]
        (pushed / "config.json").write_text(json.dumps(config))
    else:
        (pushed / "config.json").write_text('{"library_name": "diffusers"}')
    lgen("pull", pushed, "--out", tmp_path / "mine", code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["shared"]


def test_a_model_of_a_plugin_can_be_pulled_and_says_what_it_needs(pushed: Path, tmp_path: Path) -> None:
    config = json.loads((pushed / "config.json").read_text())
    (pushed / "config.json").write_text(json.dumps({**config, "model": "tides", "distribution": "lgen-tides"}))
    assert "it needs lgen-tides 0.1.0: pip install lgen-tides" in lgen("pull", pushed, "--out", tmp_path / "mine")


class Hub:
    """What is used of huggingface_hub, in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.made: dict[str, Any] = {}

    def HfApi(self, **_: Any) -> Hub:  # noqa: N802 - the hub's name
        return self

    def create_repo(self, name: str, **options: Any) -> str:
        self.made = {"name": name, **options}
        return f"https://huggingface.co/{name}"

    def upload_folder(self, repo_id: str, folder_path: Path, delete_patterns: list[str], **_: Any) -> None:
        assert repo_id == self.made["name"]
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)
        for pattern in delete_patterns:
            (self.folder / repo_id / pattern).unlink(missing_ok=True)

    def snapshot_download(self, name: str, local_dir: str, allow_patterns: list[str]) -> None:
        if not (self.folder / name).exists():
            raise ConnectionError("404 Client Error.\n\nRepository Not Found")
        for pattern in allow_patterns:
            shutil.copy(self.folder / name / pattern, local_dir)


def test_the_hub_is_a_folder_elsewhere(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(repository, "_hub", lambda: hub)
    assert "https://huggingface.co/me/mine" in lgen("push", run, "hf://me/mine", "--private")
    assert hub.made == {"name": "me/mine", "private": True, "exist_ok": True}
    assert "lgen pull hf://me/mine" in (hub.folder / "me" / "mine" / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    lgen("pull", "hf://me/mine")
    assert sorted(p.name for p in Path("mine").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "samples.png",
    ]
    shutil.copytree(run, "pictureless", ignore=shutil.ignore_patterns("samples"))
    lgen("push", "pictureless", "hf://me/mine")
    assert not (hub.folder / "me" / "mine" / "samples.png").exists()
    assert "Repository Not Found" in lgen("pull", "hf://me/other", code=2)
    assert not Path("other").exists()


def test_real_calls_of_the_hub_exist() -> None:
    hub = pytest.importorskip("huggingface_hub")
    assert {"create_repo", "upload_folder"} <= set(dir(hub.HfApi))
    assert "delete_patterns" in inspect.signature(hub.HfApi.upload_folder).parameters
    assert callable(hub.snapshot_download)


def test_what_is_no_run_or_no_model_is_said(run: Path, tmp_path: Path) -> None:
    assert "no checkpoint" in lgen("push", tmp_path, tmp_path / "x", code=2)
    assert "there is no folder" in lgen("pull", tmp_path / "none", "--out", tmp_path / "x", code=2)
    assert "holds no model of lightning_gen" in lgen("pull", tmp_path, "--out", tmp_path / "x", code=2)
    assert "--private is for the hub" in lgen("push", run, tmp_path / "x", "--private", code=2)
    assert not (tmp_path / "x").exists()
