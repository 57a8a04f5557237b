"""`lgen translate`: your pictures through a run that makes pictures of pictures."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from lightning_gen.cli import options

OF_INPUT = {"--data.root": "--input"}
"""What is said of a data source's root is said of --input."""


@click.command("translate")
@click.argument("run", metavar="RUN|CKPT")
@click.option("--input", "given", metavar="DIR|FILE", required=True, help="A picture, or a folder or archive of them.")
@click.option("--out", metavar="DIR", required=True, help="Where each goes as a PNG, under its own name.")
@click.option("--direction", type=click.Choice(["ab", "ba"]), default="ab", show_default=True, help="For cyclegan.")
@click.option("--to", metavar="GROUP", help="For age-cgan: the group that pictures shall be of, such as 51-60.")
@click.option(
    "--sheet", metavar="FILE", help="Also the first pictures and their translations side by side, as one PNG."
)
@click.option("--tile", type=click.IntRange(min=16), help="Larger pictures go in tiles of this side; by default 512.")
@click.option("--overlap", type=click.IntRange(min=0), help="Pixels that tiles share; by default what the model needs.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Pictures at once.")
@options.plugin
@click.option("--device", type=options.DEVICE, help="Where to compute: cpu, cuda, cuda:1; a GPU if there is one.")
def command(
    run: str,
    given: str,
    out: str,
    direction: Literal["ab", "ba"],
    to: str | None,
    sheet: str | None,
    tile: int | None,
    overlap: int | None,
    batch_size: int,
    device: str | None,
) -> None:
    """Translate pictures of any size with a run (its last checkpoint) or a checkpoint file.

    Sides that the model cannot take are padded and cut off again; large pictures are translated in overlapping tiles.
    All of them are written, or none.
    """
    from lightning_gen.data import archive
    from lightning_gen.errors import UserError

    for path in (run, given):
        if not archive.is_there(path):
            raise UserError(
                f"there is no {'run or checkpoint' if path is run else 'picture, folder or archive'} {path}"
            )

    import torch
    from rich.progress import track

    from lightning_gen import checkpoints, images, translate

    model, origin = checkpoints.load_model(
        checkpoints.find(run), device or ("cuda" if torch.cuda.is_available() else "cpu")
    )
    name = origin["model"]
    if not (model.translates or model.restores):
        raise UserError(f"{run} holds a {name}, which makes no pictures of pictures: `lgen sample` draws from it")
    if model.context:
        raise UserError(
            f"{run} holds a {name}, which needs {' and '.join(model.context)} beside a picture to translate"
        )
    generate: dict[str, Any] = {}
    if direction == "ba":
        if "direction" not in _options(model):
            raise UserError(f"--direction ba: {name} goes one way, from {' to '.join(model.views)}")
        generate["direction"] = direction
    group = _group(to, name, origin.get("class_names", []) if model.translates and model.num_classes else [])
    view = model.views["ab".index(direction[0])]
    translator = translate.Translator(model, view, tile, overlap, group, **generate)
    beside = Path(sheet) if sheet else None
    if beside is not None and beside.is_dir():
        raise UserError(f"--sheet {sheet} is a folder: name a file")
    sources, files = _files(given)
    number = len(sources)
    _refuse_overwriting(sources, given, out, sheet)
    pictures = _pictures(files, name, (model.image_shape if model.restores else model.input_shape)[0])
    shown: list[Any] = []
    with _all_or_none(Path(out)) as folder:
        translated = translate.in_batches(pictures, translator, batch_size)
        for stem, before, after in track(translated, "translating", total=number, transient=True, disable=number < 2):
            images.save_png(after, folder / f"{stem}.png")
            if beside and len(shown) < 2 * SHOWN:
                shown += [before, after]
        if beside:
            try:
                images.save_png(images.contact_sheet(shown, columns=2 * (1 if len(shown) <= 16 else 2)), beside)
            except OSError as reason:
                raise UserError(f"cannot write --sheet {sheet}: {reason.strerror}") from reason
    click.echo(f"{number} picture{'s' * (number != 1)} in {out}")
    if beside:
        click.echo(beside)


SHOWN = 32
"""Pictures that a sheet shows at most."""


def _options(model: Any) -> Any:
    import inspect

    return inspect.signature(model.generate).parameters


def _group(to: str | None, model: str, groups: Sequence[str]) -> int | None:
    """The label that `--to` names; None of a model without groups."""
    from lightning_gen.errors import UserError, nearest

    if not groups:
        if to is not None:
            raise UserError(f"--to {to}: {model} knows no groups")
        return None
    if to is None:
        raise UserError(f"{model} needs --to GROUP: {', '.join(groups)}")
    if to not in groups:
        raise UserError(f"--to {to}: the groups are {', '.join(groups)}{nearest(to, groups)}")
    return groups.index(to)


