"""Adversarial losses and penalties: functions of logits, computed in float32. None of them calls backward.

Logits are the raw outputs of a discriminator or critic, (B,) or (B, 1); every loss is a scalar. `_d` is what the
discriminator minimises, `_g` what the generator minimises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def minimax_d(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))] with D = sigmoid(logits). Goodfellow et al. 2014, equation 1."""
    return F.softplus(-logits_real.float()).mean() + F.softplus(logits_fake.float()).mean()


def minimax_g(logits_fake: Tensor) -> Tensor:
    """E[log(1 - D(G(z)))], the original game. Goodfellow et al. 2014, equation 1: it saturates where D is sure."""
    return -F.softplus(logits_fake.float()).mean()


def non_saturating_g(logits_fake: Tensor) -> Tensor:
    """-E[log D(G(z))]: the same fixed point as minimax, with a gradient early on. Goodfellow et al. 2014, section 3."""
    return F.softplus(-logits_fake.float()).mean()


def least_squares_d(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """E[(D(x) - 1)^2] / 2 + E[D(G(z))^2] / 2. Mao et al. 2017, equation 9 (real 1, fake 0)."""
    return ((logits_real.float() - 1).square().mean() + logits_fake.float().square().mean()) / 2


def least_squares_g(logits_fake: Tensor) -> Tensor:
    """E[(D(G(z)) - 1)^2] / 2. Mao et al. 2017, equation 9."""
    return (logits_fake.float() - 1).square().mean() / 2


def hinge_d(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]. Lim & Ye 2017; Miyato et al. 2018, equation 16."""
    return F.relu(1 - logits_real.float()).mean() + F.relu(1 + logits_fake.float()).mean()


def hinge_g(logits_fake: Tensor) -> Tensor:
    """-E[D(G(z))]. Miyato et al. 2018, equation 17."""
    return -logits_fake.float().mean()


def relativistic_d(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """E[f(D(G(z)) - D(x))] with f = softplus, over pairs of a real and a fake image.

    Jolicoeur-Martineau 2019, section 3.2; Huang et al. 2024 (R3GAN), equation 2.
    """
    return F.softplus(logits_fake.float() - logits_real.float()).mean()


def relativistic_g(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """The same with the roles changed: fakes shall look more real than their partners. Sources as `relativistic_d`."""
    return F.softplus(logits_real.float() - logits_fake.float()).mean()


def wasserstein_d(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """E[D(G(z))] - E[D(x)]. Arjovsky et al. 2017, algorithm 1, line 5."""
    return logits_fake.float().mean() - logits_real.float().mean()


def wasserstein_g(logits_fake: Tensor) -> Tensor:
    """-E[D(G(z))]. Arjovsky et al. 2017, algorithm 1, line 10."""
    return -logits_fake.float().mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """E[(||grad D(x^)|| - 1)^2] on lines between real and fake. Gulrajani et al. 2017, equation 3, without its lambda.

    Args:
        critic: Maps images to logits; each logit must depend on its own image alone (no batch norm).
        real: (B, ...) in [-1, 1].
        fake: As `real`.
        mix: Place on each line, (B,) in [0, 1]: 1 is the real image.
    """
    mix = mix.view(-1, *[1] * (real.dim() - 1))
    between = torch.lerp(fake.detach().to(real.dtype), real, mix).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).float().sum(), between, create_graph=True)
    return (slope.float().flatten(1).norm(dim=1) - 1).square().mean()


def drift(logits_real: Tensor) -> Tensor:
    """E[D(x)^2]: keeps the critic's output near zero. Karras et al. 2018, appendix A.1, without its epsilon."""
    return logits_real.float().square().mean()


def zero_centred_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """E[||grad D(x)||^2] / 2 at the images themselves: R1 on real ones, R2 on fake ones.

    Mescheder et al. 2018, equation 9, without its gamma.

    Args:
        logits: What the discriminator said of `images`.
        images: (B, ...), requiring gradients before the discriminator saw them.
    """
    (slope,) = torch.autograd.grad(logits.float().sum(), images, create_graph=True)
    return slope.float().flatten(1).square().sum(dim=1).mean() / 2


def perturbed(real: Tensor, where: Tensor) -> Tensor:
    """Images near the real ones, the other end of DRAGAN's lines: x + std(x) / 2 * u.

    `gradient_penalty(critic, real, perturbed(real, u), mix)` is then the penalty of Kodali et al. 2017, algorithm 1,
    with the slope 1 and the neighbourhood of its published code.

    Args:
        real: (B, ...) in [-1, 1].
        where: u, uniform in [0, 1), as `real`.
    """
    return real + real.float().std().to(real.dtype) / 2 * where


@torch.no_grad()
def clip_weights(critic: nn.Module, bound: float) -> None:
    """Every weight into [-bound, bound]. Arjovsky et al. 2017, algorithm 1, line 7."""
    for weight in critic.parameters():
        weight.clamp_(-bound, bound)


def path_lengths(images: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
    """|J_w^T y| of each image: how far it moves when its style does, (B,) float32.

    Karras et al. 2020 (StyleGAN2), equation 4; the penalty is the squared deviation from their running mean.

    Args:
        images: (B, C, H, W), made from `styles`.
        styles: (B, layers, D), or (B, D) where one style serves all layers; requiring gradients.
        noise: y, standard normal, as `images`; scaled here so that the length does not depend on the resolution.
    """
    height, width = images.shape[-2:]
    target = (images.float() * noise.float()).sum() / math.sqrt(height * width)
    (slope,) = torch.autograd.grad(target, styles, create_graph=True)
    squares = slope.float().square().sum(dim=-1)
    return squares.flatten(1).mean(dim=1).sqrt() if squares.dim() > 1 else squares.sqrt()


def lecam(logits_real: Tensor, logits_fake: Tensor, mean_real: Tensor, mean_fake: Tensor) -> Tensor:
    """E[(D(x) - a_F)^2] + E[(D(G(z)) - a_R)^2], against running means of the logits. Tseng et al. 2021, equation 4.

    Args:
        logits_real: D(x).
        logits_fake: D(G(z)).
        mean_real: a_R, running mean of D(x), a scalar without gradient.
        mean_fake: a_F, running mean of D(G(z)).
    """
    return (logits_real.float() - mean_fake).square().mean() + (logits_fake.float() - mean_real).square().mean()


def orthogonality(weights: Iterable[Tensor]) -> Tensor:
    """Sum over the weights W of ||W W^T * (1 - I)||_F^2: only the angles between filters count, not their lengths.

    Brock et al. 2019, equation 3, without its beta. Of the two Gram matrices the smaller is taken: where there are more
    filters than inputs, filters cannot all be orthogonal, but the inputs' columns can.

    Args:
        weights: (out, ...) each, of at least two dimensions.
    """
    total: Tensor | float = 0.0
    for weight in weights:
        rows = weight.float().flatten(1)
        with torch.autocast(rows.device.type, enabled=False):
            gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
        total = total + (gram - torch.diag(gram.diagonal())).square().sum()
    return torch.as_tensor(total)
