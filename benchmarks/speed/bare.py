"""Training loops as one would write them by hand and fast, of the networks of our models: `step.py` compares with them.

No Lightning, no records, no gradient norms, gradients only where they are needed. A loop starts from copies of a
model's networks and takes only those, its settings and the sums that its paper defines from it.
"""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from lightning_gen import execution, likelihood, losses
from lightning_gen.models.stylegan2 import MAPPING_RATE, MEAN_LENGTH, MEAN_STYLE


def mirror(images: Tensor, chosen: Tensor) -> Tensor:
    """The images (B, C, H, W) with those mirrored for which `chosen` (B,) is true."""
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


class BareLoop(ABC):
    """Shuffled batches, one update of each network, averages.

    Args:
        model: Of ours, before its first step.
        pixels: The data: (N, C, H, W) uint8 of each view.
        batch_size: Images of one step.
        precision: Lightning's word for it.
        seen: Images that the model has seen, by its clock.
    """

    trained: ClassVar[tuple[str, ...]] = ("generator", "discriminator")
    """Names of the networks."""
    fused: ClassVar[bool | None] = None
    """Whether Adam takes its step in one kernel; None leaves it to PyTorch, as most people do."""

    def __init__(self, model: Any, pixels: dict[str, np.ndarray], batch_size: int, precision: str, seen: int):
        # copies keep the memory format
        self.networks: dict[str, nn.Module] = {name: copy.deepcopy(getattr(model, name)) for name in self.trained}
        self.precision = {"32-true": None, "bf16-mixed": torch.bfloat16}[precision]
        if self.precision and model.device.type == "cpu":  # no choice of ours: penalties are wrong else
            for network in self.networks.values():
                execution.follow_penalties(network, "cpu")
        self.settings = settings = model.hparams
        self.halflife = getattr(settings, "ema_halflife_kimg", 0.0) * 1000
        averaged = [name for name in self.trained if hasattr(model, f"{name}_ema")]
        self.averages = {name: copy.deepcopy(self.networks[name]).requires_grad_(False) for name in averaged}
        self.device = model.device
        self.pixels = {view: torch.from_numpy(images) for view, images in pixels.items()}
        self.batch_size, self.seen = batch_size, seen
        self.critic_steps = model.critic_steps
        self.noise: torch.Generator | None = None
        self.batches = self.load()

    def adam(self, *names: str) -> torch.optim.Adam:
        """One optimizer of these networks."""
        parameters = itertools.chain(*(self.networks[name].parameters() for name in names))
        return torch.optim.Adam(parameters, self.settings.lr, self.settings.betas, fused=self.fused)

    def load(self) -> Iterator[dict[str, Tensor]]:
        """Batches for ever, floats in [-1, 1]."""
        while True:
            order = torch.randperm(len(next(iter(self.pixels.values()))))
            for rows in order.split(self.batch_size)[: len(order) // self.batch_size]:
                chosen = torch.rand(len(rows)) < 0.5
                yield {
                    view: mirror(images[rows], chosen).to(self.device).float().div_(127.5).sub_(1.0)
                    for view, images in self.pixels.items()
                }

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step(next(self.batches))

    def step(self, batch: dict[str, Tensor]) -> None:
        self.update(batch)
        images = len(next(iter(batch.values())))
        self.seen += images
        for name, average in self.averages.items():
            keep = 0.5 ** (images / min(self.halflife, 0.05 * self.seen))
            current = self.networks[name]
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(current.parameters()), 1 - keep)
                for mine, theirs in zip(average.buffers(), current.buffers(), strict=True):
                    mine.copy_(theirs)

    @abstractmethod
    def update(self, batch: dict[str, Tensor]) -> None:
        """One update of each network."""

    def autocast(self) -> torch.autocast:
        """Around the forward pass of one update, so that weights are cast once and kept for just that long."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision is not None)

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.device, generator=self.noise)

    def rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, device=self.device, generator=self.noise)


def take(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One update."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class Game(BareLoop):
    """A generator of latents against one discriminator."""

    def __init__(self, model: Any, *data: Any):
        super().__init__(model, *data)
        self.generator, self.discriminator = (self.networks[name] for name in self.trained)
        self.latent_dim = model.latent_dim
        self.opt_d, self.opt_g = self.adam("discriminator"), self.adam("generator")

    def update(self, batch: dict[str, Tensor]) -> None:
        for real in batch["image"].chunk(self.critic_steps):
            with self.autocast(), cached():  # of spectral norm: one power iteration an update
                with torch.no_grad():
                    fake = self.generated(len(real))
                loss_d = self.loss_d(real, fake)
            take(self.opt_d, loss_d)
        self.discriminator.requires_grad_(False)
        with self.autocast(), cached():
            loss_g = self.loss_g(self.judged(self.generated(len(real))))
        take(self.opt_g, loss_g)
        self.discriminator.requires_grad_(True)

    def generated(self, n: int) -> Tensor:
        return self.generator(self.randn(n, self.latent_dim))

    def judged(self, images: Tensor) -> Tensor:
        return self.discriminator(images)

    @abstractmethod
    def loss_d(self, real: Tensor, fake: Tensor) -> Tensor: ...

    @abstractmethod
    def loss_g(self, logits_fake: Tensor) -> Tensor: ...


class Penalised(Game):
    """With R1."""

    def loss_d(self, real: Tensor, fake: Tensor) -> Tensor:
        weight = self.penalty()
        real.requires_grad_(weight > 0)
        logits_real, logits_fake = self.judged_both(real, fake)
        loss = self.told_apart(logits_real, logits_fake)
        return loss + weight * losses.zero_centred_penalty(logits_real, real) if weight > 0 else loss

    def judged_both(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return self.judged(real), self.judged(fake)

    def penalty(self) -> float:
        """The weight of R1 in this update."""
        return float(self.settings.penalty)

    @abstractmethod
    def told_apart(self, logits_real: Tensor, logits_fake: Tensor) -> Tensor:
        """The discriminator's loss but for R1."""


