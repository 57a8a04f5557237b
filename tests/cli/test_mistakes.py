"""A user's mistake: one or two lines that name it in the user's words, exit code 2, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tarfile
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from filelock import FileLock
from PIL import Image

from lightning_gen import launch, loggers, rundir
from lightning_gen.cli import main
from lightning_gen.errors import UserError

TINY = ("--model", "dcgan", "--model.image_shape", "[3,32,32]", "--model.width", "2", "--model.latent_dim", "4",
        "--data.batch_size", "20", "--metrics.every_kimg", "0", "--samples.every_kimg", "0", "--logger", "none",
        "--kimg", "0.08")  # fmt: skip


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lgen(*arguments: str) -> Result:
    os.environ.pop("LGEN_RUN", None)  # set for child processes of one run
    return CliRunner().invoke(main, arguments, prog_name="lgen")


def succeed(*arguments: str) -> str:
    done = lgen(*arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def message(code: int, stderr: str) -> str:
    """What follows "Error: "; what comes before it may be a line of progress."""
    assert code == 2, stderr
    assert "Traceback" not in stderr
    said = stderr[stderr.index("Error: ") + len("Error: ") :].rstrip("\n")
    assert 1 <= len(said.splitlines()) <= 2, said
    assert all(line.strip() for line in said.splitlines())
    return said


def mistake(*arguments: str) -> str:
    """The message of a command that must fail, change no file and make none."""
    before = everything()
    done = lgen(*arguments)
    assert isinstance(done.exception, SystemExit), done.exception
    assert everything() == before
    return message(done.exit_code, done.stderr)


def fit(*arguments: str) -> str:
    return mistake("fit", *arguments, "--kimg", "0.08", "--out", "run")


def everything() -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(Path().rglob("*"))}


def pictures(folder: str, count: int = 6) -> Path:
    Path(folder).mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path(folder) / f"{i}.jpg")
    return Path(folder)


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("fti", "there is no `lgen fti`; did you mean 'fit'?"),
        ("fit", "which model? --model NAME, one of: acgan, ae, "),
        ("fit --model prrogan", "unknown model 'prrogan'; did you mean 'progan'? (`lgen models` lists them)"),
        ("fit --model dcgan --data shape", "unknown data source 'shape'; did you mean 'shapes'?"),
        ("fit --model dcgan --preset quik", "dcgan has no preset 'quik'; did you mean 'quick'?"),
        ("fit --model dcgan --logger tensorbord", "unknown logger 'tensorbord'; did you mean 'tensorboard'?"),
        ("fit --model dcgan --callback sampels", "unknown callback 'sampels'; did you mean 'samples'?"),
        (
            "fit --model dcgan --model.latent_dmi 8",
            "unknown setting --model.latent_dmi; did you mean '--model.latent_dim'",
        ),
        ("fit --model dcgan --latent_dim 8", "unknown setting --latent_dim; did you mean '--model.latent_dim'?"),
        (
            "fit --model dcgan --model.latent-dim=8",
            "unknown setting --model.latent-dim; did you mean '--model.latent_dim'",
        ),
        ("fit --model dcgan --resmue run", "unknown setting --resmue; did you mean '--resume'?"),
        ("fit --model dcgan --print-confg", "unknown setting --print-confg; did you mean '--print-config'?"),
        ("fit --model dcgan --metrics.extractor tinny", "unknown extractor 'tinny'; did you mean 'tiny'?"),
        ("fit --model dcgan stray", "unknown setting stray"),
        ("models dgcan", "unknown model 'dgcan'; did you mean 'dcgan'?"),
        ("models --jsn", "No such option '--jsn'. Did you mean '--json'?"),
        ("data shape", "unknown data source 'shape'; did you mean 'shapes'?"),
        ("extractors inception-v3", "unknown extractor 'inception-v3'; did you mean 'inception-v3-compat'?"),
        ("sample run --grid x.png", "there is no run or checkpoint run"),
        ("sample --n 4", "Missing argument 'RUN|CKPT'."),
        ("sample run --n 0 --grid x.png", "Invalid value for '--n': 0 is not in the range x>=1."),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest_right_one(command: str, said: str) -> None:
    assert mistake(*command.split()).startswith(said)


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("model.latent_dim", "many", "expected a whole number, got 'many'"),
        ("model.latent_dim", "1.5", "expected a whole number, got '1.5'"),
        ("model.latent_dim", "0", "must be more than 0, got 0"),
        ("model.latent_dim", "-3", "must be more than 0, got -3"),
        ("model.width", "0", "must be more than 0, got 0"),
        ("model.critic_steps", "0", "must be more than 0, got 0"),
        ("model.lr", "0", "must be more than 0, got 0"),
        ("model.lr", "fast", "expected a number, got 'fast'"),
        ("model.lr", "nan", "must be more than 0, got nan"),
        ("model.betas", "0.5", "expected a list of 2, got [0.5]"),
        ("model.betas", "[0.5]", "expected a list of 2, got [0.5]"),
        ("model.betas", "[0.5,2]", "must be 0 or more and less than 1, got 2"),
        ("model.ema_halflife_kimg", "-1", "must be 0 or more, got -1"),
        ("model.image_shape", "32", "expected a list of 3, got [32]"),
        ("data.batch_size", "0", "must be more than 0, got 0"),
        ("data.split", "trian", "expected one of ['train', 'test'], got 'trian'"),
        ("data.workers", "-1", "must be 0 or more, got -1"),
        ("kimg", "0", "must be more than 0, got 0"),
        ("kimg", "inf", "must be a finite number of images, got inf"),
        ("seed", "-1", "must be 0 or more, got -1"),
        ("seed", "18446744073709551616", "must be less than 2^64, got 18446744073709551616"),
        ("samples.count", "0", "must be more than 0, got 0"),
        ("samples.count", "-3", "must be more than 0, got -3"),
        ("trainer.precision", "7", "expected one of 64, 32, 16, "),
        ("trainer.deterministic", "perhaps", "expected one of 'warn', got 'perhaps'"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused(setting: str, value: str, said: str) -> None:
    assert mistake("fit", "--model", "dcgan", f"--{setting}={value}", "--out", "run").startswith(f"--{setting}: {said}")


@pytest.mark.parametrize("setting", ["width_base=0", "penalty=-1", "drift=-1", "fade_kimg=-1", "stable_kimg=-1"])
def test_the_ranges_of_progan_are_kept_too(setting: str) -> None:
    assert "must be " in fit("--model", "progan", f"--model.{setting}")


def test_a_setting_without_its_value_is_named() -> None:
    assert "--model.lr" in mistake("fit", "--model", "dcgan", "--model.lr")


@pytest.mark.parametrize("setting", ["data.resolution=48", "model.image_shape=[3,48,48]"])
def test_a_size_that_progan_cannot_make_is_refused_in_the_words_of_the_user(setting: str) -> None:
    assert "48" in fit("--model", "progan", f"--{setting}")
    assert f"--{setting.split('=')[0]}" in fit("--model", "progan", f"--{setting}")
    pictures("pictures")
    said = fit("--model", "progan", "--data", "folder", "--data.root", "pictures", f"--{setting}")
    assert said == "progan makes square images of 4, 8, 16 ... 1024 pixels, not 48 x 48"


def test_a_shape_that_the_data_does_not_have_is_refused() -> None:
    said = fit("--model", "dcgan", "--model.image_shape", "[1,32,32]")
    assert said == "--model.image_shape [1, 32, 32] does not match the data shapes, which has [3, 32, 32]"


# -- data --------------------------------------------------------------------------------------------------------------


def from_folder(root: str) -> str:
    return mistake("fit", *TINY, "--data", "folder", "--data.root", root, "--out", "run")


def test_a_folder_must_be_named_exist_and_hold_images() -> None:
    Path("empty").mkdir()
    Path("notes").mkdir()
    Path("notes/a.txt").write_text("no image")
    assert "--data.root" in fit("--model", "dcgan", "--data", "folder")
    assert from_folder("missing") == "--data.root missing: there is no such folder or archive"
    assert from_folder("empty").startswith("--data.root empty: no images in it (it is empty")
    assert from_folder("notes").startswith("--data.root notes: no images in it (it holds 1 .txt")
    assert from_folder("notes/a.txt").startswith("--data.root notes/a.txt: neither a folder nor an archive")


def test_a_truncated_image_is_named_and_can_be_skipped() -> None:
    broken = pictures("pictures") / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:400])
    said = from_folder("pictures")
    assert said.startswith("--data.root pictures: the image 3.jpg cannot be read")
    assert "--data.on_error skip" in said
    folder = ("--data", "folder", "--data.root", "pictures")
    done = succeed("fit", *TINY, *folder, "--data.on_error", "skip", "--out", "run")
    assert "5 images of folder" in done
    assert "1 unreadable image skipped: 3.jpg" in done


def test_a_name_that_is_no_text_is_shown_all_the_same() -> None:
    folder = pictures("pictures")
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"no picture")
    named = ("--data", "folder", "--data.root", "pictures", "--data.on_error", "skip")
    done = succeed("fit", *TINY, *named, "--out", "run")
    assert "1 unreadable image skipped: \\udcff.jpg" in done


def test_a_folder_one_level_too_deep_is_named() -> None:
    pictures("deep/cats/big")
    pictures("deep/dogs/big")
    assert "class folder deep/cats holds no images itself" in from_folder("deep")
    pictures("nested/a/b/c")
    assert from_folder("nested").endswith("give --data.root nested/a/b/c")


def test_an_archive_that_leads_outside_is_refused() -> None:
    picture = pictures("pictures") / "0.jpg"
    with tarfile.open("evil.tar", "w") as archive:
        archive.add(picture, "../../0.jpg")
    with zipfile.ZipFile("evil.zip", "w") as zipped:
        zipped.write(picture, "a/../../0.jpg")
    assert from_folder("evil.tar") == "--data.root evil.tar: refused, its member '../../0.jpg' leads out of the archive"
    assert "leads out of the archive" in from_folder("evil.zip")


# -- the run directory and its checkpoint ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a finished run."""
    folder = tmp_path_factory.mktemp("trained")
    succeed("fit", *TINY, "--data.size", "100", "--out", str(folder / "run"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(trained: dict[str, bytes]) -> Path:
    """A copy of it, as `run`."""
    for name, content in trained.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    return Path("run")


def test_a_truncated_checkpoint_is_refused_by_name(run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    (run / "checkpoints" / "healthy.ckpt").touch()
    for command in (["fit", "--resume", "run", "--kimg", "1"], ["sample", "run", "--grid", "x.png"]):
        said = mistake(*command)
        assert said.startswith(f"the checkpoint {last} is damaged")
        assert said.endswith("beside it there is healthy.ckpt")


def test_a_damaged_file_among_many_names_a_few_of_them() -> None:
    for name in "abcdefgh":
        Path(f"{name}.ckpt").write_bytes(b"no checkpoint")
    said = mistake("sample", "a.ckpt", "--grid", "x.png")
    assert said.endswith("beside it there is b.ckpt and c.ckpt and d.ckpt and e.ckpt and 3 more")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model.lr", "0.001"),
        ("model.latent_dim", "8"),
        ("data.size", "50"),
        ("data.batch_size", "10"),
        ("seed", "3"),
        ("trainer.precision", "64-true"),
    ],
)
def test_a_resumed_run_refuses_another_setting_by_name(run: Path, setting: str, value: str) -> None:
    said = mistake("fit", "--resume", "run", f"--{setting}", value)
    assert said.startswith(f"--{setting} {value} would make another run of run")
    assert "may change kimg" in said


@pytest.mark.parametrize("option", ["--model", "--data", "--preset", "--config", "--out"])
def test_a_resumed_run_already_says_what_it_is(run: Path, option: str) -> None:
    assert mistake("fit", "--resume", "run", option, "dcgan").startswith(f"{option} cannot be given with --resume")


def test_settings_in_two_files_are_refused() -> None:
    assert mistake("fit", "--config", "a.yaml", "--config", "b.yaml").startswith("--config is given 2 times")


def test_a_budget_of_less_than_an_image_is_refused(tmp_path: Path) -> None:
    said = mistake("fit", "--model", "dcgan", "--kimg", "0.0004", "--out", str(tmp_path / "run"))
    assert said == "--kimg 0.0004 is less than one image"
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_may_be_longer(run: Path) -> None:
    assert "0.12 kimg" in succeed("fit", "--resume", "run", "--kimg", "0.12")
    assert yaml.safe_load((run / "run.yaml").read_text())["kimg"] == 0.12


def test_a_refused_resume_leaves_the_settings_of_the_run(run: Path) -> None:
    weights = ("--metrics.every_kimg", "1", "--metrics.extractor", "inception-v3-compat", "--metrics.weights", "none")
    assert "no file none" in mistake("fit", "--resume", "run", "--kimg", "0.12", *weights)
    assert "0.08 kimg" in succeed("fit", "--resume", "run")


def test_a_model_that_was_edited_in_the_file_of_a_run_is_named_with_both_values(run: Path) -> None:
    file = run / "run.yaml"
    settings = yaml.safe_load(file.read_text())
    was = settings["model"]["latent_dim"]
    settings["model"]["latent_dim"] = was + 1
    file.write_text(yaml.safe_dump(settings))
    said = mistake("fit", "--resume", "run", "--kimg", "0.12")
    assert said.startswith(f"run/run.yaml says model.latent_dim {was + 1}, and last.ckpt was trained with {was}: ")


def test_a_resumed_run_cannot_be_shorter_than_it_is(run: Path) -> None:
    said = mistake("fit", "--resume", "run", "--kimg", "0.06")
    assert said == "--kimg 0.06 is less than the 0.08 kimg that run has seen already"
    succeed("fit", "--resume", "run", "--kimg", "0.07")  # its fourth batch of 20 was the last one too


def test_a_run_that_another_process_writes_is_left_to_it(run: Path) -> None:
    with FileLock(run / ".lock"):
        assert mistake("fit", "--resume", "run") == "run is in use by another process"
        (run / "run.yaml").unlink()  # as before the other one has written anything
        shutil.rmtree(run / "checkpoints")
        assert mistake("fit", *TINY, "--out", "run") == "run is in use by another process"


def test_a_run_that_ends_in_a_mistake_leaves_the_other_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*arguments: object) -> list[object]:
        Path("exp/b").mkdir()  # another run begins
        raise UserError("no key")

    monkeypatch.setattr(loggers, "make", make)
    assert message(2, lgen("fit", *TINY, "--out", "exp/a").stderr) == "no key"
    assert list(everything()) == ["exp", "exp/b"]


