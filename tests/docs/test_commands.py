"""Every command that README and docs show: known to `lgen` as it is written, and run where a test can run it."""

from __future__ import annotations

import itertools
import math
import os
import re
import shutil
import zipfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from commands import PAGES, ROOT, blocks, session, shown, words
from PIL import Image

from lightning_gen import registry, settings
from lightning_gen.benchmark import suite
from lightning_gen.cli import main

NOT_RUN = {
    "--preset paper": "the published network: hours on a GPU",
    "--trainer.devices 4": "four GPUs",
    "--trainer.devices 2": "processes of their own; tests/test_two_processes.py starts some",
    "cifar10": "a download",
    "--protocol papers": "Inception's weights are a download",
    "benchmark run smoke": "every model; tests/benchmark runs suites",
    "benchmark run SUITE": "a placeholder",
    "benchmark compare": "results of one's own; tests/benchmark/test_compare.py runs it",
    "--logger wandb": "a network; tests/test_runs.py runs it offline",
    "hf://": "a network; tests/sharing has a hub in a folder",
    "plugin new": "tests/plugins/test_new.py runs it",
    "plugin check": "tests/plugins/test_new.py runs it",
}
"""Part of a command: why the tests below only read it."""

EXPECTED = {"--model.lr 0.2": 3, "doctor --data": 1}
"""Exit codes: of a run that is there to be stopped, and of a set of 48 images, too few for a score."""

RUN_IS_OF = {"docs/image-to-image.md": "cyclegan"}
"""The model of the run that a page calls RUN; elsewhere vae, which has all that latent tools ask for."""

PLACEHOLDER = re.compile(r"\b(SUITE|NAME|KEY|VALUE|N|GROUP|DIR|FILE)\b")
RUN_BY_DEFAULT = ("README.md", "docs/tutorial.md")


def parsed(command: str) -> tuple[click.Command, list[str], list[str]]:
    """The verb of a command, its options, and what follows `--GROUP.KEY` for verbs that take settings."""
    rest = words(command)
    verb: click.Command = main
    with click.Context(main) as context:
        while isinstance(verb, click.Group) and rest and not rest[0].startswith("-"):
            name = rest.pop(0)
            found = verb.get_command(context, name)
            assert found is not None, f"there is no `lgen {name}`"
            verb = found
    options = [word for word in rest if word.startswith("-")]
    known = {name for p in verb.params for name in (*p.opts, *p.secondary_opts)} | {"--help", "-h", "--version"}
    unknown = [name for name in options if name not in known]
    passed_on: list[str] = []
    for word, following in itertools.zip_longest(rest, rest[1:]):
        if word in unknown:
            passed_on += [word] if following is None or following.startswith("--") else [word, following]
    return verb, [name for name in options if name not in unknown], passed_on


@pytest.mark.parametrize(("page", "command"), [(page, c) for page in PAGES for c in dict.fromkeys(shown(page))])
def test_every_command_has_a_verb_options_and_settings_that_exist(page: str, command: str) -> None:
    verb, _, passed_on = parsed(command)
    takes_settings = verb.context_settings.get("ignore_unknown_options", False)
    assert takes_settings or not passed_on, f"{page}: {command}: {passed_on[::2]}"
    rest = words(command)
    if not takes_settings or PLACEHOLDER.search(" ".join(rest)):
        return
    named = {key: rest[rest.index(f"--{key}") + 1] for key in ("model", "data", "preset") if f"--{key}" in rest}
    settings.resolve(passed_on, **{"model": "dcgan", **named})
    if verb.name == "run" and "." not in rest[2]:
        suite.load(rest[2])


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_of_python_runs(page: str) -> None:
    for block in blocks(page):
        if block.kind == "python":
            exec(compile(block.text, page, "exec"), {})


def test_the_example_of_a_suite_is_one(tmp_path: Path) -> None:
    (example,) = [block.text for block in blocks("docs/scores.md") if block.kind == "yaml"]
    (tmp_path / "mine.yaml").write_text(example)
    assert [entry.model for entry in suite.load(str(tmp_path / "mine.yaml")).entries] == ["dcgan", "dcgan"]


