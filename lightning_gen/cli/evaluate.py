"""`lgen evaluate`: scores with their passports."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import click

from lightning_gen.cli import options


@click.command("evaluate")
@click.argument("subject", metavar="RUN|CKPT|IMAGES")
@click.option("--reference", metavar="DATA|IMAGES", help="Compare with this data source, folder or archive.")
@click.option("--split", metavar="NAME", help="Part of the reference; by default that of the run, else train.")
@click.option("--extractor", metavar="NAME", help="Whose features are compared; `tiny`, which needs no download.")
@click.option("--resize", metavar="NAME", help="How images get to the extractor's size; `lgen extractors NAME`.")
@click.option("--protocol", metavar="NAME,…", help="papers, clean, torchmetrics, tiny: several from one sampling pass.")
@click.option(
    "--metrics",
    metavar="NAME,…",
    help="fid,is,kid,prdc,modes by default; psnr,ssim,lpips for pairs; bpd,reconstruction,active-units of a model.",
)
@click.option("--n", type=click.IntRange(min=2), help="Number of images; 10,000 of a model, else all there are.")
@click.option("--draws", type=click.IntRange(min=1), default=16, show_default=True, help="From a posterior, for bpd.")
@click.option("--seed", type=options.NUMBER, default=0, show_default=True, help="Names the stream of samples.")
@options.checkpoint
@click.option("--raw", is_flag=True, help="The weights that training moves, not their average.")
@click.option("--on-error", type=click.Choice(["stop", "skip"]), default="stop", help="About an unreadable image.")
@click.option("--weights", metavar="FILE", help="The extractor's weights.")
@options.plugin
@click.option("--device", type=options.DEVICE, help="Where to compute: cpu, cuda, cuda:1; a GPU if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Scores and passport as one JSON object.")
def command(
    subject: str,
    reference: str | None,
    split: str | None,
    extractor: str | None,
    resize: str | None,
    protocol: str | None,
    metrics: str | None,
    n: int | None,
    draws: int,
    seed: int,
    checkpoint: str | None,
    raw: bool,
    on_error: Literal["stop", "skip"],
    weights: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Score a run, a checkpoint, or a folder or archive of images that any program made.

    A run is compared with the data it was trained on, unless --reference says otherwise. Every score comes with a
    passport: all that changes its value. Two scores compare when the digests of their passports are equal.
    """
    from lightning_gen import registry
    from lightning_gen.data import archive
    from lightning_gen.errors import UserError, said_as

    path = Path(subject)
    if not archive.is_there(subject):
        raise UserError(f"there is no run, checkpoint, folder or archive {subject}")
    from lightning_gen import checkpoints

    names = options.words("--metrics", metrics)
    is_model = checkpoints.holds_model(path)
    if is_model and "lpips" in names:
        raise UserError("lpips compares images in files: `lgen translate` the sources, then evaluate that folder")
    for name in names:
        if name not in (*PAIRED, *EXPLICIT):
            registry.part(name, "metrics")
    if set(names) & {*EXPLICIT, *(() if is_model else PAIRED)}:
        of_features = {"--extractor": extractor, "--resize": resize, "--protocol": protocol, "--weights": weights}
        if unused := ", ".join(option for option, value in of_features.items() if value is not None):
            raise UserError(f"{unused}: not for --metrics {metrics}, leave it out")
    if set(names) & set(PAIRED) and not is_model:
        if split is not None:
            raise UserError("--split: not for pairs of images, which are found by their names, leave it out")
        if raw:
            raise UserError(RAW.format(subject))
        _pairs(subject, reference, names, n, device, as_json)
        return
    if set(names) & set(EXPLICIT):
        if others := sorted(set(names) - set(EXPLICIT)):
            raise UserError(
                f"{', '.join(others)} judges samples, {', '.join(EXPLICIT)} given images: ask for them apart"
            )
        if not is_model:
            raise UserError(f"--metrics {names[0]} asks a model, and {subject} is no run and no checkpoint")
        from lightning_gen import explicit, scoring

        found, notes = explicit.score(
            checkpoints.find(path, checkpoint), names, reference=reference, split=split, n=n, draws=draws, seed=seed,
            raw=raw, device=device or scoring.default_device(), progress=_progress(),
        )  # fmt: skip
        for note in notes:
            _say(note)
        if as_json:
            click.echo(json.dumps(_as_json([found]), indent=2))
        else:
            _given(subject, found)
        return

    from lightning_gen import scoring

    device = device or scoring.default_device()
    with said_as({"--metrics.weights": "--weights"}):
        chosen = scoring.extractors(options.words("--protocol", protocol), extractor, resize, weights, device)
    with ExitStack() as stack:
        if is_model:
            file = checkpoints.find(path, checkpoint)
            who = stack.enter_context(scoring.model_subject(file, seed=seed, raw=raw, device=device, split=split))
        elif raw:
            raise UserError(RAW.format(subject))
        else:
            who = scoring.images_subject(subject, on_error)
        source, notes = scoring.reference_of(who, reference, split)
        for note in (*who.notes, *notes):
            _say(note)
        n = n or who.available or scoring.SAMPLES
        progress = _progress()
        panels = [scoring.panel_of(who, source, each, names, n, progress) for each in chosen]
        scored = scoring.score(who, panels, n, progress=progress, warn=lambda doubt: _say(f"WARNING  {doubt}"))
    if as_json:
        click.echo(json.dumps(_as_json(scored), indent=2))
    else:
        _table(subject, scored, set(names))


