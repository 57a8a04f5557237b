"""What the defaults of `lgen fit` buy on this machine, measured on one pair of networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from lightning_gen import execution, registry
from lightning_gen.losses import hinge_d, hinge_g
from lightning_gen.update import fuse

MODEL = "sngan"
"""Its quick preset is timed: residual networks, as most models here have."""

BATCH = 32


@dataclass(frozen=True)
class Way:
    """One way to run the networks."""

    name: str
    precision: str
    channels_last: bool
    fused: bool


WAYS = (
    Way("PyTorch's own: float32", "32-true", channels_last=False, fused=False),
    Way("and channels_last", "32-true", channels_last=True, fused=False),
    Way("and fused Adam", "32-true", channels_last=True, fused=True),
    Way("and bf16-mixed", "bf16-mixed", channels_last=True, fused=True),
)
"""Each with one thing more than the one before."""


def measure(device: torch.device, rounds: int = 5, steps: int = 3) -> dict[Way, float]:
    """Images a second of both updates of a training step, each of WAYS in turn, the median over the rounds."""
    made = {way: _step(way, device) for way in WAYS}
    for step in made.values():
        step()
    seconds: dict[Way, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, step in made.items():
            began = _now(device)
            for _ in range(steps):
                step()
            seconds[way].append((_now(device) - began) / steps)
    return {way: BATCH / median(spent) for way, spent in seconds.items()}


def chosen(device: torch.device) -> Way:
    """The way that `lgen fit` takes on this device."""
    precision = execution.fast_precision(device.type)
    return next(way for way in WAYS if way.fused and way.precision == precision)


def _step(way: Way, device: torch.device) -> Callable[[], None]:
    torch.manual_seed(0)
    cls = registry.load(MODEL)
    model: Any = cls(**cls.presets["quick"]).to(device)
    if way.channels_last:
        execution.channels_last(model)
    opt_d, opt_g = optimizers = model.configure_optimizers()
    if way.fused:
        fuse(optimizers)
    real = torch.rand(BATCH, *model.image_shape, device=device) * 2 - 1
    latents = torch.randn(BATCH, model.latent_dim, device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=way.precision == "bf16-mixed"):
            fake = model.generator(latents)
            loss_d = hinge_d(model.discriminator(real), model.discriminator(fake.detach()))
            loss_g = hinge_g(model.discriminator(fake))
        for optimizer, loss, network in ((opt_d, loss_d, model.discriminator), (opt_g, loss_g, model.generator)):
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()

    return step


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
