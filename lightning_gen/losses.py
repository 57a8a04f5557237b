"""Adversarial losses and penalties: pure functions of logits, computed in float32. None of them calls backward.

Logits are the raw outputs of a discriminator or critic, (B,) or (B, 1); every loss is a scalar. `_d` is what the
discriminator minimises, `_g` what the generator minimises.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def minimax_d(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))] with D = sigmoid(logits). Goodfellow et al. 2014, equation 1."""
    return F.softplus(-logits_real.float()).mean() + F.softplus(logits_fake.float()).mean()


def non_saturating_g(logits_fake: Tensor) -> Tensor:
    """-E[log D(G(z))]: the same fixed point as minimax, with a gradient early on. Goodfellow et al. 2014, section 3."""
    return F.softplus(-logits_fake.float()).mean()


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
    """E[||grad D(x)||^2] / 2 at the images themselves, R1 on real ones.

    Mescheder et al. 2018, equation 9, without its gamma.

    Args:
        logits: What the discriminator said of `images`.
        images: (B, ...), requiring gradients before the discriminator saw them.
    """
    (slope,) = torch.autograd.grad(logits.float().sum(), images, create_graph=True)
    return slope.float().flatten(1).square().sum(dim=1).mean() / 2