RAW = "--raw: {} is no run and no checkpoint, images have no weights"

PAIRED = ("psnr", "ssim", "lpips")

EXPLICIT = ("bpd", "nll", "elbo", "reconstruction", "active-units")
"""What a model with a density or an encoder says of given images."""


def _given(subject: str, found: Any) -> None:
    passport = found.passport
    click.echo(f"{subject}: on {passport.n_reference:,} images of {passport.reference}, split {passport.split}")
    units = {"bpd": "bits for each number of an image", "psnr": "decibels", "mse": "of values in [0, 1]"}
    units |= dict.fromkeys(("nll", "elbo", "kl"), "nats an image")
    for name, value in found.scores.items():
        click.echo(f"  {name:16} {value:<12.6g} {units.get(name, '')}".rstrip())
    for name, value in passport.settings.items():
        click.echo(f"  {name:16} {value}")
    click.echo(f"  {'passport':16} {passport.digest()}")


def _say(sentence: str) -> None:
    """Beside the result, not in it: `--json` is for machines."""
    click.echo(sentence, err=True)


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)

    def shown(items: Iterable[Any], doing: str) -> Iterable[Any]:
        return track(items, doing, console=console, transient=True, disable=not console.is_terminal)

    return shown


def _as_json(scored: list[Any]) -> dict[str, Any]:
    """With one protocol `{"scores", "passport"}`; with several, `protocols` holds one such object for each, and
    `scores` all of them together."""
    whole: dict[str, Any] = {
        "scores": _finite({name: value for each in scored for name, value in each.scores.items()}),
        "passport": {**scored[0].passport.to_json(), "digest": scored[0].passport.digest()},
    }
    if len(scored) > 1:
        whole["protocols"] = [
            {"scores": _finite(each.scores), "passport": {**each.passport.to_json(), "digest": each.passport.digest()}}
            for each in scored
        ]
    return whole


def _finite(scores: dict[str, float]) -> dict[str, float | None]:
    """JSON knows no infinity, which is the PSNR of equal images."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def _table(subject: str, scored: list[Any], asked: set[str]) -> None:
    for each in scored:
        passport = each.passport
        click.echo(
            f"{subject}: {passport.n_fake:,} images against {passport.n_reference:,} of {passport.reference}, "
            f"split {passport.split}"
        )
        for name, value in each.scores.items():
            if name.endswith("/std"):
                continue
            deviation = each.scores.get(f"{name}/std")
            click.echo(f"  {name:32} {value:.5g}" + (f" ± {deviation:.2g}" if deviation is not None else ""))
        for name, reason in each.left_out.items():
            if name in asked:
                click.echo(f"  {name:32} left out: {reason}")
        whose = f", code {passport.extractor_code}" if passport.extractor_code else ""
        click.echo(
            f"  {'extractor':32} {passport.extractor} {passport.weights_digest}, resize {passport.resize}{whose}"
        )
        cached = "from the cache" if each.reference_from_cache else "computed now, cached"
        click.echo(f"  {'reference':32} {cached}" if each.reference_from_cache is not None else "  no reference needed")
        click.echo(f"  {'passport':32} {passport.digest()}")


def _pairs(
    images: str, reference: str | None, names: list[str], n: int | None, device: str | None, as_json: bool
) -> None:
    """Images against their counterparts of the same name."""
    from lightning_gen.errors import UserError

    if others := sorted(set(names) - set(PAIRED)):
        raise UserError(f"{', '.join(PAIRED)} compare pairs, {', '.join(others)} whole sets: ask for them apart")
    if reference is None:
        raise UserError(f"{names[0]} compares each image with its counterpart: --reference FOLDER holds those")

    from lightning_gen import scoring

    scored = scoring.score_pairs(images, reference, names, _progress(), device or scoring.default_device(), n)
    if as_json:
        click.echo(json.dumps(_as_json([scored]), indent=2))
    else:
        _table(images, [scored], set(names))
