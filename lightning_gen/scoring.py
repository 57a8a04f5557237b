"""Scores of a run, a checkpoint, or anybody's images, against a reference, each with its passport."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from torch import Tensor

from lightning_gen import checkpoints, images, registry
from lightning_gen.data import archive, pictures
from lightning_gen.data.cache import Unreadable
from lightning_gen.data.folder import Folder, usual_side
from lightning_gen.data.source import Source
from lightning_gen.errors import UserError, nearest, said_as
from lightning_gen.metrics import doubts, paired
from lightning_gen.metrics.evaluation import Panel, evaluate
from lightning_gen.metrics.extractors import Extractor, file_digest
from lightning_gen.metrics.passport import Passport, Plain, library_versions
from lightning_gen.metrics.reference import Progress, silent

PROTOCOLS: dict[str, tuple[str, str | None]] = {
    "papers": ("inception-v3-compat", "tf1-bilinear"),
    "clean": ("inception-v3-compat", "clean"),
    "torchmetrics": ("inception-v3-compat", "torchmetrics"),
    "tiny": ("tiny", None),
}
"""Extractor and resize that a name stands for: the FID papers', clean-fid's, that of torchmetrics since 1.8, ours."""

METRICS = ("fid", "is", "kid", "prdc", "modes", "points", "digits", "psnr", "ssim", "kept")

SAMPLES = 10_000
"""Images drawn from a model where nobody says how many."""


@dataclass
class Subject:
    """What is scored: `draw(count, start)` gives images start .. start + count as bytes (count, C, H, W), or points."""

    draw: Callable[[int, int], Tensor]
    image_shape: tuple[int, int, int]
    passport: dict[str, Any]
    """The fields of a passport that say which images these are."""
    rounding: str
    available: int | None = None
    """How many images there are; None for a model, which has as many as one asks for."""
    digest: str | None = None
    """Of the content, for a set of images."""
    run: Path | None = None
    """The run directory it came from."""
    made_from: str | None = None
    """Digest of the data whose rows, from the first on, a model makes these images from; None where there is none."""
    trained_on: str | None = None
    """Digest that the data of its run had in training, where a checkpoint says it."""
    notes: list[str] = field(default_factory=list)
    labels: Callable[[int], Tensor | None] = lambda n: None
    """What the first n images were asked to show, where a model was asked for labels."""
    class_names: list[str] | None = None
    """Names of those labels, where a checkpoint says them."""
    kind: str = "image"
    """`image` or `points`, as a data source has it."""


@dataclass(frozen=True)
class Scored:
    """The scores of one protocol, and how they were measured."""

    scores: dict[str, float]
    passport: Passport
    reference_from_cache: bool | None
    left_out: Mapping[str, str]


@contextmanager
def model_subject(
    checkpoint: Path,
    *,
    seed: int = 0,
    raw: bool = False,
    device: str = "cpu",
    sampling: Mapping[str, Plain] | None = None,
    split: str | None = None,
) -> Iterator[Subject]:
    """The samples of a checkpoint's model, from its averaged weights, or with `raw` from the others. A model that
    translates is given the pictures of its run's data, each once; of another part of them where `split` is named.

    Raises:
        UserError: no such checkpoint, or raw weights asked of a model that averages nothing.
    """
    model, origin = checkpoints.load_model(checkpoint, device)
    kind = origin.get("kind", "image")
    available = made_from = None
    if model.translates:
        if (run := run_of(checkpoint)) is None:
            raise UserError(f"{checkpoint} lies in no run directory, which says whose pictures are to be translated")
        data, _ = _data_of(run, split)
        model.examples, available, made_from = data.examples, len(data), data.digest()
    if raw and not model.has_averages:
        raise UserError(f"{checkpoint}: its model averages no weights, so there are no other ones")
    options: dict[str, Any] = dict(sampling or {})
    subject = Subject(
        draw=lambda count, start: images.as_stored(model.sample(count, seed=seed, start=start, **options), kind),
        image_shape=model.image_shape,
        labels=lambda n: model.asked_labels(n, seed=seed),
        class_names=origin.get("class_names"),
        passport={
            "seed": seed,
            "averaged": model.has_averages and not raw,
            "checkpoint_digest": file_digest(checkpoint),
            "sampling": options,
            "libraries": library_versions(origin),
        },
        rounding="nearest",
        available=available,
        run=run_of(checkpoint),
        made_from=made_from,
        trained_on=origin.get("data_digest"),
        kind=kind,
    )
    if raw:
        with model.raw_weights():
            yield subject
    else:
        yield subject


def images_subject(root: str, on_error: Literal["stop", "skip"] = "stop") -> Subject:
    """The images of a folder or an archive, in the order of their names.

    Raises:
        UserError: none there, or one that cannot be read.
    """
    source, notes = open_images(root, "all", on_error=on_error)
    return Subject(
        draw=lambda count, start: source.read(np.arange(start, start + count))["image"],
        image_shape=source.image_shape,
        passport={},
        rounding="none",
        available=len(source),
        digest=source.digest(),
        notes=notes,
    )


def open_images(root: str, split: str, *, on_error: Literal["stop", "skip"] | None = None) -> tuple[Source, list[str]]:
    """A folder or archive of images at their own size, and what to say about how it was read; `on_error` where the user
    has a say in it."""
    try:
        with said_as({"--data.root ": "", "--data.split": "--split"}):
            side, notes = usual_side(root, split)
            source = Folder(root=root, resolution=side, split=split, on_error=on_error or "stop")
    except Unreadable as reason:
        if on_error is None:
            raise
        raise UserError(f"{reason}\n`--on-error skip` leaves out what cannot be read") from reason
    return source, [*notes, *source.notes]


def run_of(checkpoint: Path) -> Path | None:
    """The run directory that a checkpoint lies in."""
    folder = checkpoint.resolve().parent.parent
    return folder if (folder / "run.yaml").is_file() else None


def reference_of(subject: Subject, named: str | None, split: str | None) -> tuple[Source, list[str]]:
    """What `subject` is compared with: a registered data source, a folder or archive, or the data of its run.

    A registered source is made at the subject's resolution, with the channels it has.

    Raises:
        UserError: nothing of that name, a run or a model, images for points or points for images, or no reference named
            for images that no run made.
    """
    if named is None:
        if subject.run is None:
            raise UserError("compared with what? --reference NAME (`lgen data` lists them) or a folder of images")
        return _data_of(subject.run, split, subject.trained_on)
    registered = named in registry.names("data")
    kind = registry.load(named, "data").kind if registered else "image"
    if kind != subject.kind:
        raise UserError(f"--reference {named}: points compare with points, images with images, volumes with volumes")
    if registered:
        channels, _, side = subject.image_shape
        wanted = {"resolution": side, "channels": channels, **({"split": split} if split else {})}
        return _made(named, wanted, f"--reference {named}")
    if not archive.is_there(named):
        similar = nearest(named, registry.names("data"))
        raise UserError(f"--reference {named}: no data source{similar}, and no such folder or archive")
    if checkpoints.holds_model(Path(named).expanduser()):  # a run is a folder of images too: its grids
        raise UserError(
            f"--reference {named} is a run or a model: name a data source or images, "
            f"such as those of `lgen sample {named} --out DIR`"
        )
    return open_images(named, split or "train")


def _data_of(run: Path, split: str | None, trained_on: str | None = None) -> tuple[Source, list[str]]:
    """The data that a run was trained on, and what to say about how it was read; of another part where one is named.
    Of the run's own part it is said where its digest is not `trained_on` any more."""
    settings = yaml.safe_load((run / "run.yaml").read_text())["data"]
    name = settings.pop("name")
    for stream_only in ("batch_size", "workers"):
        settings.pop(stream_only, None)
    its_own = split in (None, settings.get("split"))
    if split is not None:
        settings["split"] = split
    source, notes = _made(name, settings, f"the data of {run}")
    if its_own and trained_on not in (None, source.digest()):
        notes.append(f"WARNING  the data of {run} changed since its training, and is compared as it is now")
    return source, notes


