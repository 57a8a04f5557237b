"""Settings from files: what is given twice, what is left empty, and what comes back in a resumed run."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Literal

import pytest
import torch
from jsonargparse.typing import PositiveInt

from lightning_gen import registry, settings
from lightning_gen.errors import UserError
from lightning_gen.plugin.checks import check_settings


@pytest.mark.parametrize("section", ["metrics", "data", "logger"])
def test_a_section_with_nothing_below_it_is_named(section: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"model: {{name: dcgan}}\n{section}:\n  # every_kimg: 5\n")
    with pytest.raises(UserError, match=f"nothing stands below '{section}:'"):
        settings.resolve(config=str(file))


def test_a_file_made_of_one_preset_is_not_said_to_be_of_another(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(settings.resolve(model="dcgan", preset="quick").to_yaml())
    assert settings.resolve(config=str(file), preset="quick").values["model"]["latent_dim"] == 16
    with pytest.raises(UserError, match="holds the settings of preset quick"):
        settings.resolve(config=str(file), preset="paper")


def test_a_preset_of_the_command_line_goes_before_that_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {name: dcgan}\npreset: quick\nkimg: 3\n")
    found = settings.resolve(config=str(file), preset="paper")
    assert (found.preset, found.values["model"]["latent_dim"], found.values["kimg"]) == ("paper", 100, 3)


def test_photographs_have_a_preset_of_their_own_where_the_model_has_one() -> None:
    assert settings.resolve(model="progan").preset == "quick"
    for data in ("folder", "cifar10"):
        resolved = settings.resolve(model="progan", data=data)
        assert (resolved.preset, resolved.values["model"]["penalty"]) == ("photographs", 0.1)
        assert "preset photographs (no preset" in resolved.notes[0]
        assert settings.resolve(model="dcgan", data=data).preset == "quick"
        assert settings.resolve(model="progan", data=data, preset="quick").values["model"]["penalty"] == 1.0
    own = settings.resolve(["--model.width", "8"], model="progan", data="folder")
    assert own.preset is None
    assert "--preset photographs takes the small ones" in own.notes[0]


FOR_PHOTOGRAPHS = [name for name in registry.names("models") if "photographs" in registry.load(name).presets]


@pytest.mark.parametrize("name", FOR_PHOTOGRAPHS)
def test_a_preset_for_photographs_is_a_whole_recipe_that_builds(name: str) -> None:
    cls = registry.load(name)
    assert {"kimg", "data.batch_size"} <= cls.recipes["photographs"].keys()
    with torch.device("meta"):
        assert cls(**cls.presets["photographs"]).image_shape == (3, 32, 32)
    assert settings.resolve(model=name, data="folder").values["kimg"] == cls.recipes["photographs"]["kimg"]


PLUGIN = """
from lightning_gen.models.dcgan import DCGAN


class Weighed(DCGAN):
    '''Its settings hold a dictionary.

    Args:
        weights_of: A weight for each loss.
    '''

    def __init__(self, weights_of: dict[str, float] = {"adversarial": 1.0}):
        super().__init__()
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--metrics.names", "fid,modes", "--model.betas", "0,0.9"],
        ["--metrics.names=fid,modes", "--model.betas=0,0.9"],
        ["--metrics.names", "[fid,modes]", "--model.betas=[0, 0.9]"],
    ],
)
def test_a_list_needs_no_brackets(words: list[str]) -> None:
    values = settings.resolve(words, model="dcgan", preset="quick").values
    assert (values["metrics"]["names"], values["model"]["betas"]) == (["fid", "modes"], [0.0, 0.9])


LISTING = '''
from lightning_gen.models.dcgan import DCGAN


class Listing(DCGAN):
    """A model with lists that may be missing.

    Args:
        sizes: Whole numbers.
        tables: Lists of them.
    """

    def __init__(self, sizes: list[int] | None = None, tables: list[list[int]] = [[1]]):
        super().__init__(image_shape=(3, 32, 32))
'''


@pytest.mark.parametrize(
    ("words", "sizes", "tables"),
    [
        (["--model.sizes", "1,2"], [1, 2], [[1]]),
        (["--model.sizes= [1, 2]"], [1, 2], [[1]]),
        (["--model.sizes", "null", "--model.tables", "[[1, 2]]"], None, [[1, 2]]),
    ],
)
def test_lists_of_plugins_need_no_brackets_either(
    words: list[str], sizes: object, tables: object, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(LISTING)
    with registry.including([f"{tmp_path / 'mine.py'}:Listing"]):
        values = settings.resolve(words, model="Listing").values["model"]
    assert (values["sizes"], values["tables"]) == (sizes, tables)


def test_a_setting_that_is_a_dictionary_comes_back_in_a_resumed_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    words = ["--model.weights_of", "{adversarial: 1, feature: 0.5}"]
    with registry.including([f"{tmp_path / 'mine.py'}:Weighed"]):
        (tmp_path / "run.yaml").write_text(settings.resolve(words, model="Weighed").to_yaml())
        resumed = settings.resolve_resumed(tmp_path)
    assert resumed.values["model"]["weights_of"] == {"adversarial": 1.0, "feature": 0.5}


class Kind(Enum):
    SOFT = "soft"


@pytest.mark.parametrize(("odd", "name"), [(Path | None, "Path"), (list[Kind], "Kind"), (set[int], "set")])
def test_the_kit_refuses_a_setting_that_would_arrive_as_text(odd: object, name: str) -> None:
    class Own:
        """A part.

        Args:
            plain: Fine.
            one: Not fine.
        """

        def __init__(self, plain: dict[str, tuple[PositiveInt, ...]] | Literal["a"] = "a", one: str = ""): ...

    check_settings(Own, object)
    Own.__init__.__annotations__["one"] = odd
    with pytest.raises(AssertionError, match=f"the setting one would arrive as text, not as {name}"):
        check_settings(Own, object)
