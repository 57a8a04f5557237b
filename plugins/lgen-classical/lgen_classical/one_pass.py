"""What the four models share: they look at the first images of a run once, and are fitted to them."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_gen.images import to_uint8
from lightning_gen.module import GenerativeModule, StepOutput


class OnePass(GenerativeModule):
    """Keeps `images` images, fits itself to them, and from then on ignores the data.

    No gradient is taken. What is fitted stands in buffers, so checkpoints, resume and `sample` are those of any other
    model; until then it draws noise. The value that it logs as `loss` is the share of images that it still waits for.
    """

    collected: Tensor
    labels: Tensor
    fitted: Tensor

    def __init__(self, image_shape: tuple[int, int, int], images: int):
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.images = images
        self.pixels = math.prod(image_shape)
        self.register_buffer("collected", torch.zeros(0, *image_shape, dtype=torch.uint8))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    @abstractmethod
    def fit(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """Set the buffers from pictures (N, C, H, W), float64 in [-1, 1], and their classes (N,)."""

    @abstractmethod
    def draw(self, chance: np.random.Generator, label: int) -> np.ndarray:
        """One image (C, H, W) of a class, in about [-1, 1]."""

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """There is nothing to descend."""
        return []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        real = self._of_all_ranks(batch["image"])
        if not self.fitted:
            labels = self._of_all_ranks(batch["label"]) if self.num_classes else real.new_zeros(len(real)).long()
            self.collected = torch.cat([self.collected, to_uint8(real)])[: self.images]
            self.labels = torch.cat([self.labels, labels])[: self.images]
            # a run that ends before it has seen so many images is fitted to those that there were
            ends = 0 < self.clock.budget <= self.clock.images + len(real)
            if len(self.collected) == self.images or ends:
                self.fit(self.collected.double().cpu().numpy() / 127.5 - 1, self.labels.cpu().numpy())
                self.collected, self.labels = self.collected[:0], self.labels[:0]
                self.fitted.fill_(True)
        missing = 0.0 if self.fitted else 1 - len(self.collected) / self.images
        return self.step_output(len(batch["image"]), loss=torch.tensor(missing, device=self.device))

    def latents(self, n: int, *, seed: int, start: int) -> Tensor:
        """(n, 2): the seed and the index. They name the stream of chance that an image is drawn with."""
        return torch.stack([torch.full((n,), seed), torch.arange(start, start + n)], dim=1)

    def generate(self, latents: Tensor, condition: dict[str, Any] | None = None) -> Tensor:
        labels = condition["label"].tolist() if condition else [0] * len(latents)
        drawn = [self._draw(*row, label) for row, label in zip(latents.tolist(), labels, strict=True)]
        return torch.from_numpy(np.stack(drawn)).float().clamp(-1, 1).to(self.device)

    def _draw(self, seed: int, index: int, label: int) -> np.ndarray:
        chance = np.random.default_rng((seed, index))
        return self.draw(chance, label) if self.fitted else chance.uniform(-1, 1, self.image_shape)

    def _of_all_ranks(self, rows: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return rows
        gathered: Tensor = self.all_gather(rows)
        return gathered.flatten(0, 1)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """The images that were collected when the checkpoint was written, however many."""
        for name in ("collected", "labels"):
            if f"{prefix}{name}" in state:
                setattr(self, name, torch.empty_like(state[f"{prefix}{name}"], device=self.device))
        super()._load_from_state_dict(state, prefix, *rest)

    def keep(self, **fitted: np.ndarray) -> None:
        """Copy what was fitted into the buffers of these names; a smaller array fills their beginning."""
        for name, values in fitted.items():
            buffer = getattr(self, name)
            buffer.zero_()
            place = tuple(slice(0, size) for size in values.shape)
            buffer[place] = torch.as_tensor(values, dtype=buffer.dtype, device=buffer.device)

    def kept(self, name: str) -> np.ndarray:
        """A buffer, to compute with."""
        array: np.ndarray = getattr(self, name).double().cpu().numpy()
        return array
