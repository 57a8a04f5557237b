"""A trained model as a folder that can be given away, in the layout of the Hugging Face hub.

| file | what |
|---|---|
| `model.safetensors` | weights (`sharing.weights`) |
| `config.json` | model, distribution, settings, data, budget, scores with their passport |
| `README.md` | the model card, with the same as its front matter |
| `samples.png` | the newest grid of the run that is not newer than the weights |
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
import yaml

from lightning_gen import checkpoints, files, registry, report, unpackaged
from lightning_gen.errors import UserError
from lightning_gen.metrics.passport import Passport
from lightning_gen.module import ORIGIN
from lightning_gen.sharing import weights

HUB = "hf://"
"""Before OWNER/NAME of a repository on the hub; anything else is a folder."""
LIBRARY = "lightning_gen"
CONFIG, CARD, PICTURE = "config.json", "README.md", "samples.png"
FILES = (checkpoints.WEIGHTS, CONFIG, CARD, PICTURE)
STATED = ("model", "data", "kimg", "scores", "distribution", "version")
"""What `lgen pull` says of a model."""


def push(run: Path, to: str, which: str | None = None, license: str | None = None, private: bool = False) -> str:
    """Put the model of a run into the folder or repository `to`; gives where it is now.

    Raises:
        UserError: `run` is none, `to` holds something else, cannot be written, or the hub refuses.
    """
    file = checkpoints.find(run, which)
    content = checkpoints.read(file)
    found = report.read(run)
    registry.recall(content[ORIGIN].get("plugins", []), str(file))
    about = described(found, content, which or "last")
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        weights.write(made / checkpoints.WEIGHTS, content)
        files.write(made / CONFIG, json.dumps(about, indent=2) + "\n")
        grid = _at(found.grids, about["kimg"])
        if grid:
            shutil.copyfile(grid, made / PICTURE)
        files.write(made / CARD, card(about, to, bool(grid), license))
        return _to_hub(made, to, private) if to.startswith(HUB) else _to_folder(made, Path(to).expanduser())


def pull(source: str, out: Path) -> dict[str, Any]:
    """Bring a shared model into the new folder `out`; gives its config. No file of it is run or unpickled.

    Raises:
        UserError: there is no such model, it is damaged, or `out` is taken.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already: --out DIR for another place")
    with _fetched(source) as folder:
        about = config_of(folder)
        if about is None:
            raise UserError(f"{source} holds no model of lightning_gen")
        weights.read(folder / checkpoints.WEIGHTS)  # whole, and one of ours
        try:
            files.make_folder(out.parent)
            with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as unfinished:
                for name in FILES:
                    if (folder / name).is_file():
                        shutil.copyfile(folder / name, Path(unfinished) / name)
                os.chmod(unfinished, 0o755)  # as a folder has it that was not meant to be temporary
                os.replace(unfinished, out)
        except OSError as reason:
            raise UserError(f"cannot write {out}: {reason.strerror}") from reason
    return about


def config_of(folder: Path) -> dict[str, Any] | None:
    """What a shared model says of itself; None where the folder holds none."""
    try:
        about = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(about, dict) and about.get("library_name") == LIBRARY and set(STATED) <= set(about)
    return about if ours and (folder / checkpoints.WEIGHTS).is_file() else None


def described(run: report.Run, content: dict[str, Any], which: str) -> dict[str, Any]:
    """Everything that the card states, as plain values."""
    origin = content[ORIGIN]
    kimg = checkpoints.images_seen(content) / 1000
    scores = {name: _at(points, kimg) for name, points in run.curves.items() if _is_score(name, points)}
    return {
        "library_name": LIBRARY,
        "model": origin["model"],
        "paper": registry.load(origin["model"]).paper,
        "distribution": origin["distribution"],
        "version": origin["version"],
        "preset": origin.get("preset"),
        "settings": content["hyper_parameters"],
        "data": origin["data"],
        "data_digest": origin["data_digest"],
        "images": "points" if origin.get("kind") == "points" else "images",
        "weights": which,
        "seed": run.settings.get("seed"),
        "kimg": kimg,
        "budget_kimg": run.budget,
        "scores": {name: value for name, value in scores.items() if value is not None},
        "passport": run.passport,
    }


