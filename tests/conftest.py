"""What every test shares: its own cache, no picture of the machine it runs on."""

from __future__ import annotations

import os

import pytest
import torch

from lightning_gen import launch


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests neither use nor fill the user's cache, but share one of their own, with other test processes too."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    monkeypatch.setenv("LGEN_CACHE", str(shared / "lgen-cache"))
    monkeypatch.delenv("LGEN_RUN", raising=False)


@pytest.fixture(autouse=True)
def quiet_lightning():
    """The hints that the command line silences too, each with its reason in `launch.quiet`."""
    with launch.quiet():
        yield


@pytest.fixture(autouse=True)
def two_threads() -> None:
    """Results must not depend on how many cores a machine has."""
    torch.set_num_threads(min(2, torch.get_num_threads()))