def _made(name: str, settings: dict[str, Any], whose: str) -> tuple[Source, list[str]]:
    if "split" in settings and "split" not in inspect.signature(registry.load(name, "data")).parameters:
        raise UserError(f"--split {settings['split']}: the data {name} has no splits")
    with said_as({"--data.split": "--split", "--data.root ": f"{whose}: ", "--data.": f"{whose}: "}):
        source = registered_source(name, settings)
    return source, list(getattr(source, "notes", []))


def registered_source(name: str, settings: dict[str, Any]) -> Source:
    """The data source, with those of the settings that it has, for a verb that takes its name and no `--data.root`."""
    known = inspect.signature(registry.load(name, "data")).parameters
    with said_as({", or name the folder that holds it with --data.root": ""}):
        source: Source = registry.make(name, "data", **{k: value for k, value in settings.items() if k in known})
    return source


def extractors(
    protocols: Sequence[str], extractor: str | None, resize: str | None, weights: str | None, device: str = "cpu"
) -> list[Extractor]:
    """The extractors that the user asked for, by protocols or by name.

    Raises:
        UserError: an unknown name, weights that are not there, or a resize that the extractor does not know.
    """
    if protocols and (extractor or resize):
        raise UserError("--protocol names extractor and resize already: leave out --extractor and --resize")
    for name in protocols:
        if name not in PROTOCOLS:
            raise UserError(f"unknown protocol {name!r}{nearest(name, PROTOCOLS)} (there are {', '.join(PROTOCOLS)})")
    chosen = [PROTOCOLS[name] for name in protocols] or [(extractor or "tiny", resize)]
    if weights and len({name for name, _ in chosen}) > 1:
        raise UserError("--weights names one extractor's file, and the protocols use several")
    made = []
    for name, size in dict.fromkeys(chosen):
        keywords = {key: value for key, value in (("weights", weights), ("resize", size)) if value is not None}
        made.append(registry.make(name, "extractors", **keywords).to(device))
    return made