class DCGAN(Penalised):
    def generated(self, n: int) -> Tensor:
        return self.generator(self.randn(n, self.latent_dim, 1, 1))

    def told_apart(self, logits_real: Tensor, logits_fake: Tensor) -> Tensor:
        return losses.minimax_d(logits_real, logits_fake)

    def loss_g(self, logits_fake: Tensor) -> Tensor:
        return losses.non_saturating_g(logits_fake)


class SNGAN(Penalised):
    def told_apart(self, logits_real: Tensor, logits_fake: Tensor) -> Tensor:
        return losses.hinge_d(logits_real, logits_fake)

    def loss_g(self, logits_fake: Tensor) -> Tensor:
        return losses.hinge_g(logits_fake)


class WGANGP(Game):
    def loss_d(self, real: Tensor, fake: Tensor) -> Tensor:
        loss = losses.wasserstein_d(self.judged(real), self.judged(fake))
        return loss + self.settings.penalty * losses.gradient_penalty(self.judged, real, fake, self.rand(len(real)))

    def loss_g(self, logits_fake: Tensor) -> Tensor:
        return losses.wasserstein_g(logits_fake)


class ProGAN(DCGAN):
    """With the loss of its preset `quick`, which is DCGAN's there."""

    def __init__(self, model: Any, *data: Any):
        super().__init__(model, *data)
        self.at = model.growth.at(self.seen)
        assert self.at == (model.growth.last_stage, 1.0)  # so the images need no shrinking and no blending
        self.updates = 0

    def generated(self, n: int) -> Tensor:
        return self.generator(self.randn(n, self.latent_dim), *self.at)

    def judged(self, images: Tensor) -> Tensor:
        return self.discriminator(images, *self.at)

    def judged_both(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        if real.requires_grad:
            return super().judged_both(real, fake)
        logits_real, logits_fake = self.discriminator(torch.cat([real, fake]), *self.at, batches=2).chunk(2)
        return logits_real, logits_fake

    def penalty(self) -> float:
        every, now = self.settings.penalty_every, self.updates
        self.updates += 1
        return float(self.settings.penalty * every) if now % every == 0 else 0.0


class StyleGAN2(BareLoop):
    """R1 and path length in steps of their own, every few updates."""

    def __init__(self, model: Any, *data: Any):
        super().__init__(model, *data)
        self.generator, self.discriminator = (self.networks[name] for name in self.trained)
        self.latent_dim, self.mean_length, self.updates = model.latent_dim, model.mean_length.clone(), 0
        settings, mapping = self.settings, list(self.generator.mapping.parameters())
        others = [p for name, p in self.generator.named_parameters() if not name.startswith("mapping.")]
        everything = [(list(self.discriminator.parameters()), 1.0)]
        self.opt_d = self.lazy_adam(everything, settings.penalty, settings.penalty_every)
        self.opt_g = self.lazy_adam(
            [(others, 1.0), (mapping, MAPPING_RATE)], settings.path_penalty, settings.path_every
        )

    def lazy_adam(self, groups: list[tuple[list[nn.Parameter], float]], weight: float, every: int) -> torch.optim.Adam:
        share = every / (every + 1) if weight > 0 else 1.0
        rates = [{"params": parameters, "lr": share * rate * self.settings.lr} for parameters, rate in groups]
        return torch.optim.Adam(rates, betas=tuple(beta**share for beta in self.settings.betas), fused=self.fused)

    def update(self, batch: dict[str, Tensor]) -> None:
        real, settings = batch["image"], self.settings
        self.generator.requires_grad_(False)
        with self.autocast():
            loss_d = losses.minimax_d(self.discriminator(real), self.discriminator(self.drawn(len(real))))
        take(self.opt_d, loss_d)
        if settings.penalty > 0 and self.updates % settings.penalty_every == 0:
            with self.autocast():
                real = real.detach().requires_grad_()
                slope = losses.zero_centred_penalty(self.discriminator(real), real)
            take(self.opt_d, settings.penalty * settings.penalty_every * slope)
        self.generator.requires_grad_(True)
        self.discriminator.requires_grad_(False)
        with self.autocast():
            loss_g = losses.non_saturating_g(self.discriminator(self.drawn(len(real), follow=True)))
        take(self.opt_g, loss_g)
        if settings.path_penalty > 0 and self.updates % settings.path_every == 0:
            with self.autocast(), execution.differentiated_twice(self.device.type):
                styles = self.styles((len(real) + 1) // 2)
                images = self.generator(styles, self.layer_noise(len(styles)))
                lengths = losses.path_lengths(images, styles, self.randn(*images.shape))
                self.mean_length.lerp_(lengths.detach().mean(), 1 - MEAN_LENGTH)
                deviation = (lengths - self.mean_length).square().mean()
            take(self.opt_g, settings.path_penalty * settings.path_every * deviation)
        self.discriminator.requires_grad_(True)
        self.updates += 1

    def drawn(self, n: int, follow: bool = False) -> Tensor:
        return self.generator(self.styles(n, follow), self.layer_noise(n))

    def layer_noise(self, n: int) -> list[Tensor]:
        return [self.randn(n, *shape) for shape in self.generator.noise_shapes()]

    def styles(self, n: int, follow: bool = False) -> Tensor:
        """Mixed: a random part of the layers takes a second one."""
        first, second = self.generator.styles(self.randn(2 * n, self.latent_dim)).unflatten(0, (n, 2)).unbind(1)
        if follow:
            self.generator.mean_style.lerp_(first.detach().float().mean(0), 1 - MEAN_STYLE)
        chance, place = self.rand(n, 2).unbind(1)
        layers = torch.arange(self.generator.num_styles, device=self.device)
        late = layers >= 1 + (place * (len(layers) - 1)).floor().view(-1, 1)
        late = late & (chance < self.settings.mixing).view(-1, 1)
        return torch.where(late.unsqueeze(2), second.unsqueeze(1), first.unsqueeze(1))


class Pix2Pix(BareLoop):
    def __init__(self, model: Any, *data: Any):
        super().__init__(model, *data)
        self.generator, self.discriminator = (self.networks[name] for name in self.trained)
        self.opt_d, self.opt_g = self.adam("discriminator"), self.adam("generator")

    def update(self, batch: dict[str, Tensor]) -> None:
        source, target = batch["source"], batch["target"]
        with self.autocast():
            fake = self.generator(source)
            logits_real, logits_fake = self.judged(source, target), self.judged(source, fake.detach())
            loss_d = losses.minimax_d(logits_real, logits_fake) / 2
        take(self.opt_d, loss_d)
        self.discriminator.requires_grad_(False)
        with self.autocast():
            loss_g = losses.non_saturating_g(self.judged(source, fake))
            loss_g = loss_g + self.settings.weight_l1 * F.l1_loss(fake.float(), target)
        take(self.opt_g, loss_g)
        self.discriminator.requires_grad_(True)

    def judged(self, source: Tensor, image: Tensor) -> Tensor:
        return self.discriminator(torch.cat([source, image.to(source.dtype)], dim=1))


class CycleGAN(BareLoop):
    trained = ("generator_ab", "generator_ba", "discriminator_a", "discriminator_b")

    def __init__(self, model: Any, *data: Any):
        super().__init__(model, *data)
        self.ab, self.ba, self.of_a, self.of_b = (self.networks[name] for name in self.trained)
        self.opt_g, self.opt_d = self.adam(*self.trained[:2]), self.adam(*self.trained[2:])
        self.histories = model.history_a.clone(), model.history_b.clone()

    def update(self, batch: dict[str, Tensor]) -> None:
        a, b, settings = batch["a"], batch["b"], self.settings
        self.of_a.requires_grad_(False)
        self.of_b.requires_grad_(False)
        with self.autocast():
            fake_b, fake_a = self.ab(a), self.ba(b)
            cycle = apart(self.ba(fake_b), a) + apart(self.ab(fake_a), b)
            loss = 2 * (losses.least_squares_g(self.of_b(fake_b)) + losses.least_squares_g(self.of_a(fake_a)))
            loss = loss + settings.weight_cycle * cycle
            if settings.weight_identity > 0:
                same = apart(self.ab(b), b) + apart(self.ba(a), a)
                loss = loss + settings.weight_cycle * settings.weight_identity * same
        take(self.opt_g, loss)
        self.of_a.requires_grad_(True)
        self.of_b.requires_grad_(True)
        with self.autocast():
            seen_a, seen_b = (self.older(i, fake.detach().float()) for i, fake in enumerate((fake_a, fake_b)))
            real, fake = (torch.cat([self.of_a(x), self.of_b(y)]) for x, y in ((a, b), (seen_a, seen_b)))
            loss = 2 * losses.least_squares_d(real, fake)
        take(self.opt_d, loss)

    def older(self, which: int, fakes: Tensor) -> Tensor:
        """Half of the pictures changed for older ones; the history is full."""
        history, shown = self.histories[which], []
        for fake, (coin, place) in zip(fakes, self.rand(len(fakes), 2).tolist(), strict=True):
            at = int(place * len(history))
            shown.append(history[at].clone() if coin < 0.5 else fake)
            if coin < 0.5:
                history[at] = fake
        return torch.stack(shown)


def apart(ours: Tensor, theirs: Tensor) -> Tensor:
    return F.l1_loss(ours.float(), theirs)


class VAE(BareLoop):
    """Gaussian likelihood, the whole KL."""

    trained = ("encoder", "decoder")

    def __init__(self, model: Any, *data: Any):
        super().__init__(model, *data)
        self.encoder, self.decoder = (self.networks[name] for name in self.trained)
        self.optimizer = self.adam(*self.trained)

    def update(self, batch: dict[str, Tensor]) -> None:
        with self.autocast():
            x = batch["image"]
            x = x + likelihood.LEVEL * (self.rand(*x.shape) - 0.5)
            mean, log_variance = self.encoder(x).float().chunk(2, dim=1)
            z = mean + (log_variance / 2).exp() * self.randn(*mean.shape)
            rebuilt = likelihood.gaussian(self.decoder(z), self.settings.sigma, x).mean()
            loss = likelihood.kl_to_standard_normal(mean, log_variance).mean() - rebuilt
        take(self.optimizer, loss)


BARE: dict[str, type[BareLoop]] = {
    "dcgan": DCGAN,
    "sngan": SNGAN,
    "wgan-gp": WGANGP,
    "progan": ProGAN,
    "stylegan2": StyleGAN2,
    "pix2pix": Pix2Pix,
    "cyclegan": CycleGAN,
    "vae": VAE,
}
