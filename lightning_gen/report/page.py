"""Runs as one HTML page that needs nothing beside itself: pictures, curves, style and plotting library are inside."""

from __future__ import annotations

import base64
import functools
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lightning_gen.report.run import Run

if TYPE_CHECKING:
    import jinja2

POINTS = 2000
"""Most points of one line; of a longer one the lowest and the highest of each stretch are drawn."""
GRIDS = 24
"""Most grids of one run that can be leafed through: the first, the newest, and between them evenly."""
HEAVY = 120_000
"""Bytes from which a grid is made smaller before it is put on the page."""
WIDEST = 1024
"""Pixels, of a grid that was heavy."""
COLOURS = 8
"""`--line-0` .. `--line-7` of the style."""


@dataclass(frozen=True)
class Subject:
    """What stands in one figure."""

    title: str
    about: str
    prefixes: tuple[str, ...]
    """Of the names of values that belong here: whole names, or families that end in a slash."""
    logarithmic: bool = False


SUBJECTS = (
    Subject("Fréchet distance", "lower is better", ("fid/",), logarithmic=True),
    Subject("Losses", "of the step that was recorded", ("loss", "loss_d", "loss_g", "reconstruction", "kl", "bpd")),
    Subject("Inception score", "higher is better", ("is/",)),
    Subject("Kernel distance", "lower is better", ("kid/",)),
    Subject("Precision, recall, density, coverage", "", ("precision/", "recall/", "density/", "coverage/")),
    Subject("Modes", "covered by samples", ("mode_coverage", "modes_covered")),
    Subject(
        "Shares of samples",
        "on the manifold, and with what was asked for",
        ("on_manifold", "high_quality", "label_accuracy", "shape_accuracy", "colour_accuracy"),
    ),
    Subject("Peak signal-to-noise ratio", "decibels, higher is better", ("psnr",)),
    Subject("Structural similarity", "higher is better", ("ssim",)),
    Subject("Variety of samples", "diversity against the data's own; near-duplicates", ("diversity", "duplicates")),
    Subject("Logits", "mean over a batch", ("logits_real", "logits_fake")),
    Subject("Gradient norms", "before clipping", ("grad_norm", "grad_norm_d", "grad_norm_g"), logarithmic=True),
    Subject("Speed", "images per second, in training steps", ("images_per_second",)),
)
LEFT_OUT = ("/std", "/1-split")
"""Ends of names that accompany another value."""


def page(runs: Sequence[Run]) -> str:
    """The page of one run, or of several over one another."""
    drawn = [figure for subject in SUBJECTS if (figure := _figure(subject, runs))]
    shown = [_shown(run) for run in runs]
    data = {
        "figures": [{key: figure[key] for key in ("logarithmic", "lines")} for figure in drawn],
        "kimg": max(run.kimg for run in runs),
        "events": [[e.kimg, e.severity] for run in runs for e in run.events],
        "grids": [one["grids"] for one in shown],
    }
    return template(__package__).render(
        runs=shown,
        figures=drawn,
        style=part("style.css") + part("uplot/uPlot.min.css") + part("report.css"),
        library=part("uplot/uPlot.iife.min.js"),
        script=part("page.js"),
        # `</script>` in a name must not end the element that holds the data
        data=json.dumps(data, separators=(",", ":")).replace("</", "<\\/"),
        points=POINTS,
    )


@functools.cache
def template(package: str) -> jinja2.Template:
    """A package's page.html.jinja, compiled once: a run writes its page again after every score."""
    import jinja2

    # a slip of a template's names must not become an empty place on the page
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(part("page.html.jinja", package))


def part(name: str, package: str = __package__) -> str:
    """The text of a file that lies beside the code."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def thinned(points: Sequence[tuple[float, float]], most: int = POINTS) -> list[tuple[float, float]]:
    """At most `most` points, in order: of each stretch of the line its lowest and its highest, so that no spike is
    lost; and the last one."""
    if len(points) <= most:
        return list(points)
    length = -(-2 * len(points) // (most - 1))
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), length):
        stretch = range(start, min(start + length, len(points)))
        ends = {min(stretch, key=lambda i: points[i][1]), max(stretch, key=lambda i: points[i][1])}
        kept += [points[i] for i in sorted(ends)]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def sentence(run: Run) -> str:
    """The run in one sentence."""
    model, data = run.settings["model"]["name"], run.settings["data"]["name"]
    preset = f", preset {run.settings['preset']}" if run.settings.get("preset") else ""
    far = f"{run.kimg:.4g} kimg" if run.kimg >= run.budget else f"{run.kimg:.4g} of {run.budget:g} kimg"
    told = f"{model} on {data}{preset}, seed {run.settings['seed']}: {run.state}, {far}"
    if run.training_seconds:
        told += f", {duration(run.training_seconds)} of training"
    if run.ranking and run.best:
        (_, first), (_, last) = run.curves[run.ranking][0], run.curves[run.ranking][-1]
        told += f". {run.ranking} from {first:.4g} to {last:.4g}, best {run.best[1]:.4g} at {run.best[0]:.4g} kimg"
    return told + "."


def duration(seconds: float) -> str:
    """In the units that a person would say it in."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _figure(subject: Subject, runs: Sequence[Run]) -> dict[str, Any] | None:
    lines: list[dict[str, Any]] = []
    for number, run in enumerate(runs):
        names = [name for name in run.curves if _belongs(name, subject)]
        for order, name in enumerate(sorted(names)):
            points = run.curves[name]
            lines.append(
                {
                    "label": f"{run.name}: {name}" if len(runs) > 1 else name,
                    # alone, a run's values differ by colour; of several the runs do, and values by dashes
                    "colour": (number if len(runs) > 1 else order) % COLOURS,
                    "dashes": order if len(runs) > 1 else 0,
                    "points": points,
                }
            )
    if not lines:
        return None
    told = "; ".join(
        f"{line['label']} from {line['points'][0][1]:.3g} to {line['points'][-1][1]:.3g}" for line in lines
    )
    logarithmic = subject.logarithmic and all(value > 0 for line in lines for _, value in line["points"])
    return {
        "title": subject.title,
        "about": ", ".join(filter(None, [subject.about, "logarithmic" if logarithmic else ""])),
        "alt": f"{subject.title} against thousands of images seen: {told}",
        "logarithmic": logarithmic,
        "rows": [_row(line["label"], line["points"]) for line in lines],
        "lines": [{**line, "points": _columns(thinned(line["points"]))} for line in lines],
    }