def panel_of(
    subject: Subject, source: Source, extractor: Extractor, names: Sequence[str], n: int, progress: Progress = silent
) -> Panel:
    """The metrics `names`, or where nobody names any those of METRICS that fit, for `n` images.

    Raises:
        UserError: one of `names` compares image by image, and the model made its images from other data than `source`;
            one of them needs more images, or all of METRICS do; none of them fits.
    """
    panel = Panel.of(source, extractor, names or METRICS, progress, n)
    for name in names or (() if panel.scores else METRICS[:1]):
        if few := registry.load(name, "metrics").too_few(n, source):
            raise UserError(f"--metrics {name}: {few}")
    if subject.image_shape[0] != source.image_shape[0]:
        _leave_out_pixels(panel)
    if names and not panel.scores:
        name, reason = next(iter(panel.left_out.items()))
        raise UserError(f"--metrics {name}: {reason}")
    if subject.made_from == source.digest() or (names and subject.digest):  # who names a folder knows what is in it
        return panel
    apart = [name for name, score in panel.scores.items() if score.row_by_row]
    if names and apart:
        own = "\nleave out --reference to compare with the data that they are made from" if subject.made_from else ""
        raise UserError(
            f"--metrics {', '.join(apart)} compares each image with the one that it should be, and the images of this "
            f"model are not made from those of {source.title or 'the reference'}{own}"
        )
    panel.scores = {name: score for name, score in panel.scores.items() if name not in apart}
    return panel


def _leave_out_pixels(panel: Panel) -> None:
    """An extractor sees grey pictures as colours; what reads pixels reads those of the reference's channels alone."""
    for name in [name for name, score in panel.scores.items() if "pixels" in score.needs]:
        del panel.scores[name]
        panel.left_out[name] = "the images have other channels than the reference"


