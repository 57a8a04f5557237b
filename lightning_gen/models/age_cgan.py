"""One generator for translations between many groups, such as ages.

After StarGAN (Choi, Choi, Kim, Ha, Kim, Choo, CVPR 2018, https://arxiv.org/abs/1711.09020; original code
https://github.com/yunjey/stargan) with the discriminator of StarGAN v2 (Choi, Uh, Yoo, Ha, CVPR 2020,
https://arxiv.org/abs/1912.01865; original code https://github.com/clovaai/stargan-v2).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lightning_gen import noise
from lightning_gen.errors import UserError, without_labels
from lightning_gen.losses import minimax_d, non_saturating_g, zero_centred_penalty
from lightning_gen.module import Decay, GenerativeModule, StepOutput


class GroupNormed(nn.Module):
    """A convolution, then instance norm whose scale and shift are the group's own (Dumoulin et al. 2017, equation 5).

    Pictures (B, ins, H, W) and groups (B,) to maps (B, outs, H', W').
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, num_groups: int):
        super().__init__()
        self.conv = conv
        self.norm = nn.InstanceNorm2d(conv.out_channels)
        self.scale, self.shift = (nn.Embedding(num_groups, conv.out_channels) for _ in range(2))
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, group: Tensor) -> Tensor:
        scale, shift = self.scale(group)[:, :, None, None], self.shift(group)[:, :, None, None]
        return self.norm(self.conv(x)) * scale + shift


class Generator(nn.Module):
    """StarGAN's table 4: two halvings, residual blocks, two doublings; pictures (B, C, H, W) in [-1, 1] and the groups
    (B,) that they shall be of, to pictures of the same shape, about in the same range.

    What it draws is the change (Shen and Liu 2017, section 3.1): nothing at first, so a face is kept from the first
    picture on, and its details need not pass through the halvings.
    """

    def __init__(self, channels: int, num_groups: int, width: int, blocks: int):
        super().__init__()

        def conv(ins: int, outs: int, kernel: int, stride: int = 1) -> GroupNormed:
            padding = (kernel - stride + 1) // 2
            return GroupNormed(nn.Conv2d(ins, outs, kernel, stride, padding, bias=False), num_groups)

        # no norm: it would take away how light the picture is as a whole
        self.first = nn.Conv2d(channels, width, 7, padding=3)
        self.down = nn.ModuleList([conv(width, 2 * width, 4, 2), conv(2 * width, 4 * width, 4, 2)])
        self.blocks = nn.ModuleList(
            nn.ModuleList([conv(4 * width, 4 * width, 3), conv(4 * width, 4 * width, 3)]) for _ in range(blocks)
        )
        self.up = nn.ModuleList([conv(4 * width, 2 * width, 3), conv(2 * width, width, 3)])
        self.last = nn.Conv2d(width, channels, 7, padding=3)
        for weight in self.last.parameters():
            nn.init.zeros_(weight)

    def forward(self, pictures: Tensor, group: Tensor) -> Tensor:
        x = F.relu(self.first(pictures))
        for layer in self.down:
            x = F.relu(layer(x, group))
        for pair in self.blocks:
            first, second = pair.children()
            x = x + second(F.relu(first(x, group)), group)
        for layer in self.up:
            # enlarged, then convolved: transposed convolutions left a checked pattern, which passed for wrinkles
            x = F.relu(layer(F.interpolate(x, scale_factor=2.0, mode="nearest"), group))
        return pictures + self.last(x)


class Discriminator(nn.Module):
    """Halvings down to 2 pixels a side; pictures (B, C, R, R) and groups (B,) -> logits (B,), whether each is a real
    picture of its group: one branch for each group (StarGAN v2, section 3.1). No norm: the gradient penalty is one of
    each picture alone."""

    def __init__(self, channels: int, resolution: int, num_groups: int, width: int):
        super().__init__()
        layers: list[nn.Module] = []
        ins = channels
        for depth in range(int(math.log2(resolution)) - 1):
            layers += [nn.Conv2d(ins, width << depth, 4, 2, 1), nn.LeakyReLU(0.2)]
            ins = width << depth
        self.trunk = nn.Sequential(*layers)
        self.branches = nn.Conv2d(ins, num_groups, 2)

    def forward(self, pictures: Tensor, group: Tensor) -> Tensor:
        return self.branches(self.trunk(pictures)).flatten(1).gather(1, group[:, None]).squeeze(1)