def _belongs(name: str, subject: Subject) -> bool:
    if name.endswith(LEFT_OUT):
        return False
    return any(name.startswith(p) if p.endswith("/") else name == p for p in subject.prefixes)


def _row(label: str, points: Sequence[tuple[float, float]]) -> tuple[str, ...]:
    """What a table says of a line: first, lowest, highest and last, the middle two with their place."""
    low, high = min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])
    extremes = (f"{value:.4g} at {at:.4g}" for at, value in (low, high))
    return (label, f"{points[0][1]:.4g}", *extremes, f"{points[-1][1]:.4g}")


def _columns(points: Sequence[tuple[float, float]]) -> list[list[float]]:
    return [[float(f"{at:.6g}") for at, _ in points], [float(f"{value:.5g}") for _, value in points]]


def _shown(run: Run) -> dict[str, Any]:
    """What the template says of one run."""
    chosen = _evenly(len(run.grids), GRIDS, run.best_grid)
    grids = [(run.grids[i][0], _picture(run.grids[i][1])) for i in chosen]
    stills = [("newest", *grids[-1])] if grids else []
    if run.best_grid is not None and run.best is not None and run.best_grid != len(run.grids) - 1:
        stills.append((f"where {run.ranking} was best", *grids[chosen.index(run.best_grid)]))
    return {
        "name": run.name,
        "sentence": sentence(run),
        "settings": yaml.safe_dump(run.settings, sort_keys=False),
        "events": run.events,
        "stills": stills,
        "grids": grids,
        "facts": list(_facts(run)),
        "passport": {key: _plain(value) for key, value in run.passport.items() if key != "libraries"},
    }


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """System and cost."""
    yield "Training", f"{duration(run.training_seconds)} in training steps"
    speed = sorted(value for _, value in run.curves.get("images_per_second", []))
    if speed:
        yield "Speed", f"{speed[len(speed) // 2]:.4g} images per second (median)"
    trainer = run.settings.get("trainer", {})
    told = [f"{key} {trainer[key]}" for key in ("accelerator", "devices", "num_nodes", "precision") if trainer.get(key)]
    if told:
        yield "Trainer", ", ".join(told)
    libraries = run.passport.get("libraries", {})
    if libraries:
        yield "Versions", ", ".join(f"{name} {version}" for name, version in libraries.items())
    files = sorted((run.folder / "checkpoints").glob("*.ckpt"))
    kept = [f"{file.name} {file.stat().st_size / 1e6:.3g} MB" for file in files if file.name[0] != "."]
    if kept:
        yield "Checkpoints", ", ".join(kept)
    yield "Folder", str(run.folder)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "-"
    return "-" if value is None else str(value)


def _evenly(count: int, most: int, always: int | None) -> list[int]:
    """Numbers of at most `most` of `count` things, with the first, the last and the one named."""
    if count <= most:
        return list(range(count))
    chosen = {round(i * (count - 1) / (most - 1)) for i in range(most)}
    if always is not None and always not in chosen:
        inner = [i for i in chosen if i not in (0, count - 1)]
        chosen.remove(min(inner, key=lambda i: abs(i - always)))
        chosen.add(always)
    return sorted(chosen)


def _picture(path: Path) -> str:
    """A grid as a data URL; a heavy one smaller."""
    content, kind = path.read_bytes(), "png"
    if len(content) > HEAVY:
        from PIL import Image

        with Image.open(path) as picture:
            small = picture.convert("RGB")
            small.thumbnail((WIDEST, WIDEST))
            file = io.BytesIO()
            small.save(file, "webp", quality=80)
        content, kind = file.getvalue(), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
