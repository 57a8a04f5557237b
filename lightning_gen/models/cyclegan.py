"""Unpaired image-to-image translation using cycle-consistent adversarial networks: Zhu, Park, Isola, Efros, ICCV 2017

https://arxiv.org/abs/1703.10593. Original code (Lua Torch): https://github.com/junyanz/CycleGAN
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.layers import normal_weights
from lightning_gen.losses import least_squares_d, least_squares_g
from lightning_gen.module import Decay, GenerativeModule, StepOutput
from lightning_gen.translators import Norm, Patch, PatchDiscriminator, ResNetGenerator, in_pieces


class CycleGAN(GenerativeModule):
    """Image to image without pairs: there and back again must lead to where one was.

    Differences from the paper: none in networks and losses. The history of translated pictures is one for all
    processes and a part of the checkpoint, so that a resumed run draws the same ones.

    Args:
        image_shape: (channels, height, width) of the pictures of both kinds; square, sides a multiple of 4.
        width: Feature maps of the networks' first layers.
        blocks: Residual blocks of the generators; the paper takes 6 at 128 pixels and 9 from 256 on.
        norm: Instance or batch normalisation.
        patch: Side of the patches that the discriminators judge: 1, 16 or 70 pixels.
        weight_cycle: Weight of the L1 distance between a picture and what comes back (lambda).
        weight_identity: Weight of the L1 distance between a picture and its translation to the kind that it is of, as a
            share of `weight_cycle` (section 5.2 takes 0.5 where colours shall stay); 0 is none.
        history: Translated pictures that the discriminators may be shown again; 0 is none.
        lr: Learning rate of all networks.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged generators in thousands of images; 0 keeps no average.
    """

    paper = (
        "Zhu et al. 2017, Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, "
        "https://arxiv.org/abs/1703.10593"
    )
    undecided = 0.5  # between the 0 of fakes and the 1 of real images
    views = ("a", "b")
    usual_data = "unpaired"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 256, 256)},
        "paper-128": {"image_shape": (3, 128, 128), "blocks": 6},
        "quick": {
            "image_shape": (3, 32, 32),
            "width": 16,
            "blocks": 3,
            "patch": 16,
            "lr": 5e-4,
            "ema_halflife_kimg": 1.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 267, "data.batch_size": 1, "data.flip": True, "update.lr_decay": 0.5},
        "paper-128": {"kimg": 267, "data.batch_size": 1, "data.flip": True, "update.lr_decay": 0.5},
        "quick": {"kimg": 12, "data.batch_size": 4, "update.lr_decay": 0.5},
    }
    checked: ClassVar[dict[str, Any]] = {"width": 4, "blocks": 1, "history": 6}
    stride = ResNetGenerator.stride

    history_a: Tensor
    history_b: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 256, 256),
        width: PositiveInt = 64,
        blocks: PositiveInt = 9,
        norm: Norm = "instance",
        patch: Patch = 70,
        weight_cycle: NonNegativeFloat = 10.0,
        weight_identity: NonNegativeFloat = 0.5,
        history: NonNegativeInt = 50,
        lr: PositiveFloat = 2e-4,
        betas: tuple[Decay, Decay] = (0.5, 0.999),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = self.input_shape = tuple(image_shape)
        smallest = 32 if patch == 70 else 16
        if height != resolution or resolution % self.stride or resolution < smallest:
            raise UserError(
                f"cyclegan with patches of {patch} makes square images of {smallest} pixels or more, a multiple of "
                f"{self.stride}, not {height} x {resolution}"
            )
        self.generator_ab = ResNetGenerator(channels, channels, width, blocks, norm)
        self.generator_ba = ResNetGenerator(channels, channels, width, blocks, norm)
        self.discriminator_a = PatchDiscriminator(channels, width, patch, norm)
        self.discriminator_b = PatchDiscriminator(channels, width, patch, norm)
        self.apply(normal_weights)
        for name in ("history_a", "history_b"):
            self.register_buffer(name, torch.zeros(history, *self.image_shape))
        self.average("generator_ab", ema_halflife_kimg)
        self.average("generator_ba", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        pairs = (self.discriminator_a, self.discriminator_b), (self.generator_ab, self.generator_ba)
        return [
            torch.optim.Adam(
                itertools.chain(*(network.parameters() for network in pair)), self.hparams.lr, self.hparams.betas
            )
            for pair in pairs
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        a, b, weights = batch["a"], batch["b"], self.hparams
        with self.update(opt_g) as step_g:
            fake_b, fake_a = self.generator_ab(a), self.generator_ba(b)
            cycle = distance(self.generator_ba(fake_b), a) + distance(self.generator_ab(fake_a), b)
            loss_g = 2 * (  # least squares without the halves of our loss, as in the paper (section 3.3)
                least_squares_g(self.discriminator_b(self.augmented(fake_b)))
                + least_squares_g(self.discriminator_a(self.augmented(fake_a)))
            )
            total = loss_g + weights.weight_cycle * cycle
            if weights.weight_identity > 0:
                identity = distance(self.generator_ab(b), b) + distance(self.generator_ba(a), a)
                total = total + weights.weight_cycle * weights.weight_identity * identity
            step_g.backward(total)
        with self.update(opt_d) as step_d:
            seen_a = self.from_history(self.history_a, fake_a.detach())
            seen_b = self.from_history(self.history_b, fake_b.detach())
            logits_real = torch.cat([self.discriminator_a(self.augmented(a)), self.discriminator_b(self.augmented(b))])
            logits_fake = torch.cat(
                [self.discriminator_a(self.augmented(seen_a)), self.discriminator_b(self.augmented(seen_b))]
            )
            # a mean over both kinds: twice it is the sum of the two losses, each halved as in section 4
            loss_d = 2 * least_squares_d(logits_real, logits_fake)
            step_d.backward(loss_d)
        return self.step_output(
            len(a),
            loss_d=loss_d,
            loss_g=loss_g,
            reconstruction=cycle,
            logits_real=logits_real,
            logits_fake=logits_fake,
            grad_norm_d=step_d.grad_norm,
            grad_norm_g=step_g.grad_norm,
        )

    def from_history(self, history: Tensor, fakes: Tensor) -> Tensor:
        """What a discriminator is shown instead of `fakes` (B, C, H, W): each itself, or with a chance of a half an
        older one of `history`, which it replaces (section 4, after Shrivastava et al. 2017).

        The history fills up first: with how many pictures it holds is a function of the clock. It is that of the global
        batch, the same on every process, which is why they agree on it.
        """
        if not len(history):
            return fakes
        fakes = fakes.float()
        everyones, chances = self._of_all_ranks(fakes), self._of_all_ranks(self.rand(len(fakes), 2)).tolist()
        held, shown = self.clock.images, []
        for i, (fake, (coin, place)) in enumerate(zip(everyones, chances, strict=True)):
            if held + i < len(history):
                history[held + i] = fake
                shown.append(fake)
            elif coin < 0.5:
                older = int(place * len(history))
                shown.append(history[older].clone())
                history[older] = fake
            else:
                shown.append(fake)
        first = self.global_rank * len(fakes)
        return torch.stack(shown[first : first + len(fakes)])

    def _of_all_ranks(self, rows: Tensor) -> Tensor:
        if self._world_size() == 1:
            return rows
        gathered: Tensor = self.all_gather(rows)  # (ranks, B, ...)
        return gathered.flatten(0, 1)

    def generate(self, latents: None, condition: dict[str, Tensor], direction: Literal["ab", "ba"] = "ab") -> Tensor:
        """Translations of `condition["a"]` to the other kind; with `direction` ba of `condition["b"]`."""
        return in_pieces(self.averaged(f"generator_{direction}"), condition[direction[0]], 16)


def distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean absolute difference, in float32."""
    return F.l1_loss(ours.float(), theirs.float())