def card(about: dict[str, Any], to: str, pictured: bool, license: str | None) -> str:
    """The model card, front matter and all."""
    translates = registry.load(about["model"]).translates
    task = "image-to-image" if translates else "unconditional-image-generation"
    measured = {"args": {"passport": Passport.from_json(about["passport"]).digest()}} if about["passport"] else {}
    metrics = [
        {"name": name, "type": name.split("/")[0], "value": value, **measured}
        for name, value in about["scores"].items()
    ]
    dataset = {"name": about["passport"].get("reference") or about["data"], "type": about["data"]}
    title = f"{about['model']} on {about['data']}"
    front: dict[str, Any] = {"library_name": LIBRARY, "pipeline_tag": task, "tags": [LIBRARY, about["model"]]}
    if license:
        front["license"] = license
    if metrics:
        results = {"task": {"type": task}, "dataset": dataset, "metrics": metrics}
        front["model-index"] = [{"name": title, "results": [results]}]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lightning_gen.sharing", "."), trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("card.md.jinja").render(
        front=yaml.safe_dump(_plain(front), sort_keys=False),
        title=title,
        about=about,
        passport=measured["args"]["passport"] if measured else "",
        settings=yaml.safe_dump(_plain(about["settings"]), sort_keys=False),
        source=to,
        folder=to.removeprefix(HUB).rstrip("/").split("/")[-1],
        pictured=pictured,
        translates=translates,
        ours=about["distribution"] == registry.OURS,
        in_file=unpackaged.is_spec(about["distribution"]),
    )


def _is_score(name: str, points: Sequence[tuple[float, float]]) -> bool:
    """It names its extractor, or the untrained model has it too, of which no step had returned anything; `is/tiny/std`
    accompanies another one."""
    return name.count("/") == 1 or (name.count("/") == 0 and points[0][0] == 0)


def _at(points: Sequence[tuple[float, Any]], kimg: float) -> Any:
    """The newest of them that is not newer than the weights; None where all are."""
    return next((value for at, value in reversed(points) if at <= kimg), None)


def _plain(value: Any) -> Any:
    """Tuples as lists: YAML has no others."""
    return json.loads(json.dumps(value))


def _to_folder(made: Path, folder: Path) -> str:
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and config_of(folder) is None)):
        raise UserError(f"{folder} holds something else than a model of lightning_gen: push to another place")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in made.iterdir():
            files.write(folder / file.name, file.read_bytes())
        for name in _not_made(made):
            (folder / name).unlink(missing_ok=True)
    except OSError as reason:
        raise UserError(f"cannot write {reason.filename or folder}: {reason.strerror}") from reason
    return str(folder)


def _to_hub(made: Path, to: str, private: bool) -> str:
    hub, name = _hub(), to.removeprefix(HUB)
    api = hub.HfApi(library_name=LIBRARY)
    with _in_one_line(f"push to {to}"):
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=made,
            commit_message="A model of lightning_gen",
            delete_patterns=_not_made(made),
        )
    return str(address)


def _not_made(made: Path) -> list[str]:
    """Of an earlier push they may still lie there, and show another model."""
    return [name for name in FILES if not (made / name).exists()]


@contextmanager
def _fetched(source: str) -> Iterator[Path]:
    """The files of a shared model, where they lie or in a place that is gone afterwards."""
    if not source.startswith(HUB):
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise UserError(f"there is no folder {source}; a repository on the hub is {HUB}OWNER/NAME")
        yield folder
        return
    hub = _hub()
    with tempfile.TemporaryDirectory() as scratch:
        with _in_one_line(f"pull {source}"):
            hub.snapshot_download(source.removeprefix(HUB), local_dir=scratch, allow_patterns=list(FILES))
        yield Path(scratch)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as missing:
        raise UserError("huggingface_hub is not installed: pip install 'lightning-gen[hub]'") from missing
    return huggingface_hub


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """The hub's own errors: no login, no such repository, no network."""
    try:
        yield
    except Exception as reason:  # of requests, of the hub's, of the file system's: it documents no common one
        said = " ".join(str(reason).split()) or type(reason).__name__
        raise UserError(f"cannot {what}: {said[:300]}") from reason
