"""`lgen plugin new`: a distribution that is complete the moment it is written."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hatchling import build

from lightning_gen import registry
from lightning_gen.cli import main
from lightning_gen.testing import check_model

from .conftest import pip_install, put_on_path

ROOT = Path(__file__).parents[2]


def new(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plugin", "new", *arguments], prog_name="lgen")


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def build_wheel(home: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as there:
        there.chdir(home)
        return into / build.build_wheel(str(into))


def test_what_it_writes_is_installed_keeps_the_contract_and_passes_its_own_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = new("tidal-waves")
    assert done.exit_code == 0, done.output
    assert "pip install -e lgen-tidal-waves && lgen plugin check lgen-tidal-waves" in done.stdout
    home = tmp_path / "lgen-tidal-waves"
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()) == [
        "README.md", "lgen_tidal_waves/__init__.py", "lgen_tidal_waves/model.py", "pyproject.toml",
        "tests/test_model.py",
    ]  # fmt: skip
    assert not [path for path in home.rglob("*") if path.is_file() and "emplate" in path.read_text()]
    pip_install([build_wheel(home, tmp_path, monkeypatch)], tmp_path / "site")
    put_on_path(tmp_path / "site", monkeypatch)
    assert registry.part("tidal-waves").distribution == "lgen-tidal-waves"
    assert registry.load("tidal-waves").__name__ == "TidalWaves"
    test = importlib.util.spec_from_file_location("its_own_test", home / "tests" / "test_model.py")
    assert test is not None
    assert test.loader is not None
    module = importlib.util.module_from_spec(test)
    test.loader.exec_module(module)
    module.test_the_model_keeps_the_contract()
    del sys.modules["lgen_tidal_waves"], sys.modules["lgen_tidal_waves.model"]


def test_the_template_travels_in_the_wheel_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = zipfile.ZipFile(build_wheel(ROOT, tmp_path, monkeypatch)).namelist()
    template = [name.removeprefix("lightning_gen/plugin/template/") for name in inside if "plugin/template/" in name]
    assert sorted(template) == [
        "README.md", "lgen_template/__init__.py", "lgen_template/model.py", "pyproject.toml", "tests/test_model.py"
    ]  # fmt: skip


def test_the_template_itself_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "plugins" / "template")
    from lgen_template.model import Template  # type: ignore[import-not-found]

    check_model(Template)
    del sys.modules["lgen_template"], sys.modules["lgen_template.model"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My GAN!", "'My GAN!' cannot be a name: small letters, digits and -, a letter first; did you mean 'my-gan'?"),
        ("TidalWaves", "did you mean 'tidal-waves'?"),
        ("tidal_waves", "did you mean 'tidal-waves'?"),
        ("../waves", "did you mean 'waves'?"),
        ("3d-gan", "did you mean 'd-gan'?"),
        ("-", "cannot be a name"),
        ("lgen-waves", "the distribution is called lgen-NAME by itself; did you mean 'waves'?"),
        ("progan", "lightning-gen 0.1.0 has a model 'progan' already"),
        ("tensor", "'tensor' would make a class Tensor, which means something else there"),
        ("none", "'none' would make a class None"),
    ],
)
def test_a_name_that_cannot_be_one_is_answered_with_the_nearest_that_can(name: str, message: str) -> None:
    done = new("--", name)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(Path().iterdir())


def test_nothing_is_written_over_and_nothing_is_left_half_written(tmp_path: Path) -> None:
    (tmp_path / "lgen-waves").mkdir()
    assert "lgen-waves is there already: choose another NAME or --out" in new("waves").stderr
    assert new("waves", "--out", "elsewhere/waves").exit_code == 0
    assert sorted(os.listdir()) == ["elsewhere", "lgen-waves"]
    assert os.listdir("elsewhere") == ["waves"]
    (tmp_path / "file").write_text("")
    assert "cannot write file" in new("waves", "--out", "file/waves").stderr


def test_the_verbs_that_write_and_list_import_no_torch() -> None:
    report = "import sys; from lightning_gen.cli import main; main.main(sys.argv[1:], standalone_mode=False)"
    ask = f"{report}; print(*sorted({{'torch', 'numpy', 'pytorch_lightning'}} & set(sys.modules)), file=sys.stderr)"
    for arguments in (("plugin", "--help"), ("plugin", "list"), ("plugin", "new", "waves")):
        done = subprocess.run([sys.executable, "-c", ask, *arguments], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "\n"), arguments
