"""Scores that only a model with a density or an encoder has: how likely it finds images, how well it keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_gen import checkpoints, images, registry, scoring
from lightning_gen.data.source import Source
from lightning_gen.errors import UserError
from lightning_gen.likelihood import bits_per_dimension
from lightning_gen.metrics import paired
from lightning_gen.metrics.extractors import file_digest
from lightning_gen.metrics.passport import Passport, library_versions
from lightning_gen.metrics.reference import Progress, silent
from lightning_gen.module import GenerativeModule

BATCH = 64
"""Images at once. Noise is named by the first of them, so this is part of the protocol."""
ACTIVE = 0.01
"""Least variance over images of the mean of a latent that counts as used. Burda et al. 2016, section 5.2."""


def score(
    checkpoint: Path,
    names: Sequence[str],
    *,
    reference: str | None = None,
    split: str | None = None,
    n: int | None = None,
    draws: int = 1,
    seed: int = 0,
    raw: bool = False,
    device: str = "cpu",
    progress: Progress = silent,
) -> tuple[scoring.Scored, list[str]]:
    """Likelihood, reconstruction and use of latents on the first `n` images of a data source, and what to say of it.

    By default the test split of the run's own data, where it has one.

    Raises:
        UserError: the model has no likelihood or no encoder, the images have another shape than it makes, or there are
            fewer than `n`.
    """
    model, origin = checkpoints.load_model(checkpoint, device)
    if raw and not model.has_averages:
        raise UserError(f"{checkpoint}: its model averages no weights, so there are no other ones")
    source, notes = _images(checkpoint, model, origin, reference, split)
    count = n or len(source)
    if count > len(source):
        raise UserError(f"--n {n:,}: there are only {len(source):,} images")
    if raw:
        with model.raw_weights():
            found = _score(model, origin["model"], source, names, count, draws, seed, progress)
    else:
        found = _score(model, origin["model"], source, names, count, draws, seed, progress)
    passport = Passport(
        extractor="none",
        weights_digest="",
        resize="none",
        rounding="none",
        n_fake=0,
        reference_digest=source.digest(),
        n_reference=count,
        split=source.split,
        # an exact likelihood needs no draws, so their number is no part of its protocol
        settings={"bpd.levels": model.levels} | ({"bpd.draws": draws} if "elbo" in found else {}),
        reference=source.title,
        seed=seed,
        averaged=model.has_averages and not raw,
        checkpoint_digest=file_digest(checkpoint),
        libraries=library_versions(origin),
    )
    return scoring.Scored(found, passport, None, {}), notes


def _images(
    checkpoint: Path, model: GenerativeModule, origin: dict[str, Any], reference: str | None, split: str | None
) -> tuple[Source, list[str]]:
    subject = scoring.Subject(
        draw=lambda count, start: model.sample(count, start=start),
        image_shape=model.image_shape,
        passport={},
        rounding="none",
        run=scoring.run_of(checkpoint),
        trained_on=origin.get("data_digest"),
        kind=origin.get("kind", "image"),
    )
    if split is None and reference is None and subject.run is not None:
        source, notes = scoring.reference_of(subject, None, None)
        if hasattr(source, "split") and source.split == "train":
            try:  # what was not trained on, where the data has it
                source, notes = scoring.reference_of(subject, None, "test")
            except UserError:
                notes = [*notes, "the data has no test split: these are the images that it was trained on"]
    else:
        source, notes = scoring.reference_of(subject, reference, split)
    if tuple(source.image_shape) != tuple(model.image_shape):
        ours, theirs = (" x ".join(map(str, shape)) for shape in (model.image_shape, source.image_shape))
        raise UserError(f"the model knows images of {ours}, the reference has {theirs}")
    return source, notes


def _score(
    model: GenerativeModule,
    name: str,
    source: Source,
    names: Sequence[str],
    count: int,
    draws: int,
    seed: int,
    progress: Progress,
) -> dict[str, float]:
    likelihood = bool({"bpd", "nll", "elbo"} & set(names))
    coded = bool({"reconstruction", "active-units"} & set(names))
    for needed, method, what in ((likelihood, "likelihood", "likelihood"), (coded, "encode", "encoder")):
        if needed and getattr(type(model), method) is getattr(GenerativeModule, method):
            having = ", ".join(_having(method))
            raise UserError(f"{name} has no {what}; {having} have one")
    nats: dict[str, list[Tensor]] = {}
    codes: list[Tensor] = []
    errors: list[tuple[float, float, int]] = []
    for first in progress(range(0, count, BATCH), "scoring"):
        batch = source.read(np.arange(first, min(first + BATCH, count)))
        if likelihood:
            found = model.score_images(batch, seed=seed, start=first, samples=draws)
            for key, value in found.items():
                nats.setdefault(key, []).append(value.double().cpu())
        if coded:
            latents, error, decibels = keep(model, batch)
            codes.append(latents.cpu())
            errors.append((error, decibels, len(latents)))
    scores = {key: float(torch.cat(values).mean()) for key, values in nats.items()}
    if likelihood:
        scores = {"bpd": bits_per_dimension(scores["nll"], int(np.prod(model.image_shape))), **scores}
    if "reconstruction" in names:
        sizes = np.array([size for *_, size in errors])
        for i, measure in enumerate(("mse", "psnr")):
            scores[measure] = float((np.array([error[i] for error in errors]) * sizes).sum() / sizes.sum())
    if "active-units" in names:
        scores |= used(torch.cat(codes))
    return scores


def used(latents: Tensor) -> dict[str, float]:
    """How much of a latent space images take up: of vectors (N, D) how many entries vary, of codes (N, ...) int64 how
    many there are, and how many as frequent ones would have their entropy."""
    if latents.is_floating_point():
        flat = latents.flatten(1).double()
        return {"active_units": int((flat.var(0) > ACTIVE).sum()), "latent_dim": flat.shape[1]}
    counts = torch.bincount(latents.flatten()).double()
    perplexity = torch.special.entr(counts / counts.sum()).sum().exp()
    return {"active_codes": int((counts > 0).sum()), "perplexity": float(perplexity)}


@torch.no_grad()
def keep(model: GenerativeModule, batch: dict[str, Any]) -> tuple[Tensor, float, float]:
    """A batch of bytes through encoder and decoder: the latents, the mean squared error of values in [0, 1], and the
    PSNR in decibels, after rounding to bytes, as the mean over the images."""
    with model.asked():
        pixels = batch["image"].to(model.device)
        latents = model.encode(images.from_uint8(pixels))
        again = images.to_uint8(model.decode(latents))
    error = (again.double() - pixels.double()).div(255).square().mean()
    return latents, float(error), paired.psnr(again.cpu(), pixels.cpu())


def _having(method: str) -> list[str]:
    """Registered models that have the method."""
    own = [part for part in registry.parts("models") if part.distribution == "lightning-gen"]
    classes = {part.name: registry.load(part.name) for part in own}
    return [name for name, cls in classes.items() if getattr(cls, method) is not getattr(GenerativeModule, method)]
