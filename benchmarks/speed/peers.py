"""Images a second of our training, as `lgen fit` runs it with its defaults, and of other toolkits, interleaved.

    pip install --no-deps torch-mimicry torchgan; pip install scikit-learn  # which mimicry imports
    python benchmarks/speed/peers.py [--rounds N] [--threads N] [--json FILE]

A peer trains networks of the same layers by its own training step and its own optimizers, in its own precision and
layout, on images that lie in memory: neither side reads files. One that does not import is reported with its error.
mimicry wants TensorFlow and a part of PyTorch that is gone (torch._six) for its metrics and its reader of ImageNet,
which a step does not touch: stand-ins take their places.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from step import CLOCKS, OFF, Interleave, machine, registered
from torch import Tensor, nn

from lightning_gen import experiment, settings

SNGAN = ("sngan", "paper", ("--data.batch_size", "64"))
DCGAN = ("dcgan", None, ("--model.width", "64", "--data.resolution", "64", "--data.batch_size", "64"))


class Peer(ABC):
    """A training loop of another toolkit over images in memory, [-1, 1]."""

    parameters: tuple[int, int]
    """Of its generator and its discriminator."""

    def __init__(self, pixels: np.ndarray, batch_size: int):
        self._pixels, self._batch_size = torch.from_numpy(pixels), batch_size

    def batch(self) -> Tensor:
        rows = torch.randint(len(self._pixels), (self._batch_size,))
        return self._pixels[rows].float() / 127.5 - 1

    def count(self, generator: nn.Module, discriminator: nn.Module) -> None:
        generated, judged = (sum(p.numel() for p in net.parameters()) for net in (generator, discriminator))
        self.parameters = generated, judged

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    @abstractmethod
    def step(self) -> None:
        """As many images as one of our steps takes."""


def stand_in(name: str) -> None:
    """Put a module that does nothing in the place of one that does not import."""
    try:
        importlib.import_module(name)
    except ImportError:
        module = MagicMock(name=name)
        module.__spec__ = ModuleSpec(name, None)
        sys.modules[name] = module


class Mimicry(Peer):
    """SNGAN-32, five critic steps of 64 images and one generator step, as its Trainer takes them."""

    def __init__(self, *data: Any):
        super().__init__(*data)
        for name in ("tensorflow", "torch._six"):
            stand_in(name)
        from torch_mimicry.nets.sngan import SNGANDiscriminator32, SNGANGenerator32
        from torch_mimicry.training.metric_log import MetricLog

        self.generator, self.discriminator = SNGANGenerator32(), SNGANDiscriminator32()
        self.count(self.generator, self.discriminator)
        self.opt_d, self.opt_g = (
            torch.optim.Adam(net.parameters(), 2e-4, (0.0, 0.9)) for net in (self.discriminator, self.generator)
        )
        self.log = MetricLog

    def step(self) -> None:
        log = self.log()
        for critic in range(5):
            real = self.batch(), torch.zeros(self._batch_size)
            self.discriminator.train_step(
                real_batch=real, netG=self.generator, optD=self.opt_d, log_data=log, device="cpu"
            )
            if critic == 4:
                self.generator.train_step(
                    real_batch=real, netD=self.discriminator, optG=self.opt_g, log_data=log, device="cpu"
                )


class Torchgan(Peer):
    """DCGAN-64 by its models and the training operations of its losses."""

    def __init__(self, *data: Any):
        super().__init__(*data)
        from torchgan.losses import MinimaxDiscriminatorLoss, MinimaxGeneratorLoss
        from torchgan.models import DCGANDiscriminator, DCGANGenerator

        self.generator = DCGANGenerator(encoding_dims=100, out_size=64, step_channels=64, last_nonlinearity=nn.Tanh())
        self.discriminator = DCGANDiscriminator(in_size=64, step_channels=64)
        self.count(self.generator, self.discriminator)
        self.opt_d, self.opt_g = (
            torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (self.discriminator, self.generator)
        )
        self.loss_d, self.loss_g = MinimaxDiscriminatorLoss(), MinimaxGeneratorLoss()

    def step(self) -> None:
        device = torch.device("cpu")
        self.loss_d.train_ops(self.generator, self.discriminator, self.opt_d, self.batch(), device)
        self.loss_g.train_ops(self.generator, self.discriminator, self.opt_g, device, self._batch_size)


class Example(Peer):
    """DCGAN-64 in the manner of pytorch/examples: float32, default layout, real and fake images apart, one fake batch
    for both updates, losses read by Python at every step."""

    def __init__(self, *data: Any):
        super().__init__(*data)
        from lightning_gen.layers import normal_weights, strided_discriminator, strided_generator

        self.generator = strided_generator(100, 64, 4, 3).apply(normal_weights)
        self.discriminator = strided_discriminator(64, 4, 3).apply(normal_weights)
        self.count(self.generator, self.discriminator)
        self.opt_d, self.opt_g = (
            torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (self.discriminator, self.generator)
        )

    def step(self) -> None:
        real = self.batch()
        yes, no = torch.ones(len(real)), torch.zeros(len(real))
        self.discriminator.zero_grad()
        of_real = F.binary_cross_entropy(torch.sigmoid(self.discriminator(real)), yes)
        of_real.backward()
        fake = self.generator(torch.randn(len(real), 100, 1, 1))
        of_fake = F.binary_cross_entropy(torch.sigmoid(self.discriminator(fake.detach())), no)
        of_fake.backward()
        self.opt_d.step()
        self.generator.zero_grad()
        loss_g = F.binary_cross_entropy(torch.sigmoid(self.discriminator(fake)), yes)
        loss_g.backward()
        self.opt_g.step()
        _ = of_real.item(), of_fake.item(), loss_g.item()


PEERS: dict[str, tuple[tuple[str, str | None, tuple[str, ...]], Callable[..., Peer]]] = {
    "mimicry, SNGAN-32": (SNGAN, Mimicry),
    "torchgan, DCGAN-64": (DCGAN, Torchgan),
    "in the manner of pytorch/examples, DCGAN-64": (DCGAN, Example),
}


class Beside(Interleave):
    """Blocks of a peer's steps between ours."""

    def __init__(self, peer: Callable[..., Peer], model: str, *options: Any):
        super().__init__(model, *options)
        self._peer = peer

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.networks = pl_module.generator, pl_module.discriminator
        self.images, self.precision = data.images_per_step, trainer.precision
        self._loop = self._peer(data.source.pixels["image"], data.batch_size)  # type: ignore[assignment]

    def compare(self, model: Any, batch: Any) -> None:
        """Weights of their own: nothing to compare but how many there are."""
        ours = tuple(sum(p.numel() for p in network.parameters()) for network in self.networks)
        self.parameters = {"ours": ours, "peer": self._loop.parameters}  # type: ignore[attr-defined]