def test_a_mistake_does_not_block_the_folder_it_was_made_in(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("run").mkdir()
    Path("run/notes.txt").write_text("mine")
    weights = ("--metrics.every_kimg", "1", "--metrics.extractor", "inception-v3-compat", "--metrics.weights", "none")
    assert "no file none" in mistake("fit", *TINY, *weights, "--out", "run")
    succeed("fit", *TINY, "--out", "run")


def test_runs_that_start_together_take_two_numbers() -> None:
    with rundir.free_directory("dcgan-shapes") as first, rundir.free_directory("dcgan-shapes") as second:
        assert [path.name for path in (first, second)] == ["dcgan-shapes-1", "dcgan-shapes-2"]
        (second / "run.yaml").touch()
    assert list(everything()) == ["runs", "runs/dcgan-shapes-2", "runs/dcgan-shapes-2/run.yaml"]


def test_a_run_without_a_name_leaves_nothing_either() -> None:
    assert "--data.root" in mistake("fit", "--model", "dcgan", "--data", "folder")


def test_only_a_run_can_be_resumed() -> None:
    Path("file").write_text("no run")
    Path("folder").mkdir()
    Path("other").mkdir()
    Path("other/run.yaml").write_text("kimg: 3\n")
    for path in ("missing", "file", "folder"):
        assert mistake("fit", "--resume", path) == f"{path} is not a run directory: it has no run.yaml"
    assert "no run.yaml of lightning_gen" in mistake("fit", "--resume", "other")


def test_a_directory_that_holds_a_run_is_not_written_to(run: Path) -> None:
    said = fit("--model", "dcgan")
    assert said == "run already holds a run: go on with `lgen fit --resume run`, or choose another --out"


def test_checkpoints_without_their_run_yaml_are_not_written_over(run: Path) -> None:
    Path("run/run.yaml").unlink()
    assert fit("--model", "dcgan") == "run holds checkpoints of a run whose run.yaml is gone: choose another --out"


def test_a_root_longer_than_any_name_is_missing() -> None:
    root = "x" * 300
    said = mistake("fit", "--model", "dcgan", "--data", "folder", "--data.root", root)
    assert said == f"--data.root {root}: there is no such folder or archive"


def test_a_directory_that_cannot_be_written_is_named() -> None:
    Path("file").write_text("no directory")
    for out in ("file", "file/run"):
        assert mistake("fit", *TINY, "--out", out).startswith(f"cannot write to --out {out}: ")


# -- machines, weights, settings files ---------------------------------------------------------------------------------


def test_a_batch_that_the_processes_cannot_share_is_refused_before_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    said = fit("--model", "dcgan", "--trainer.accelerator", "cpu", "--trainer.devices", "2", "--data.batch_size", "33")
    assert said == "--data.batch_size 33 cannot be divided among 2 processes"


@pytest.mark.parametrize(
    "setting",
    ["devices=many", "devices=0", "accelerator=gppu", "strategy=dpd", "profiler=nonsense"],
)
def test_what_lightning_refuses_is_said_in_its_first_line(setting: str) -> None:
    assert fit("--model", "dcgan", f"--trainer.{setting}").startswith("Lightning refuses the --trainer settings: ")


def test_weights_of_half_the_precision_are_refused() -> None:
    for half, mixed in (("bf16-true", "bf16-mixed"), ("16-true", "16-mixed")):
        said = fit("--model", "dcgan", "--trainer.accelerator", "cpu", "--trainer.precision", half)
        needs = "weights and their averages need float32"
        assert said == f"--trainer.precision {half}: {needs}, which {mixed} leaves them"


@pytest.mark.parametrize("name", ["64-true", "64"])
def test_weights_of_double_precision_are_refused(name: str) -> None:
    said = fit("--model", "dcgan", "--trainer.accelerator", "cpu", "--trainer.precision", name)
    assert said == "--trainer.precision 64-true: losses, noise and samples are float32 here: 32-true"


def test_float16_is_refused_on_a_cpu_which_would_take_bfloat16_in_its_place() -> None:
    said = fit("--model", "dcgan", "--trainer.accelerator", "cpu", "--trainer.precision", "16-mixed")
    assert said == "--trainer.precision 16-mixed is for GPUs: bf16-mixed is a CPU's"


def test_a_strategy_that_cannot_average_one_optimizer_at_a_time_is_refused() -> None:
    several = ("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    said = fit("--model", "dcgan", *several)
    assert said.startswith("--trainer.strategy ddp cannot be used by 2 processes: leave it out")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"},
            "torchrun started 2 processes, and --trainer.num_nodes x --trainer.devices are 1 x 1",
        ),
        (
            {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0"},
            "SLURM started 2 processes, and --trainer.num_nodes x --trainer.devices are 1 x 1",
        ),
        (
            {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0"},
            "Lightning refuses the --trainer settings: You set `--ntasks=2`",
        ),
    ],
)
def test_processes_that_would_each_train_alone_are_refused(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**environment, "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert fit("--model", "dcgan").startswith(said)


@pytest.mark.parametrize("name", ["train", "bash"])
def test_an_allocation_of_one_process_is_no_launcher_of_several(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = {"NTASKS": "1" if name == "train" else "4", "JOB_NAME": name, "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for variable, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{variable}", value)
    succeed("fit", *TINY, "--out", "run")


def test_the_first_process_alone_writes_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "is_first_process", lambda: False)
    succeed("fit", *TINY, "--out", "run")
    assert not Path("run/run.yaml").exists()


@pytest.mark.parametrize("setting", ["max_steps", "gradient_clip_val", "accumulate_grad_batches"])
def test_what_is_ours_to_set_in_the_trainer_is_no_setting(setting: str) -> None:
    assert fit("--model", "dcgan", f"--trainer.{setting}=3").startswith(f"unknown setting --trainer.{setting}")


def test_missing_inception_weights_are_named_with_where_to_put_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.delenv("LGEN_INCEPTION_WEIGHTS", raising=False)
    Path("home/hub/checkpoints").mkdir(parents=True)
    Path("home/hub/checkpoints/weights-inception-2015-12-05-6726825d.pth.lock").touch()  # made while a file is fetched
    monkeypatch.setenv("TORCH_HOME", str(Path("home").resolve()))
    said = fit("--model", "dcgan", "--metrics.extractor", "inception-v3-compat")
    assert "weights-inception-2015-12-05-6726825d.pth is not in" in said
    assert str(Path("home/hub/checkpoints").resolve()) in said
    assert "--metrics.weights FILE" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("model: {name: dcgan, latent_dmi: 8}", "unknown setting model.latent_dmi; did you mean 'model.latent_dim'?"),
        ("model: {name: dcgan}\nkimgg: 3", "unknown setting kimgg; did you mean 'kimg'?"),
        ("model: {name: dcgan}\nmetrics: {every: 3}", "unknown setting metrics.every; did you mean 'metrics.every_k"),
        ("model: {name: dcgan, latent_dim: wide}", "--model.latent_dim: expected a whole number, got 'wide'"),
        ("model: {name: prrogan}", "unknown model 'prrogan'; did you mean 'progan'?"),
        ("model: {name: dcgan}\ndata: {name: shape}", "unknown data source 'shape'; did you mean 'shapes'?"),
        ("model: {name: dcgan}\npreset: quik", "dcgan has no preset 'quik'; did you mean 'quick'?"),
        ("model: {name: dcgan}\nlogger: [tensorbord]", "unknown logger 'tensorbord'; did you mean 'tensorboard'?"),
        ("model: {name: dcgan}\ncallbacks: [sampels]", "unknown callback 'sampels'; did you mean 'samples'?"),
        ("model: {name: dcgan}\ncallbacks: 3", "settings.yaml: expected a list of names under callbacks, got 3"),
        ("model: dcgan", "settings.yaml: expected lines like 'model: {name: NAME}', got 'model: dcgan'"),
        ("model: [dcgan", "settings.yaml is not valid YAML: line 2, column 1: expected ',' or ']'"),
        ("- 3", "settings.yaml holds no settings"),
        ("", "settings.yaml holds no settings"),
    ],
)
def test_a_mistake_in_a_settings_file_is_named(content: str, said: str) -> None:
    Path("settings.yaml").write_text(f"{content}\n" if content else "")
    assert mistake("fit", "--config", "settings.yaml", "--out", "run").startswith(said)


