"""Plugins as the registry meets them: real installed distributions, some of them broken."""

from __future__ import annotations

import importlib
import itertools
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from lightning_gen import registry, settings
from lightning_gen.cli import main
from lightning_gen.errors import UserError
from lightning_gen.module import GenerativeModule

MODEL = """
from lightning_gen.module import GenerativeModule
class Model(GenerativeModule):
    "A model."
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a distribution where Python finds it, as pip leaves it there: a module, METADATA and entry_points.txt."""
    number = itertools.count()
    before = set(sys.modules)

    def write(
        name: str,
        *,
        model: str = "",
        source: str = MODEL,
        attribute: str = "Model",
        version: str = "1.0",
        api: str | None = "1",
        kind: str = "models",
        metadata: bool = True,
    ) -> Path:
        folder = tmp_path / f"site{next(number)}"
        module = name.replace("-", "_")
        info = folder / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(source)
        points = f"[lightning_gen.{kind}]\n{model or name} = {module}:{attribute}\n"
        (info / "entry_points.txt").write_text(points + (f"[lightning_gen.api]\n{api} = {module}\n" if api else ""))
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(folder)
        return folder

    yield write
    for module in set(sys.modules) - before:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module]
    importlib.invalidate_caches()


def test_our_own_parts_come_through_the_door_that_strangers_use() -> None:
    assert {"progan", "dcgan"} <= set(registry.names())
    assert {part.distribution for part in registry.parts() if part.name in ("progan", "dcgan")} == {"lightning-gen"}
    for kind in registry.KINDS:
        assert registry.names(kind) == sorted(registry.names(kind))


def test_a_plugin_is_found_by_name_and_loaded(install: Install) -> None:
    install("fine")
    assert "fine" in registry.names()
    assert registry.part("fine").version == "1.0"
    assert issubclass(registry.load("fine"), GenerativeModule)


def test_the_class_may_be_nested_and_the_entry_point_may_name_an_extra(install: Install) -> None:
    install("nested", source=f"{MODEL}\nclass Outer:\n    Inner = Model\n", attribute="Outer.Inner [extra]")
    assert registry.load("nested").__name__ == "Model"


def test_listing_imports_nothing_so_a_broken_plugin_is_listed_too(install: Install) -> None:
    install("explosive", source="raise RuntimeError('imported')")
    listed = CliRunner().invoke(main, ["models"])
    assert "explosive" in listed.output
    assert "explosive" in registry.names()
    assert "explosive" not in sys.modules


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no licence found\\nand a second line')", "RuntimeError: no licence found"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import a_library_nobody_has", "ModuleNotFoundError: No module named 'a_library_nobody_has'"),
        ("from lightning_gen.module import Nonsense", "ImportError: cannot import name 'Nonsense'"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise Exception", "Exception"),
        ("", "AttributeError: module 'broken' has no attribute 'Model'"),
    ],
)
def test_a_broken_plugin_says_why_in_one_line_and_the_others_work(install: Install, source: str, reason: str) -> None:
    install("broken", source=source)
    install("fine")
    with pytest.raises(UserError) as refused:
        registry.load("broken")
    assert reason in str(refused.value)
    assert str(refused.value).startswith("model 'broken' of broken 1.0 cannot be imported (broken:Model)")
    assert "\n" not in str(refused.value)
    assert registry.load("fine").__name__ == "Model"
    assert registry.load("progan").__name__ == "ProGAN"


