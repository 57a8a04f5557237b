"""plugins/README.md, followed literally by a stranger: an empty directory, a fresh environment, every command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "plugins" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r'^```(\w*)(?: title="(.*?)")?\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


DRIVER = """
import json, os, shlex, site, subprocess, sys, sysconfig

from click.testing import CliRunner
from lightning_gen.cli import main

said = {}
for command in json.load(sys.stdin):
    program, *arguments = shlex.split(command)
    os.environ.pop("LGEN_RUN", None)
    if program == "lgen":  # in this one process: importing torch for each command takes longer than all of them
        done = CliRunner().invoke(main, arguments, prog_name="lgen")
        code, said[command] = done.exit_code, done.output + (repr(done.exception) if done.exception else "")
    else:
        done = subprocess.run([sys.executable, "-m", program, *arguments], capture_output=True, text=True)
        code, said[command] = done.returncode, done.stdout + done.stderr
        site.addsitedir(sysconfig.get_path("purelib"))  # as the next process would find it
    if code:
        sys.exit(command + "\\n" + said[command])
with open("said.json", "w") as file:
    json.dump(said, file)
"""


def fresh_environment(home: Path) -> tuple[Path, dict[str, str]]:
    """Python of an environment in which nothing is installed and the packages of the running one are seen, and its
    variables."""
    # ensurepip is what makes an environment slow; the pip of the running one is seen through the .pth file below
    venv.create(home, with_pip=False, symlinks=os.name != "nt")
    paths = {"base": str(home), "platbase": str(home)}
    packages, scripts = (Path(sysconfig.get_path(name, vars=paths)) for name in ("purelib", "scripts"))
    # So that torch (gigabytes) is not installed again. addsitedir, unlike a bare path, also reads the .pth files there:
    # lightning_gen may be an editable install.
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "host.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in installed))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "LGEN_RUN", "PIP_"))}
    # pip as it is typed there, but without an index, without dependencies, with the build backend that is there
    quiet = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_QUIET": "1"}
    return scripts / ("python.exe" if os.name == "nt" else "python"), {**kept, **quiet}


def test_every_block_of_the_page_is_a_file_or_a_command() -> None:
    assert PAGE.count("\n```") == 2 * len(BLOCKS)
    for kind, title, text in BLOCKS:
        assert title or (kind == "console" and all(line.startswith("$ ") for line in text.splitlines())), text


def test_a_stranger_who_follows_the_page_has_a_model_in_the_harness(tmp_path: Path) -> None:
    python, environment = fresh_environment(tmp_path / "env")
    work = tmp_path / "work"
    work.mkdir()
    commands = []
    for _, title, text in BLOCKS:
        if title:
            (work / title).write_text(text)
        else:
            commands += [line.removeprefix("$ ") for line in text.splitlines()]
    done = subprocess.run(
        [python, "-c", DRIVER], cwd=work, env=environment, input=json.dumps(commands), capture_output=True, text=True,
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads((work / "said.json").read_text())
    told = " ".join(said)
    for verb in ("fit --plugin", "fit --model", "fit --resume", "sample", "evaluate", "benchmark run", "plugin check"):
        assert f"lgen {verb}" in told

    def output(beginning: str) -> str:
        return next(text for command, text in said.items() if command.startswith(beginning))

    assert (work / "first.png").stat().st_size > 1000
    assert (work / "run.png").stat().st_size > 1000
    assert "lgen-sketch 0.1.0" in output("lgen models sketch")
    assert "0.704 kimg" in output("lgen fit --resume")
    assert "fid/tiny" in output("lgen evaluate")
    rows = [json.loads(line) for line in (work / "results" / "sketches.jsonl").read_text().splitlines()]
    assert [(row["model"], row["state"]) for row in rows] == [("sketch", "done")]
    assert "ok       model sketch" in output("lgen plugin check")
    assert "1 passed" in output("pytest")
    assert "lgen-tides" in output("lgen plugin list")
    assert "tides on shapes: 0.3" in output("lgen fit --model tides")
    assert "bye" in output("lgen fit --model sketch --kimg 0.3").splitlines()
    assert "brightness" in output("lgen fit --model sketch --kimg 0.3")
