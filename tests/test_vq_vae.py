"""VQ-VAE: nearest codes, gradients that pass straight through, a prior that draws what it has learnt."""

from __future__ import annotations

import pytest
import torch

from lightning_gen import explicit
from lightning_gen.errors import UserError
from lightning_gen.models.vq_vae import VQVAE


def small(**settings: object) -> VQVAE:
    torch.manual_seed(0)
    own = {"image_shape": (1, 8, 8), "codes": 6, "code_dim": 3, "width": 8, "hidden": 4, "prior_width": 8}
    return VQVAE(**{**own, "prior_layers": 3, **settings})


def test_the_code_is_the_nearest_vector() -> None:
    model, z = small(), torch.randn(5, 3, 2, 2)
    distance = torch.cdist(z.movedim(1, -1).flatten(0, 2), model.codebook.weight)
    assert torch.equal(model.nearest(z).flatten(), distance.argmin(1))


def test_every_part_learns_from_its_own_term_alone() -> None:
    model = small()
    batch = {"image": torch.rand(4, 1, 8, 8) * 2 - 1}
    model.training_step(batch, 0)["kl"]
    z = model.encoder(batch["image"])
    codes = model.nearest(z)
    logits = model.prior(codes, None)
    gradients = torch.autograd.grad(
        logits.sum(), [model.codebook.weight, *model.encoder.parameters()], allow_unused=True
    )
    assert all(gradient is None for gradient in gradients)
    model.training_step(batch, 0)["loss"].backward()
    for part in (model.encoder, model.decoder, model.codebook, model.prior):
        assert all(weights.grad is not None for weights in part.parameters())


def test_reconstruction_goes_through_codes_and_sampling_through_the_prior() -> None:
    model, images = small().eval(), torch.rand(3, 1, 8, 8) * 2 - 1
    with torch.no_grad():
        codes = model.encode(images)
        assert (codes.shape, codes.dtype) == ((3, 1, 2, 2), torch.int64)
        assert model.decode(codes).shape == images.shape
    drawn = model.prior.draw(model.latents(3, seed=0, start=0), None)
    assert torch.equal(model.sample(3), model.decode(drawn))


def test_a_learnt_prior_draws_the_codes_it_was_shown() -> None:
    prior = small().prior
    shown = torch.tensor([[[[1, 2], [3, 4]]], [[[5, 0], [5, 0]]]])
    optimizer = torch.optim.Adam(prior.parameters(), 0.02)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(prior(shown, None).transpose(1, 2), shown)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = prior.draw(torch.rand(200, 1, 2, 2), None).flatten(1).tolist()
    known = [row in shown.flatten(1).tolist() for row in drawn]
    assert sum(known) > 180
    assert 60 < sum(row[0] == 1 for row in drawn) < 140


def test_use_of_the_codebook_is_counted() -> None:
    told = explicit.used(torch.tensor([[0, 0], [3, 3]]))
    assert told == {"active_codes": 2, "perplexity": pytest.approx(2)}


def test_sides_that_cannot_be_quartered_are_refused() -> None:
    with pytest.raises(UserError, match="divisible by 4"):
        small(image_shape=(1, 10, 10))