def score(
    subject: Subject,
    panels: Sequence[Panel],
    n: int,
    *,
    progress: Progress = silent,
    warn: Callable[[str], Any] = print,
) -> list[Scored]:
    """The scores of `n` images of `subject` under each panel; `warn` is handed what makes them doubtful.

    Raises:
        UserError: fewer images than `n`, or samples that are not finite: there is no score of those.
    """
    if subject.available is not None and n > subject.available:
        raise UserError(f"--n {n:,}: there are only {subject.available:,} images")
    labels = subject.labels(n)
    if any(subject.class_names not in (None, list(panel.reference.source.class_names)) for panel in panels):
        labels = None  # of other classes than the reference has
    inspection = doubts.Inspection()
    for panel in panels:
        for doubt in (*doubts.of_numbers(panel, n), *doubts.same_images(subject.digest or "", panel)):
            warn(doubt)
        panel.prepare()
    try:
        found = evaluate(
            lambda count, start: inspection.look(subject.draw(count, start)),
            panels,
            n,
            progress,
            labels=labels,
        )
    except images.NotFinite as reason:
        raise UserError("the model draws NaN or infinity: it diverged, and there is no score of that") from reason
    for doubt in inspection.doubts():
        warn(doubt)
    return [
        Scored(
            scores,
            panel.passport(n, subject.rounding, **subject.passport),
            panel.reference.from_cache,
            panel.left_out,
        )
        for panel, scores in zip(panels, found, strict=True)
    ]


def score_pairs(
    root: str,
    reference: str,
    names: Sequence[str],
    progress: Progress = silent,
    device: str = "cpu",
    n: int | None = None,
) -> Scored:
    """Each image of `root` against the one of the same name in `reference`: mean PSNR, SSIM, LPIPS over the pairs.

    Names count without their suffix, so that a restored PNG finds its JPEG. Images keep their own sizes. Of `n` pairs
    the first by name.

    Raises:
        UserError: an image without a counterpart, two images of one name, a pair of two sizes, fewer pairs than `n`, or
            an image that cannot be read; it is named.
    """
    ours, theirs = _pictures(root), _pictures(reference)
    lonely = sorted(set(ours) ^ set(theirs))
    if lonely:
        where = reference if lonely[0] in ours else root
        raise UserError(f"{where} holds no counterpart of {lonely[0]} ({len(lonely)} images have none)")
    if n is not None and n > len(ours):
        raise UserError(f"--n {n:,}: there are only {len(ours):,} images")
    compared = sorted(ours)[:n]
    measures: dict[str, Callable[[Tensor, Tensor], float]] = {"psnr": paired.psnr, "ssim": paired.ssim}
    extractor, weights_digest = "none", ""
    if "lpips" in names:
        network = paired.LPIPS().to(device)
        extractor, weights_digest = "lpips-vgg", network.weights_digest
        measures["lpips"] = lambda a, b: float(network(a.to(device), b.to(device)))
    values: dict[str, list[float]] = {name: [] for name in names}
    digest = hashlib.sha256()
    for name in progress(compared, "comparing pairs"):
        a, b = (_pixels(files[name], name) for files in (ours, theirs))
        if a.shape != b.shape:
            sizes = " and ".join(f"{x.shape[-1]}x{x.shape[-2]}" for x in (a, b))
            raise UserError(f"the pair {name} has two sizes, {sizes}")
        digest.update(b.numpy().tobytes())
        for metric, kept in values.items():
            kept.append(measures[metric](a, b))
    passport = Passport(
        extractor=extractor,
        weights_digest=weights_digest,
        resize="none",
        rounding="none",
        n_fake=len(compared),
        reference_digest=digest.hexdigest(),
        n_reference=len(compared),
        split="pairs",
        reference=Path(reference).name,
    )
    return Scored({name: float(np.mean(kept)) for name, kept in values.items()}, passport, None, {})


def _pictures(root: str) -> dict[str, Callable[[], bytes]]:
    """Name without suffix to content of every image below `root`."""
    with said_as({"--data.root ": ""}):
        files = archive.open_root(root)
        paths = [path for path in files.paths() if pictures.is_image(path)]
        named: dict[str, str] = {}
        for path in paths:
            name = str(Path(path).with_suffix(""))
            if (other := named.setdefault(name, path)) != path:
                raise UserError(f"{root}: {other} and {path} are both called {name}, as pairs are")
        found = {str(Path(path).with_suffix("")): load for path, load in files.read(paths)}
    if not found:
        raise UserError(f"{root}: no images in it")
    return found


def _pixels(load: Callable[[], bytes], name: str) -> Tensor:
    try:
        return torch.from_numpy(pictures.whole(load())[None])
    except Exception as reason:  # decoders raise whatever they like on damaged bytes
        raise UserError(f"the image {name} cannot be read ({str(reason) or type(reason).__name__})") from reason


def default_device() -> str:
    """The first GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