def _refuse_overwriting(sources: dict[str, Path], given: str, out: str, sheet: str | None) -> None:
    """The user's own pictures, of which there may be no copy, and translations by the sheet."""
    from lightning_gen.errors import UserError

    taken = {os.path.realpath(path) for path in (Path(given), *sources.values())}
    places = {os.path.realpath(place): place for place in (Path(out) / f"{stem}.png" for stem in sources)}
    if lost := sorted(taken & places.keys()):
        raise UserError(f"--out {out}: {places[lost[0]]} is one of the pictures to translate, name another folder")
    if sheet and os.path.realpath(sheet) in taken | places.keys():
        raise UserError(f"--sheet {sheet} is one of the pictures, name another file")


def _files(given: str) -> tuple[dict[str, Path], Iterator[tuple[str, Any]]]:
    """Where the pictures lie, by their names without suffix, and name and content of each; of one file that file."""
    from lightning_gen.data import archive, pictures
    from lightning_gen.errors import UserError, said_as

    path = Path(given)
    if path.is_file() and pictures.is_image(path.name):
        return {path.stem: path}, iter([(path.stem, path.read_bytes)])
    with said_as(OF_INPUT):
        files = archive.open_root(given)
        paths = [name for name in files.paths() if pictures.is_image(name)]
        if not paths:
            raise UserError(f"--input {given}: no pictures in it")
        names = {name: str(Path(name).with_suffix("")) for name in paths}
        first: dict[str, str] = {}
        for name, stem in names.items():
            if stem in first:
                raise UserError(f"--input {given}: {first[stem]} and {name} would both become {stem}.png")
            first[stem] = name
    return {stem: path / name for name, stem in names.items()}, _contents(files, names)


def _contents(files: Any, names: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """One after the other: the pictures of an archive may be more than memory holds."""
    from lightning_gen.errors import said_as

    with said_as(OF_INPUT):
        for name, load in files.read(names):
            yield names[name], load


def _pictures(files: Iterator[tuple[str, Any]], model: str, channels: int) -> Iterator[tuple[str, Any]]:
    """Name and pixels (C, H, W) uint8 of each."""
    import torch

    from lightning_gen.data import pictures
    from lightning_gen.errors import UserError

    with pictures.quiet():
        for stem, load in files:
            try:
                data = load()
                grey = pictures.is_grey(data)
                pixels = torch.from_numpy(pictures.whole(data, channels))
            except Exception as reason:  # decoders raise whatever they like on damaged bytes
                raise UserError(f"the picture {stem} cannot be read ({pictures.why(reason)})") from reason
            if grey and channels == 3:
                raise UserError(f"the picture {stem} is grey, and this {model} reads colours: give it three channels")
            yield stem, pixels


class _all_or_none:  # noqa: N801 - read as a phrase: `with _all_or_none(folder)`
    """A folder in the wanted one, hidden; what was written there is moved when everything went well, else removed.

    Beside the wanted one it could lie on another disk, where that one is a link or a mount, or where nobody may write.
    """

    def __init__(self, out: Path):
        from lightning_gen.errors import UserError

        self._out = out
        if not Path(os.path.abspath(out)).name:  # `.` has none itself
            raise UserError(f"--out {out}: name a folder in it")

    def __enter__(self) -> Path:
        from lightning_gen import files
        from lightning_gen.errors import UserError

        if self._out.exists() and not self._out.is_dir():
            raise UserError(f"--out {self._out} is no folder")
        self._made: list[Path] = []
        try:
            self._made = files.make_folder(self._out)
            # never that of a process which was killed: its pictures would be moved too
            self._unfinished = Path(tempfile.mkdtemp(prefix=".", dir=self._out))
        except OSError as reason:
            files.remove_empty(self._made)
            raise UserError(f"cannot write to --out {self._out}: {reason.strerror}") from reason
        return self._unfinished

    def __exit__(self, kind: Any, reason: Any, trace: Any) -> None:
        from lightning_gen import files
        from lightning_gen.errors import UserError

        try:
            if kind is None:
                paths = sorted(self._unfinished.rglob("*.png"))
                places = [self._out / path.relative_to(self._unfinished) for path in paths]
                self._make_room(places)
                for path, place in zip(paths, places, strict=True):
                    os.replace(path, place)
        except OSError as failure:
            raise UserError(f"cannot write to --out {self._out}: {failure.strerror}") from failure
        finally:
            shutil.rmtree(self._unfinished, ignore_errors=True)
            files.remove_empty(self._made)
        if isinstance(reason, OSError):
            raise UserError(f"cannot write to --out {self._out}: {reason.strerror}") from reason

    def _make_room(self, places: Sequence[Path]) -> None:
        """The folders of all pictures, or an error before the first of them is in its place."""
        from lightning_gen import files

        made: list[Path] = []
        try:
            for place in places:
                made[:0] = files.make_folder(place.parent)
                if place.is_dir():
                    raise IsADirectoryError(errno.EISDIR, f"{place} is a folder")
        except OSError:
            files.remove_empty(made)
            raise
