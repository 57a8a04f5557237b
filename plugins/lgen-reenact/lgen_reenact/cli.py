"""`lgen-reenact`: to learn a person from a few frames, to move him by landmarks, and to score a run at it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lightning_gen.cli.mistakes import Verbs
from lightning_gen.errors import UserError

if TYPE_CHECKING:
    from lgen_reenact.film import Film
    from lgen_reenact.reenact import Reenact

STEPS, RATE = 40, 0.5
"""Of tuning: what README.md's table was made with."""


steps_option: Any = click.option(
    "--steps", type=click.IntRange(min=0), default=STEPS, show_default=True, help="Updates of tuning; 0 for none."
)
rate_option: Any = click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=RATE,
    show_default=True,
    help="Learning rate of tuning, in units of the run's.",
)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """People from a few frames, moved by landmarks."""


@main.command("tune")
@click.argument("run", metavar="RUN|CKPT")
@click.argument("who", metavar="FRAMES|NUMBER")
@click.option(
    "--shots", type=click.IntRange(1, 64), default=8, show_default=True, help="Frames to learn from, spread evenly."
)
@steps_option
@rate_option
@click.option("--out", metavar="FILE", required=True, help="Where the person is written, as safetensors.")
def tune(run: str, who: str, shots: int, steps: int, rate: float, out: str) -> None:
    """Learn a person: FRAMES is a folder with a landmarks.csv, NUMBER a procedural face of the test split."""
    from lgen_reenact import person

    model = _model(run)
    film = _film(who, model.image_shape[-1])
    there = film.counts[_number(who)]
    if there < shots:
        raise UserError(f"--shots {shots}: {who} has {there} frames")
    chosen = [round(i * (there - 1) / max(1, shots - 1)) for i in range(shots)]
    learnt = person.tune(model, film.some(_number(who), chosen), steps, rate)
    _writing(out, learnt.save)


@main.command("drive")
@click.argument("person", metavar="PERSON")
@click.argument("by", metavar="FRAMES|NUMBER")
@click.option("--out", metavar="FILE", required=True, help="A .gif, or a .png with the landmarks above the frames.")
@click.option("--fps", type=click.IntRange(1, 50), default=8, show_default=True, help="Of the GIF.")
def drive(person: str, by: str, out: str, fps: int) -> None:
    """Draw PERSON, whom `tune` wrote, by the landmarks of somebody's frames, who may be the same person."""
    import torch

    from lgen_reenact.person import Person
    from lightning_gen import images

    learnt = Person.load(person)
    film = _film(by, learnt.settings["resolution"])
    sketches = film.some(_number(by), list(range(film.counts[_number(by)])))[:, 3:]
    drawn = learnt.draw(sketches)
    if out.lower().endswith(".gif"):
        _writing(out, lambda path: _save_gif(drawn, path, fps))
    else:
        sheet = images.grid(torch.cat([sketches, drawn]), len(drawn))
        _writing(out, lambda path: images.save_png(images.enlarge(sheet, 128), path))


@main.command("faces")
@click.option("--out", metavar="DIR", required=True, help="A folder that is not there yet.")
@click.option("--persons", type=click.IntRange(min=1), default=4, show_default=True, help="How many people.")
@click.option("--frames", type=click.IntRange(min=1), default=16, show_default=True, help="Of each.")
@click.option("--resolution", type=click.IntRange(min=8), default=32, show_default=True, help="Side of the frames.")
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True, help="Which people.")
def faces(out: str, persons: int, frames: int, resolution: int, split: Any) -> None:
    """Write procedural faces as folders of frames with their landmarks, to see the layout."""
    from lgen_reenact.film import Procedural, write

    if Path(out).exists():
        raise UserError(f"--out {out} is there already")
    _writing(out, lambda path: write(Procedural(resolution, split, persons, frames), path))


@main.command("score")
@click.argument("run", metavar="RUN|CKPT")
@click.option(
    "--shots", "counts", default="1,8", show_default=True, metavar="N,…", help="Frames to learn from, up to 8."
)
@click.option("--persons", type=click.IntRange(min=2), default=16, show_default=True, help="People of the test split.")
@steps_option
@rate_option
@click.option("--sheet", metavar="FILE", help="A frame of each person by each way, as a PNG.")
@click.option("--json", "as_json", is_flag=True, help="Numbers for programs.")
def score(run: str, counts: str, persons: int, steps: int, rate: float, sheet: str | None, as_json: bool) -> None:
    """Landmark error and identity on procedural people who were not trained on."""
    from lgen_reenact import scores

    found = scores.score(_model(run), _shots(counts, scores.MOST_SHOTS), persons, steps, rate)
    if as_json:
        click.echo(json.dumps([row._asdict() for row in found.rows]))
    else:
        click.echo(f"{'':30}  landmarks, px  identity  PSNR, dB   SSIM")
        for row in found.rows:
            click.echo(f"{row.name:30}  {row.landmarks:13.3f}  {row.identity:8.1%}  {row.psnr:8.2f}  {row.ssim:5.3f}")
    if sheet is not None:
        _writing(sheet, lambda path: _save_sheet(found.shown[:8], path))


def _shots(counts: str, most: int) -> list[int]:
    try:
        found = [int(word) for word in counts.split(",")]
    except ValueError as reason:
        raise UserError(f"--shots {counts}: whole numbers with commas in between") from reason
    if not all(1 <= count <= most for count in found):
        raise UserError(f"--shots {counts}: 1 to {most}")
    return found


def _model(run: str) -> Reenact:
    from lgen_reenact.reenact import Reenact
    from lightning_gen import checkpoints

    model, origin = checkpoints.load_model(checkpoints.find(run))
    if not isinstance(model, Reenact):
        raise UserError(f"{run} holds a {origin['model']}, and this is for reenact")
    return model


def _film(who: str, resolution: int) -> Film:
    from lgen_reenact.film import Procedural, Recorded

    if who.isdecimal():
        return Procedural(resolution, "test", int(who) + 1, 16)
    film = Recorded(who, resolution, "train")
    if len(film.counts) > 1:
        raise UserError(f"{who} holds {len(film.counts)} people: name the folder of one, such as {who}/{film.names[0]}")
    return film


def _number(who: str) -> int:
    return int(who) if who.isdecimal() else 0


def _save_gif(frames: Any, path: Path, fps: int) -> None:
    import io

    from PIL import Image

    from lightning_gen import files, images

    pictures = [Image.fromarray(images.enlarge(frame, 128).permute(1, 2, 0).numpy()) for frame in frames]
    content = io.BytesIO()
    pictures[0].save(content, "GIF", save_all=True, append_images=pictures[1:], duration=1000 // fps, loop=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, content.getvalue())


def _save_sheet(shown: Sequence[Any], path: Path) -> None:
    import torch

    from lightning_gen import images

    images.save_png(images.enlarge(images.grid(torch.cat(list(shown)), len(shown[0])), 512), path)


def _writing(out: str, write: Any) -> None:
    try:
        write(Path(out).expanduser())
    except OSError as reason:
        raise UserError(f"cannot write --out {out}: {reason.strerror or reason}") from reason
    click.echo(out)
