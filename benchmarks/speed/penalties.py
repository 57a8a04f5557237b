"""What a discriminator's pass with R1 takes, by PyTorch's convolutions and by those of `lightning_gen.twice`.

    python benchmarks/speed/penalties.py [--models progan stylegan2 …] [--rounds N]

One thread, the preset `quick`, forward and backward by the weights, milliseconds of the process; the ways are
interleaved. The last columns are cosines of the gradient that the penalty alone has by the weights, in bf16 and in
float32: by PyTorch's convolutions it may be anything on processors with AMX, in even batches below 16.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from lightning_gen import execution, registry, twice
from lightning_gen.losses import zero_centred_penalty

WAYS = {"PyTorch's, float32": (False, False), "ours, float32": (True, False), "ours, bf16": (True, True)}


class Judge:
    """A model's discriminator or critic, at its full size, and images for it."""

    def __init__(self, name: str):
        torch.manual_seed(0)
        cls: Any = registry.load(name)
        model = cls(**cls.presets["quick"])
        execution.channels_last(model)
        self.network: nn.Module = model.discriminator
        self.further = (model.growth.last_stage, 1.0) if hasattr(model, "growth") else ()
        self.images = torch.rand(cls.recipes["quick"]["data.batch_size"], *model.image_shape) * 2 - 1

    def gradient(self, ours: bool, half: bool, logits_too: bool = True) -> Tensor:
        """By all weights."""
        images = self.images.clone().requires_grad_()
        around = twice.Convolutions() if ours else nullcontext()
        with torch.autocast("cpu", torch.bfloat16, enabled=half), execution.kept_casts("cpu"):
            with around:
                logits = self.network(images, *self.further)
            loss = zero_centred_penalty(logits, images) + (logits.float().mean() if logits_too else 0.0)
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        return torch.cat([slope.flatten() for slope in found if slope is not None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["progan", "stylegan2", "wgan-gp", "dcgan", "lsgan"])
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| discriminator of | batch | {' | '.join(WAYS)} | cosine, PyTorch's bf16 | ours |")
    print("|---|---:|" + "---:|" * (len(WAYS) + 2))
    for name in arguments.models:
        judge = Judge(name)
        taken: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way, how in WAYS.items():
                start = time.process_time()
                judge.gradient(*how)
                taken[way].append(1000 * (time.process_time() - start))
        right = judge.gradient(False, False, logits_too=False)
        cosines = [
            float(torch.cosine_similarity(right, judge.gradient(ours, True, logits_too=False), dim=0))
            for ours in (False, True)
        ]
        columns = [f"{median(times):.1f}" for times in taken.values()] + [f"{cosine:.3f}" for cosine in cosines]
        print(f"| {name} | {len(judge.images)} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