def test_a_settings_file_must_be_there_and_be_text() -> None:
    Path("bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert fit("--config", "missing.yaml") == "there is no settings file missing.yaml"
    assert fit("--config", "bytes.yaml").startswith("bytes.yaml is not valid YAML")


# -- the true process --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "--model", "prrogan"], "unknown model 'prrogan'; did you mean 'progan'? (`lgen models` lists them)"),
        (["fit", "--model", "dcgan", "--model.latent_dim", "0"], "--model.latent_dim: must be more than 0, got 0"),
    ],
    ids=["name", "value"],
)
def test_the_installed_command_exits_with_2(arguments: list[str], said: str) -> None:
    command = Path(sysconfig.get_path("scripts")) / "lgen"
    done = subprocess.run([str(command), *arguments], capture_output=True, text=True, timeout=600)
    assert message(done.returncode, done.stderr) == said
    assert done.stderr == f"Error: {said}\n"
    assert (done.stdout, everything()) == ("", {})


def test_lgen_debug_shows_where_it_was_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LGEN_DEBUG", "1")
    done = lgen("fit", "--model", "prrogan")
    assert type(done.exception).__name__ == "UserError"


@pytest.mark.parametrize("group", ["model", "data"])
def test_a_name_among_the_settings_is_refused_not_ignored(group: str) -> None:
    assert f"--{group} NAME" in mistake("fit", "--model", "dcgan", f"--{group}.name", "progan", "--out", "run")


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_NTASKS"])
def test_processes_that_another_program_started_need_one_directory(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "2")
    assert "need --out DIR" in mistake("fit", "--model", "dcgan")


LAUNCHERS = ["WORLD_SIZE", "SLURM_NTASKS", "TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"]


@pytest.mark.parametrize("variable", LAUNCHERS)
def test_what_a_launcher_says_is_a_number_or_nothing(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "two")
    assert (
        mistake("fit", "--model", "dcgan") == f"the environment variable {variable} is 'two': expected a whole number"
    )
    monkeypatch.setenv(variable, "")
    assert "no such folder" in mistake("fit", "--model", "dcgan", "--data", "folder", "--data.root", "none")


@pytest.mark.parametrize("option", [("--logger", "csv,tensorbord"), ("--callback", "report,reprot")])
def test_each_name_in_a_list_with_commas_is_looked_up(option: tuple[str, str]) -> None:
    wrong = option[1].split(",")[1]
    assert repr(wrong) in mistake("fit", *TINY, *option)