def measure(name: str, rounds: int, block: int, clock: str) -> dict[str, Any]:
    """Images a second that a discriminator saw, ours and the peer's."""
    (model, preset, arguments), peer = PEERS[name]
    beside = Beside(peer, model, block, rounds, 1, clock)
    with tempfile.TemporaryDirectory() as folder, registered(model, beside):
        chosen = settings.resolve([*OFF, *arguments], model=model, data="pixels", preset=preset)
        chosen.values["callbacks"].append("beside")
        chosen.values["beside"] = {}
        critic_steps = chosen.values["model"].get("critic_steps", 1)
        chosen.values["kimg"] = (2 + (rounds + 1) * block) * chosen.values["data"]["batch_size"] * critic_steps / 1000
        experiment.fit(chosen, Path(folder), say=lambda line: None)
    ours, theirs = (np.array(seconds) / block for seconds in (beside.ours, beside.bare))
    return {
        "peer": name,
        "parameters": beside.parameters,
        "precision": beside.precision,
        "ours": beside.images / float(np.median(ours)),
        "theirs": beside.images / float(np.median(theirs)),
        "ratios": (theirs / ours).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of blocks that are timed")
    parser.add_argument("--block", type=int, default=1, help="steps in a block")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for name in PEERS:
        try:
            found = measure(name, options.rounds, options.block, options.clock)
        except ImportError as reason:
            found = {"peer": name, "error": f"{type(reason).__name__}: {reason}"}
            print(f"{name}: does not import: {reason}", flush=True)
        else:
            print(
                f"{name}: ours {found['ours']:.1f} images/s ({found['precision']}), theirs {found['theirs']:.1f}, "
                f"ratio {np.median(found['ratios']):.2f} ({min(found['ratios']):.2f}-{max(found['ratios']):.2f}); "
                f"parameters {found['parameters']}",
                flush=True,
            )
        results.append(found)
    if options.json:
        content = {"machine": machine(), "clock": options.clock, "results": results}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
