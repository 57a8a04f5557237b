"""Checkpoints: written whole or not at all, loaded without running any code from the file."""

from __future__ import annotations

import inspect
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lightning_gen import registry
from lightning_gen.errors import UserError
from lightning_gen.module import ORIGIN, GenerativeModule
from lightning_gen.sharing import weights
from lightning_gen.watch import Place


class AtomicCheckpointIO(TorchCheckpointIO):
    """Temporary file in the same folder, fsync, replace: a crash at any moment leaves the previous checkpoint intact.

    Lightning's own goes through the system's temporary folder, and across file systems copies onto the live file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in path.parent.glob(f".{path.name}.*"):  # by a process that was killed while it wrote
                left.unlink()
            with unfinished.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
            _sync_folder(path.parent)
        except (OSError, RuntimeError) as reason:
            with suppress(OSError):
                unfinished.unlink()
            if (refused := _by_the_disk(reason)) is None:  # PyTorch says so at any moment that a loader has died
                raise
            kept = "; the previous one is intact" if path.exists() else ""
            raise UserError(f"cannot write the checkpoint {path}: {refused}{kept}") from reason

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; tensors and plain values only."""
        return read(Path(path), map_location)


def read(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a checkpoint file, or, without what only training needs, of weights as `lgen export` writes them.

    Raises:
        UserError: no such file, a damaged file, or one that lightning_gen did not write.
    """
    if path.suffix == weights.SUFFIX:
        return weights.read(path, map_location)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as reason:  # a damaged zip raises half a dozen different types
        others = sorted(p.name for p in path.parent.glob("*.ckpt") if p.name != path.name and p.name[0] != ".")
        shown = [*others[:4], f"{len(others) - 4} more"] if len(others) > 5 else others
        advice = f"\nbeside it there is {' and '.join(shown)}" if others else ""
        # torch's own words would advise to load the file as code
        raise UserError(f"the checkpoint {path} is damaged or not a checkpoint{advice}") from reason
    if not isinstance(content, dict) or ORIGIN not in content:
        raise UserError(f"{path} was not written by lightning_gen: it does not say which model it holds")
    return content


def images_seen(content: dict[str, Any]) -> int:
    """The clock of a checkpoint that `read` gave."""
    return int(content["state_dict"]["_extra_state"]["images_seen"])


WEIGHTS = "model.safetensors"
"""In a folder that `lgen push` wrote."""


def holds_model(path: Path) -> bool:
    """Whether it is a run directory, a folder that `lgen push` wrote, or a file of either, by its name alone."""
    if path.is_dir():
        return (path / "run.yaml").is_file() or (path / WEIGHTS).is_file()
    return path.suffix in (".ckpt", weights.SUFFIX)


def find(run: str | Path, which: str | None = None) -> Path:
    """The checkpoint file that a user means by a run directory (`which` of them, last.ckpt by default), the weights of
    a shared model's folder, or the file itself. Weights beside a run's checkpoints are an export that training has left
    behind.

    Raises:
        UserError: nothing of these is there, or `which` is asked of what is no run.
    """
    path = Path(run)
    if not path.exists():
        raise UserError(f"there is no run or checkpoint {path}")
    shared = (path / WEIGHTS).is_file() and not (path / "run.yaml").is_file()
    if path.is_dir() and not shared:
        found = path / "checkpoints" / f"{which or 'last'}.ckpt"
        if not found.is_file():
            raise UserError(f"{path} holds no checkpoint (expected {found})")
        return found
    if which is not None:
        raise UserError(f"--checkpoint {which}: {path} is no run, which has several, leave it out")
    return path / WEIGHTS if shared else path


CANDIDATES = (".newer.ckpt", ".older.ckpt")
"""Checkpoints that will be healthy.ckpt if the watch stays silent."""

UNTRAINED = ".untrained.ckpt"
"""Where a run that may be rolled back keeps its beginning."""


def also_named(path: Path, other: Path) -> None:
    """Give the file a further name, which whatever had it before loses."""
    other.unlink(missing_ok=True)
    try:
        os.link(path, other)
    except OSError:  # a file system without links
        shutil.copyfile(path, other)


def forget_candidates(folder: Path) -> None:
    """After trouble: what was saved shortly before is not to be trusted."""
    for name in CANDIDATES:
        (folder / name).unlink(missing_ok=True)


def roll_back(folder: Path, cut: float, place: Place = "healthy") -> int:
    """Make the checkpoint of `place` last.ckpt, with learning rates cut by `cut`; gives its images seen.

    Where no checkpoint became healthy since the rollback before, what seemed healthy was not: the run begins anew. A
    place that was never saved is the healthy one. Grids of samples of what is given up go with it.
    Further rollbacks count on: a new try draws other noise and does not walk into the same ditch. From here on the run
    is one that is resumed, so a crash in the middle of this loses nothing.

    Raises:
        UserError: there is no healthy checkpoint.
    """
    healthy, beginning = folder / "healthy.ckpt", folder / UNTRAINED
    chosen = {"healthy": healthy, "best": folder / "best.ckpt", "beginning": beginning}[place]
    content = read(chosen if chosen.exists() else healthy)
    latest = read(folder / "last.ckpt") if (folder / "last.ckpt").exists() else content
    before = latest["state_dict"]["_extra_state"]
    if place == "healthy" and content["state_dict"]["_extra_state"]["rollbacks"] < before["rollbacks"]:
        content = read(beginning) if beginning.exists() else content
    state = content["state_dict"]["_extra_state"]
    state["rollbacks"] = max(state["rollbacks"], before["rollbacks"]) + 1
    state["lr_scale"] = min(state["lr_scale"], before["lr_scale"]) * cut
    for name, kept in content.get("callbacks", {}).items():
        if {"best", "of"} <= kept.keys():  # of the callback that wrote best.ckpt, which the new try has to beat
            known = latest["callbacks"].get(name, kept)
            if kept["of"] == known["of"]:
                kept["best"] = min(kept["best"], known["best"])
            else:
                kept.update(known)
    AtomicCheckpointIO().save_checkpoint(content, folder / "last.ckpt")
    forget_candidates(folder)
    for grid in (folder.parent / "samples").glob("*.png"):
        if grid.stem.isdigit() and int(grid.stem) > state["images_seen"]:
            grid.unlink()
    return int(state["images_seen"])


def load_model(path: Path, device: str | torch.device = "cpu") -> tuple[GenerativeModule, dict[str, Any]]:
    """The model of a checkpoint, ready to sample, and what the checkpoint says of its origin.

    Raises:
        UserError: as `read`, one that does not say whose it is, or of a model that is not here or is another now.
    """
    content = read(path)
    origin = content[ORIGIN]
    if "model" not in origin:  # Lightning's own trainer wrote it
        raise UserError(
            f"{path} does not say which model it is of, as it was not written by `lgen fit` or `experiment.fit`: "
            "Class.load_from_checkpoint(...) opens it in Python"
        )
    registry.recall(origin.get("plugins", []), str(path))
    if origin["model"] not in registry.names("models"):
        whose = f"{origin['distribution']} {origin['version']}"
        raise UserError(f"{path} holds {origin['model']} of {whose}, which is not installed here")
    settings = content["hyper_parameters"]
    try:
        # asked before: a TypeError that a constructor raises is a bug, not the mark of another version
        inspect.signature(registry.load(origin["model"])).bind(**settings)
    except TypeError as reason:
        raise _unfit(path, origin, reason) from reason
    model: GenerativeModule = registry.make(origin["model"], "models", **settings)
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as reason:
        raise _unfit(path, origin, reason) from reason
    model.origin = origin
    return model.to(device).eval(), origin


def _unfit(path: Path, origin: dict[str, Any], reason: Exception) -> UserError:
    return UserError(
        f"{path} was written by {origin['model']} of {origin['distribution']} {origin['version']} "
        f"and does not fit the one installed: {_first_line(reason)}"
    )


def _by_the_disk(reason: BaseException | None) -> OSError | None:
    """The disk's own error, which torch's zip writer covers with one of its bookkeeping."""
    while reason is not None and not isinstance(reason, OSError):
        reason = reason.__context__
    return reason


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):  # not on Windows, where a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _first_line(reason: BaseException) -> str:
    return (str(reason).strip().splitlines() or [type(reason).__name__])[0]