def test_ctrl_c_during_an_import_is_not_taken_for_a_broken_plugin(install: Install) -> None:
    install("slow", source="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        registry.load("slow")


def test_two_plugins_with_one_name_are_refused_naming_both(install: Install) -> None:
    install("lgen-one", model="twin")
    install("lgen-two", model="twin")
    install("fine")
    with pytest.raises(UserError, match="claimed by lgen-one and lgen-two: uninstall one of them"):
        registry.load("twin")
    assert registry.names().count("twin") == 1
    assert [part.problem != "" for part in registry.parts() if part.name == "twin"] == [True, True]
    assert registry.load("fine").__name__ == "Model"
    assert "BROKEN" in CliRunner().invoke(main, ["models"]).output


def test_a_plugin_cannot_take_the_place_of_our_own_model_and_ours_goes_on_working(install: Install) -> None:
    install("lgen-usurper", model="progan")
    assert registry.load("progan").__name__ == "ProGAN"
    assert [part.distribution for part in registry.refused("progan")] == ["lgen-usurper"]
    (usurper,) = registry.refused("progan")
    with pytest.raises(UserError, match="the name belongs to lightning-gen, and lgen-usurper claims it: rename"):
        registry.load_part(usurper)
    assert "BROKEN: the name belongs to lightning-gen" in CliRunner().invoke(main, ["models"]).output


@pytest.mark.parametrize("name", ["../evil", "two words", "--model", "ünïcode", "a.b"])
def test_a_name_that_would_spoil_directories_or_settings_is_refused(install: Install, name: str) -> None:
    install("odd-name", model=name)
    install("fine")
    with pytest.raises(UserError, match="a name is made of letters, digits, - and _"):
        registry.load(name)
    assert registry.load("fine").__name__ == "Model"


def test_one_line_that_is_no_entry_point_takes_away_the_parts_of_its_distribution_alone(install: Install) -> None:
    folder = install("garbled")
    (points,) = folder.glob("*.dist-info/entry_points.txt")
    points.write_text(points.read_text() + "a line without a sign of equality\n")
    install("fine")
    assert "garbled" not in registry.names()
    assert {"fine", "progan"} <= set(registry.names())
    ((name, problem),) = registry.unreadable()
    assert name == "garbled"
    assert problem.startswith("its entry_points.txt cannot be read: ")


def test_an_exception_of_no_ordinary_kind_is_caught_too(install: Install) -> None:
    install("odd", source="class Odd(BaseException): ...\nraise Odd('never mind')")
    with pytest.raises(UserError, match=r"cannot be imported \(odd:Model\): Odd: never mind"):
        registry.load("odd")


def test_what_a_plugin_prints_while_it_is_imported_is_no_result_of_ours(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy = "print('hello'); import warnings; warnings.simplefilter('ignore')"
    install("noisy", source=f"{noisy}\n{MODEL}")
    before = list(warnings.filters)
    registry.load("noisy")
    assert warnings.filters == before
    assert capsys.readouterr() == ("", "hello\n")


def test_a_constructor_that_raises_names_its_distribution_and_ours_is_a_bug_of_ours(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no reason")

    install("crashing", source=f"{MODEL}    def __init__(self):\n        raise ZeroDivisionError('no reason')")
    with pytest.raises(UserError) as refused:
        registry.make("crashing")
    assert str(refused.value) == (
        "model 'crashing' of crashing 1.0 cannot be constructed: ZeroDivisionError: no reason\nLGEN_DEBUG=1 shows where"
    )
    monkeypatch.setattr(registry.load("dcgan"), "__init__", refuse)
    with pytest.raises(ZeroDivisionError):
        registry.make("dcgan")


def test_one_name_may_be_a_model_and_a_data_source(install: Install) -> None:
    install("lgen-data", model="progan", kind="data")
    assert registry.load("progan").__name__ == "ProGAN"


@pytest.mark.parametrize("name", ["trainer", "plugins"])
def test_a_callback_that_is_called_like_a_group_of_settings_is_refused(install: Install, name: str) -> None:
    install("lgen-callback", model=name, kind="callbacks")
    with pytest.raises(UserError, match=f"a callback cannot be called '{name}'"):
        settings.resolve(["--model.width", "4"], model="dcgan", callbacks=[name])


@pytest.mark.parametrize("api", ["0", "2", "next"])
def test_another_version_of_the_plugin_api_is_refused_with_a_sentence(install: Install, api: str) -> None:
    install("from-the-future", api=api, source="raise RuntimeError('imported')")
    with pytest.raises(UserError) as refused:
        registry.load("from-the-future")
    assert str(refused.value) == (
        "model 'from-the-future' of from-the-future 1.0 cannot be used: made for version "
        f"{api} of the plugin API, this is version 1: install a matching release"
    )
    state = {row["name"]: row["state"] for row in json.loads(CliRunner().invoke(main, ["models", "--json"]).output)}
    assert "plugin API" in state["from-the-future"]
    assert state["progan"] == "ready"


def test_a_plugin_may_be_made_for_several_versions_of_the_api(install: Install) -> None:
    install("patient", api="1 = patient\n2")
    assert registry.load("patient").__name__ == "Model"
    install("hasty", api="2 = hasty\n3")
    with pytest.raises(UserError, match="made for versions 2 and 3 of the plugin API, this is version 1"):
        registry.load("hasty")


def test_a_plugin_that_names_no_version_is_taken_for_this_one(install: Install) -> None:
    install("silent", api=None)
    assert registry.load("silent").__name__ == "Model"


def test_a_class_of_the_other_lightning_package_is_recognised_in_one_line(install: Install) -> None:
    theirs = "class LightningModule:\n    __module__ = 'lightning.pytorch.core.module'\n"
    install("mixed", source=f"{theirs}class Model(LightningModule): ...")
    with pytest.raises(UserError, match=r"from `lightning\.pytorch`: import `pytorch_lightning` instead") as refused:
        registry.load("mixed")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("source", ["class Model: ...", "def Model(): ...", "Model = 3"])
def test_what_is_no_generative_module_is_refused(install: Install, source: str) -> None:
    install("stranger", source=source)
    with pytest.raises(UserError, match=r"\(stranger:Model\) is no lightning_gen.module.GenerativeModule"):
        registry.load("stranger")


@pytest.mark.parametrize(("kind", "base"), sorted(registry.BASES.items()))
def test_a_part_of_another_kind_is_refused_when_it_is_loaded(install: Install, kind: str, base: str) -> None:
    install("odd", source="class Model: pass", kind=kind)
    with pytest.raises(UserError, match=f"is no {base}"):
        registry.load("odd", kind)


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        ("models", "prrogan", "unknown model 'prrogan'; did you mean 'progan'? (`lgen models` lists them)"),
        ("data", "shape", "unknown data source 'shape'; did you mean 'shapes'? (`lgen data` lists them)"),
        ("extractors", "inception-v3", "unknown extractor 'inception-v3'; did you mean 'inception-v3-compat'?"),
        ("callbacks", "sample", "unknown callback 'sample'; did you mean 'samples'?"),
        ("metrics", "fidd", "unknown metric 'fidd'; did you mean 'fid'?"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_one(kind: str, wrong: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        registry.load(wrong, kind)
    assert str(refused.value).startswith(message)


def test_a_name_like_no_other_suggests_nothing() -> None:
    with pytest.raises(UserError, match=r"unknown model 'zzzzzz' \("):
        registry.load("zzzzzz")


def test_a_distribution_that_is_found_twice_is_no_collision(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install("twice")
    install("twice")  # as an editable install beside a wheel
    monkeypatch.syspath_prepend(folder)  # and one folder on the path twice
    assert [part.problem for part in registry.parts() if part.name == "twice"] == [""]
    assert registry.load("twice").__name__ == "Model"


def test_an_older_version_left_behind_on_the_path_is_no_collision(install: Install) -> None:
    install("twice", version="0.9")
    install("twice", version="1.1")  # first on the path, so this is what Python imports
    assert [part.version for part in registry.parts() if part.name == "twice"] == ["1.1"]
    assert registry.load("twice").__name__ == "Model"


def test_what_is_installed_is_read_once_and_again_when_a_folder_of_the_path_changes(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install("first")
    readings: list[int] = []
    read = registry._entry_points
    monkeypatch.setattr(registry, "_entry_points", lambda: readings.append(1) or read())
    monkeypatch.setattr(registry.time, "monotonic", lambda: 0.0)
    for kind in registry.KINDS:
        assert registry.parts(kind)
    assert len(readings) == 1
    (information,) = folder.glob("*.dist-info")
    information.rename(folder.parent / information.name)  # as an uninstall takes it away while we run
    assert "first" not in registry.names()
    assert len(readings) == 2


def test_what_is_written_after_its_folder_was_seen_is_found_a_second_later(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    (points,) = install("late").glob("*.dist-info/entry_points.txt")
    text = points.read_text()
    points.unlink()
    monkeypatch.setattr(registry.time, "monotonic", lambda: 0.0)
    assert "late" not in registry.names()  # somebody asks while it is being installed
    points.write_text(text)  # which changes no folder of the path
    monkeypatch.setattr(registry.time, "monotonic", lambda: 1.0)
    assert "late" in registry.names()


def test_what_an_interrupted_uninstall_leaves_behind_breaks_nobody_else(install: Install) -> None:
    install("half-gone", metadata=False)
    install("half-gone-too", model="progan", metadata=False)
    assert "half-gone" in registry.names()
    assert registry.load("dcgan").__name__ == "DCGAN"
    assert registry.load("progan").__name__ == "ProGAN"
    assert [part.distribution for part in registry.refused("progan")] == ["a broken installation"]


SWEPT = """
import gc
{first}
from lightning_gen import registry
sweeps = gc.get_stats()[2]["collections"]
registry.load("gan")
print(gc.get_stats()[2]["collections"] - sweeps, gc.get_freeze_count(), gc.isenabled())
"""


def test_the_import_of_torch_is_not_searched_for_garbage_and_what_an_embedder_has_loaded_is_left_to_it() -> None:
    def told(first: str) -> tuple[int, int, bool]:
        command = [sys.executable, "-c", SWEPT.format(first=first)]
        sweeps, frozen, on = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return int(sweeps), int(frozen), on == "True"

    sweeps, frozen, on = told("")
    assert (sweeps, on) == (0, True)
    assert frozen > 100_000
    assert told("import torch")[1:] == (0, True)
    assert told("import pytorch_lightning")[1:] == (0, True)
    assert told("gc.disable()")[1:] == (0, False)
