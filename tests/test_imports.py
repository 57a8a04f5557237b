"""Who may import whom: downward only, read off the files themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lightning_gen"

MODELS_MAY = {"module", "losses", "augment", "layers", "resnet", "ema", "clock", "images", "noise", "registry"}
MODELS_MAY |= {"errors", "likelihood", "autoregressive"}
MODELS_MAY |= {"translators", "perceptual"}
NO_LIGHTNING = ["losses", "layers", "resnet", "augment", "update", "images", "clock", "ema", "noise", "errors"]
NO_LIGHTNING += ["translators", "perceptual"]
NO_LIGHTNING += ["likelihood", "autoregressive", "registry", "settings", "metrics", "watch", "jsonl"]
NO_TORCH = ["registry", "settings", "errors", "cli", "watch", "jsonl", "files", "report", "rundir"]


def imported(path: Path, everywhere: bool = True) -> set[str]:
    """Dotted names that a file imports; with `everywhere` also inside functions."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def files(part: str) -> list[Path]:
    folder = PACKAGE / part
    return sorted(folder.glob("*.py")) if folder.is_dir() else [PACKAGE / f"{part}.py"]


def ours(names: set[str]) -> set[str]:
    """First parts below lightning_gen."""
    return {name.split(".")[1] for name in names if name.startswith("lightning_gen.")}


def ids(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", files("models"), ids=ids)
def test_a_model_imports_only_the_contract(path: Path) -> None:
    assert ours(imported(path)) <= MODELS_MAY


@pytest.mark.parametrize("path", [p for part in NO_LIGHTNING for p in files(part)], ids=ids)
def test_numerics_know_no_trainer(path: Path) -> None:
    lightning = {
        name for name in imported(path, everywhere=False) if name.split(".")[0] in ("pytorch_lightning", "lightning")
    }
    assert not lightning


@pytest.mark.parametrize("path", [p for part in NO_TORCH for p in files(part)], ids=ids)
def test_names_and_settings_are_resolved_without_torch(path: Path) -> None:
    assert not {
        name
        for name in imported(path, everywhere=False)
        if name.split(".")[0] in ("torch", "pytorch_lightning", "numpy")
    }


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=ids)
def test_imports_go_downward_only(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    above = {
        "callbacks": {"cli", "experiment", "models"},
        "watch": {"cli", "experiment", "callbacks", "models", "module", "metrics", "data", "settings", "records"},
        "metrics": {"cli", "experiment", "callbacks", "models", "module", "settings"},
        "data": {"cli", "experiment", "callbacks", "models", "module", "metrics", "settings"},
        "module": {"cli", "experiment", "callbacks", "models", "metrics", "data", "settings"},
        "experiment": {"cli"},
        "launch": {"cli", "experiment", "callbacks", "models"},
        "report": {"cli", "experiment", "callbacks", "models", "module", "metrics", "data", "settings", "records"},
        "settings": {"cli", "experiment", "callbacks", "models", "module", "metrics", "data"},
        "checkpoints": {"cli", "experiment", "callbacks", "models", "metrics", "data"},
    }.get(part, set())
    assert not ours(imported(path)) & above


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=ids)
def test_nothing_imports_the_other_lightning(path: Path) -> None:
    assert not {name for name in imported(path) if name.split(".")[0] == "lightning"}