class AgeCGAN(GenerativeModule):
    """A picture as it would be in another group, such as a face at another age; without pairs.

    The discriminator has a branch for each group that tells its real pictures from what was translated to it. What
    keeps the person is the way back: the translation, brought back to the group it came from, must be the picture that
    it was; and that the generator begins with no change at all, so it has no reason for a detour such as negatives.

    Differences from StarGAN: the discriminator, its loss and R1 are StarGAN v2's, for with a classifier of groups
    beside it the generator learned patterns that please the classifier and age nobody; the group enters by conditional
    instance norm in every layer but the first, not as planes beside the picture; the generator draws the change;
    doublings are enlargements followed by a convolution; training asks for all groups alike. Differences from StarGAN
    v2 (Choi et al. 2020): one look a group, so no mapping network, style encoder and diversity loss; plain convolutions
    in the discriminator.

    Args:
        image_shape: (channels, height, width); square, a power of two from 16 pixels.
        num_classes: Number of groups; the data says it.
        width: Feature maps of the generator's first layer.
        discriminator_width: The same of the discriminator; they double with every halving.
        blocks: Residual blocks of the generator.
        weight_cycle: Weight of the L1 distance between a picture and what comes back (StarGAN v2, equation 4).
        penalty: Weight of the zero-centred gradient penalty on real pictures (R1).
        lr: Learning rate of both networks.
        betas: Adam's decay rates.
        ema_halflife_kimg: Half-life of the averaged generator in thousands of images; 0 keeps no average.
    """

    paper = (
        "Choi et al. 2018, StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image "
        "Translation, https://arxiv.org/abs/1711.09020"
    )
    usual_data = "groups"
    translates = True  # one view: which pictures are of which group the label says
    stride = 4
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"image_shape": (3, 128, 128), "num_classes": 5},
        "quick": {
            "image_shape": (3, 32, 32),
            "num_classes": 8,
            "width": 16,
            "discriminator_width": 16,
            "blocks": 2,
            "lr": 5e-4,
            "ema_halflife_kimg": 2.0,
        },
    }
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"kimg": 3200, "data.batch_size": 16, "data.flip": True, "update.lr_decay": 0.5},
        "quick": {"kimg": 40, "data.batch_size": 16, "update.lr_decay": 0.5},
    }
    checked: ClassVar[dict[str, Any]] = {"width": 4, "discriminator_width": 4, "blocks": 1}

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (3, 128, 128),
        num_classes: NonNegativeInt = 5,
        width: PositiveInt = 64,
        discriminator_width: PositiveInt = 64,
        blocks: PositiveInt = 6,
        weight_cycle: NonNegativeFloat = 1.0,
        penalty: NonNegativeFloat = 1.0,
        lr: PositiveFloat = 1e-4,
        betas: tuple[Decay, Decay] = (0.0, 0.99),
        ema_halflife_kimg: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        channels, height, resolution = self.image_shape = self.input_shape = tuple(image_shape)
        if height != resolution or resolution < 16 or resolution & (resolution - 1):
            raise UserError(
                f"age-cgan makes square images of a power of two from 16 pixels, not {height} x {resolution}"
            )
        if num_classes == 0:
            raise without_labels("age-cgan")
        self.num_classes = num_classes
        self.generator = Generator(channels, num_classes, width, blocks)
        self.discriminator = Discriminator(channels, resolution, num_classes, discriminator_width)
        self.average("generator", ema_halflife_kimg)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(network.parameters(), self.hparams.lr, self.hparams.betas)
            for network in (self.discriminator, self.generator)
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> StepOutput:
        opt_d, opt_g = self.optimizers()
        weights = self.hparams
        images, labels = batch["image"], batch["label"]
        goals = (self.rand(len(labels)) * self.num_classes).long().clamp_max(self.num_classes - 1)
        with self.update(opt_d) as step_d:
            for real, own, asked in step_d.parts(images, labels, goals):
                with torch.no_grad():
                    fake = self.generator(real, asked)
                real.requires_grad_(weights.penalty > 0)
                logits_real = self.discriminator(self.augmented(real), own)
                logits_fake = self.discriminator(self.augmented(fake), asked)
                loss_d = minimax_d(logits_real, logits_fake)
                if weights.penalty > 0:
                    loss_d = loss_d + weights.penalty * zero_centred_penalty(logits_real, real)
                step_d.backward(loss_d)
        with self.update(opt_g) as step_g:
            for real, own, asked in step_g.parts(images, labels, goals):
                fake = self.generator(real, asked)
                logits = self.discriminator(self.augmented(fake), asked)
                cycle = F.l1_loss(self.generator(fake, own).float(), real.float())
                loss_g = non_saturating_g(logits) + weights.weight_cycle * cycle
                step_g.backward(loss_g)
        return self.step_output(
            len(images),
            loss_d=loss_d,
            loss_g=loss_g,
            reconstruction=cycle,
            logits_real=logits_real,
            logits_fake=logits_fake,
            grad_norm_d=step_d.grad_norm,
            grad_norm_g=step_g.grad_norm,
        )

    def conditions(self, n: int, *, seed: int, start: int) -> dict[str, Any]:
        """The pictures of the data's rows of these numbers, and for each a group drawn from (seed, i), all alike."""
        pictures = super().conditions(n, seed=seed, start=start)
        assert pictures is not None
        asked = noise.uniform(n, seed=noise.mix(seed, 1), start=start) * self.num_classes
        return {**pictures, "label": asked.long().clamp_max(self.num_classes - 1)}

    def generate(self, latents: None, condition: dict[str, Tensor]) -> Tensor:
        """`condition["image"]` as pictures of the groups `condition["label"]`."""
        if "image" not in condition:
            raise UserError("age-cgan draws no pictures of its own: `lgen translate --to GROUP` takes yours")
        return self.averaged("generator")(condition["image"], condition["label"]).clamp(-1.0, 1.0)
