"""A stranger's model: `plugins/template`, installed by pip into an environment of its own and used by name."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[1] / "plugins" / "template"

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A way to run Python in a fresh environment that has the template, from an empty directory."""
    home = tmp_path_factory.mktemp("elsewhere")
    # ensurepip is what makes an environment slow; the pip of the running one is seen through the .pth file below
    venv.create(home / "env", with_pip=False, symlinks=os.name != "nt")
    python = home / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    paths = {"base": str(home / "env"), "platbase": str(home / "env")}
    packages = Path(sysconfig.get_path("purelib", vars=paths))
    # The fresh environment also sees what the running one has, so that torch (gigabytes) is not installed again.
    # addsitedir, unlike a bare path, also reads the .pth files there: lightning_gen may be an editable install.
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "host.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in installed))
    (home / "work").mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "LGEN_RUN"))}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), *arguments], cwd=home / "work", env=environment, capture_output=True, text=True, timeout=900
        )

    # no index, no dependencies, the backend of the running environment: this test needs no network
    install = ("-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation")
    done = run(*install, str(TEMPLATE))
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture
def lgen(elsewhere: Run) -> Run:
    """`lgen` in that environment; must succeed."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = elsewhere("-c", "from lightning_gen.cli import main; main(prog_name='lgen')", *arguments)
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_it_is_listed_with_its_distribution(lgen: Run) -> None:
    listed = {row["name"]: row for row in json.loads(lgen("models", "--json").stdout)}
    assert listed["template"] == {
        "name": "template", "distribution": "lgen-template", "version": "0.1.0", "state": "ready"
    }  # fmt: skip
    assert "lgen-template 0.1.0" in lgen("models").stdout


def test_it_is_not_installed_where_the_tests_run() -> None:
    assert importlib.util.find_spec("lgen_template") is None, "uninstall it: this file must see a fresh installation"


def test_it_is_trained_and_sampled_by_name(lgen: Run, elsewhere: Run) -> None:
    tiny = ("--model.width", "8", "--data.size", "200", "--data.batch_size", "50")
    rare = ("--metrics.every_kimg", "0", "--samples.count", "4", "--logger", "none", "--out", "run")
    assert "1 kimg" in lgen("fit", "--model", "template", "--kimg", "1", *tiny, *rare).stdout
    assert "x.png" in lgen("sample", "run", "--n", "4", "--grid", "x.png").stdout
    shape = "from PIL import Image; im = Image.open('x.png'); im.load(); print(im.mode, min(im.size) >= 64)"
    assert elsewhere("-c", shape).stdout == "RGB True\n"


def test_its_own_test_passes(elsewhere: Run) -> None:
    done = elsewhere("-m", "pytest", "-q", "-p", "no:cacheprovider", str(TEMPLATE))
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
