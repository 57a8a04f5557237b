"""How soon the generators of the quick presets draw `shapes` when they are told what to draw.

python benchmarks/shapes/told.py [--models dcgan progan] [--seconds 150]

No game: the factors of an image take the place of its latent, its pixels are the target, the loss is the squared error.
What a generator draws well here it can draw; where its game ends far behind, the game is what takes the time.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen import execution, images, registry
from lightning_gen.data.decoder import decode, mode_coverage
from lightning_gen.data.shapes import BACKGROUNDS, COLOURS, SHAPES, Factors, Shapes
from lightning_gen.update import fuse

UNTIL = 0.6
"""Share of the time after which the rate falls to 0."""


def latents(factors: Factors, like: Factors) -> Tensor:
    """(N, 22) of unit variance in `like`: shape, colour and ground one of many, size, place and rotation as numbers."""
    kinds = [("shape", len(SHAPES)), ("colour", len(COLOURS)), ("background", len(BACKGROUNDS))]
    chosen = [F.one_hot(torch.from_numpy(factors[key]), n) * n**0.5 for key, n in kinds]
    numbers = [(factors[key] - like[key].mean()) / like[key].std() for key in ("size", "x", "y", "rotation")]
    return torch.cat([*chosen, torch.from_numpy(np.stack(numbers, axis=1))], dim=1).float()


def told(name: str, seconds: float, batch: int = 16, checks: int = 4) -> None:
    """Train, and print now and then what share of 1,000 test images is drawn on the manifold."""
    torch.manual_seed(0)
    train, test = Shapes(), Shapes(split="test")
    factors, pictures = train.factors(np.arange(len(train))), train.read(np.arange(len(train)))["image"]
    asked, unseen = latents(factors, factors), latents(test.factors(np.arange(1000)), factors)
    cls = registry.load(name)
    model = cls(**cls.presets["quick"] | {"latent_dim": asked.shape[1], "ema_halflife_kimg": 0.0})
    model.clock.images = 10**7  # progan is grown
    execution.channels_last(model)
    _, optimizer = model.configure_optimizers()
    fuse([optimizer])
    start, seen, due = time.process_time(), 0, 1
    while due <= checks:
        share = (time.process_time() - start) / seconds
        if share >= due / checks:
            model.eval()  # batch norm has statistics of its own then
            with torch.no_grad():
                drawn = torch.cat([model.generate(part) for part in unseen.split(100)])
            model.train()
            decoded = decode(images.to_uint8(drawn))
            found, left = mode_coverage(decoded), np.median(decoded.residual)
            row = (name, f"{share * seconds:.0f}", f"{seen / 1000:.0f}", f"{found['on_manifold']:.1%}", f"{left:.3f}")
            print("| " + " | ".join(row) + " |", flush=True)
            due += 1
        optimizer.param_groups[0]["lr"] = model.hparams.lr * max(0.0, min(1.0, (1 - share) / (1 - UNTIL)))
        rows = torch.randint(0, len(asked), (batch,))
        loss = F.mse_loss(model.generate(asked[rows]), images.from_uint8(pictures[rows], torch.float32))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["dcgan", "progan"])
    parser.add_argument("--seconds", type=float, default=150.0, help="of the process, one thread")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| generator of | seconds | kimg | on manifold | median residual |\n|---|---:|---:|---:|---:|")
    for name in options.models:
        told(name, options.seconds)


if __name__ == "__main__":
    main()
