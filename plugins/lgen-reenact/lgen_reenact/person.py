"""A person learnt from a few frames, and drawn by landmarks: Zakharov et al. 2019, section 3.3."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from lgen_reenact.networks import Generator
from lgen_reenact.reenact import Reenact
from lightning_gen import files, images
from lightning_gen.errors import UserError
from lightning_gen.losses import hinge_d, hinge_g

ABOUT = "lgen_reenact"
"""Key of a file's metadata under which stands what the generator is made with."""
SETTINGS = ("width", "generator_halvings", "blocks")

LARGEST_BATCH = 64


class Person(nn.Module):
    """A generator that has become one person's: landmarks alone to frames.

    Args:
        generator: That of a model, or a copy that may be changed.
        styles: The person's parameters, (1, generator.styles): psi_hat, or psi' after tuning.
        settings: What the generator is made with, and `resolution`.
    """

    def __init__(self, generator: Generator, styles: Tensor, settings: dict[str, int]):
        super().__init__()
        self.generator = generator
        self.styles = nn.Parameter(styles)
        self.settings = settings

    def forward(self, landmarks: Tensor) -> Tensor:
        """Landmarks (B, 3, R, R) in [-1, 1] to frames of the same shape."""
        drawn: Tensor = self.generator(landmarks, self.styles.expand(len(landmarks), -1))
        return drawn

    @torch.no_grad()
    def draw(self, landmarks: Tensor) -> Tensor:
        """Pictures of landmarks (B, 3, R, R) uint8 to frames (B, 3, R, R) uint8."""
        parts = [self.eval()(images.from_uint8(part)) for part in landmarks.split(LARGEST_BATCH)]
        return images.to_uint8(torch.cat(parts))

    def save(self, path: Path) -> None:
        """The weights and what they belong to, as safetensors, whole or not at all.

        Raises:
            OSError: the folder cannot be written.
        """
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, save(tensors, {ABOUT: json.dumps(self.settings)}))

    @classmethod
    def load(cls, path: str) -> Person:
        """What `save` wrote.

        Raises:
            UserError: there is no such file, or it is something else.
        """
        try:
            with safe_open(path, "pt") as stored:
                settings = json.loads((stored.metadata() or {})[ABOUT])
                weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no dict
        except FileNotFoundError as reason:
            raise UserError(f"there is no file {path}") from reason
        except (SafetensorError, KeyError, OSError) as reason:
            raise UserError(f"{path} is no person that `lgen-reenact tune` wrote") from reason
        generator = Generator(
            settings["resolution"], settings["width"], settings["generator_halvings"], settings["blocks"]
        )
        person = cls(generator, torch.zeros(1, generator.styles), settings)
        person.load_state_dict(weights)
        return person.eval()


def met(model: Reenact, shots: Tensor) -> tuple[Person, Tensor]:
    """The person of frames with their landmarks (K, 6, R, R) uint8 at first sight, without tuning, and the embedding
    (1, D)."""
    with torch.no_grad(), model.asked():
        embedding = model.averaged("embedder")(images.from_uint8(shots)[None])
        styles = model.averaged("projection")(embedding)
    settings: dict[str, Any] = {name: model.hparams[name] for name in SETTINGS}
    settings["resolution"] = model.image_shape[-1]
    generator = copy.deepcopy(model.averaged("generator")).requires_grad_(True)
    return Person(generator, styles, settings), embedding


def tune(model: Reenact, shots: Tensor, steps: int, rate: float = 1.0) -> Person:
    """The same, and then `steps` updates of the generator, of the person's parameters and of the discriminator on these
    frames.

    The discriminator begins with the embedding in the place of the video's vector (equation 8): the match term is why
    that is a good beginning. All frames are taken in every step; nothing is drawn by chance.

    Args:
        model: After meta-learning; it is not changed.
        shots: K frames with their landmarks, (K, 6, R, R) uint8.
        steps: 0 for none.
        rate: What the learning rates of meta-learning are multiplied by.
    """
    person, embedding = met(model, shots)
    frames, landmarks = images.from_uint8(shots).split(3, dim=1)
    critic = copy.deepcopy(model.discriminator).requires_grad_(True)
    known = nn.Parameter(embedding.clone())
    settings = model.hparams
    ours = torch.optim.Adam(person.parameters(), rate * settings.lr, settings.betas)
    theirs = torch.optim.Adam([*critic.parameters(), known], rate * settings.lr_discriminator, settings.betas)
    person.train()
    critic.train()
    seen = torch.cat([frames, landmarks], dim=1)
    for _ in range(steps):
        with cached():
            fake = person(landmarks)
            logits, maps = critic(torch.cat([fake, landmarks], dim=1), known)
            with torch.no_grad():
                _, maps_real = critic(seen, known)
            loss = model.likeness(fake, frames, maps, maps_real) + hinge_g(logits)
            ours.zero_grad()
            loss.backward()
        ours.step()
        with cached():
            logits_real, _ = critic(seen, known)
            logits_fake, _ = critic(torch.cat([fake.detach(), landmarks], dim=1), known)
            theirs.zero_grad()
            hinge_d(logits_real, logits_fake).backward()
        theirs.step()
    return person.eval()