MINE = """
from lightning_gen.models.gan import GAN


class MyGAN(GAN):
    \"\"\"A model of one's own.\"\"\"
"""


def lgen(*arguments: str) -> tuple[int, str]:
    os.environ.pop("LGEN_RUN", None)
    done = CliRunner().invoke(main, list(arguments), prog_name="lgen")
    return done.exit_code, done.output + ("" if done.exit_code < 4 and not done.exception else repr(done.exception))


FOLDERS = (
    "smiling", "serious", "DIR", "maps", "testA", "testB", "day", "night", "noisy", "faces/21-30", "faces/51-60"
)  # fmt: skip
"""Folders of twelve pictures that pages name."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: pictures, and runs of theirs."""
    place = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        source = registry.make("shapes", "data", size=48)
        for i in range(48):
            for folder in ("photos", *FOLDERS):
                if i < 12 or folder == "photos":
                    path = Path(folder, f"{i:03}.png")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(source.read([i])["image"][0].permute(1, 2, 0).numpy()).save(path)
        with zipfile.ZipFile("photos.zip", "w") as archive:
            for path in sorted(Path("photos").iterdir()):
                archive.write(path)
        for name in ("photo.png", "a.png", "b.png"):
            shutil.copy("photos/000.png", name)
        Path("mine.py").write_text(MINE)
        fit("progan", "runs/progan-shapes-1")
        fit("pix2pix", "runs/pix2pix-paired-1")
    return place


def fit(model: str, run: str) -> None:
    small = ("--kimg", "0.032", "--metrics.samples", "48", "--logger", "none", "--metrics.every_kimg", "0")
    code, said = lgen("fit", "--model", model, "--preset", "quick", *small, "--out", run)
    assert code == 0, said


def shortened(command: str) -> list[str]:
    """The same command for a test: less than a thousand images, in the order of the budgets that the page names."""
    arguments = words(command)
    if arguments[0] == "fit" and not any(part in command for part in EXPECTED):
        asked = arguments.index("--kimg") + 1 if "--kimg" in arguments else None
        if asked is not None:
            arguments[asked] = f"{0.03 * math.log2(1 + float(arguments[asked])):.3f}"
        elif "--resume" not in arguments:
            arguments += ["--kimg", "0.032"]
        arguments += ["--metrics.samples", "48"]
    if arguments[0] == "evaluate":
        if "--n" in arguments:
            del arguments[arguments.index("--n") : arguments.index("--n") + 2]
        arguments += ["--n", "12"]
    return ["runs/progan-shapes-1" if word == "OTHER" else word for word in arguments]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page if page in RUN_BY_DEFAULT else pytest.param(page, marks=pytest.mark.full)
             for page in PAGES if session(page) and page.startswith(("README", "docs/"))],
)  # fmt: skip
def test_the_commands_of_a_page_work_one_after_the_other(
    page: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    shutil.copytree(prepared, place)
    monkeypatch.chdir(place)
    typed = [command for command in session(page) if not any(part in command for part in NOT_RUN)]
    if any("RUN" in command for command in typed):
        fit(RUN_IS_OF.get(page, "vae"), "RUN")
    for command in typed:
        code, said = lgen(*shortened(command))
        expected = next((code for part, code in EXPECTED.items() if part in command), 0)
        assert code == expected, f"{command}\n{said}"


@pytest.mark.parametrize("part", [*NOT_RUN, *EXPECTED])
def test_every_exception_is_one_of_a_command_that_a_page_still_has(part: str) -> None:
    assert any(part in command for page in PAGES for command in shown(page))


def test_the_pages_are_those_of_the_repository() -> None:
    assert {"README.md", "docs/tutorial.md", "docs/scores.md", "benchmarks/README.md"} <= set(PAGES)
    assert len(session("docs/tutorial.md")) >= 9
    assert ROOT.joinpath("mkdocs.yml").exists()
