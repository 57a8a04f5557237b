"""Autoencoders: closed forms of their losses, bounds that bound, and what a run says of its likelihood."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from lightning_gen import explicit, likelihood, registry, scoring
from lightning_gen.cli import main
from lightning_gen.errors import UserError
from lightning_gen.models.ae import AE, DenoisingAE
from lightning_gen.models.vae import VAE, BetaVAE


def small(cls: type = VAE, **settings: object) -> VAE:
    torch.manual_seed(0)
    return cls(**{"image_shape": (1, 8, 8), "latent_dim": 3, "widths": (4,), "hidden": (8,), **settings})


def test_the_kl_has_its_closed_form() -> None:
    mean, log_variance = torch.randn(5, 4), torch.randn(5, 4)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(likelihood.kl_to_standard_normal(mean, log_variance), expected)


def test_the_densities_are_those_of_torch() -> None:
    x, mean, logits = torch.randn(3, 2, 4), torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    normal = torch.distributions.Normal(mean, 0.3).log_prob(x).sum((1, 2))
    torch.testing.assert_close(likelihood.gaussian(mean, 0.3, x), normal)
    bits = (x > 0).float()
    coins = torch.distributions.Bernoulli(logits=logits).log_prob(bits).sum((1, 2))
    torch.testing.assert_close(likelihood.bernoulli(logits, bits), coins)
    assert likelihood.bits_per_dimension(8 * math.log(2) * 12, 12) == pytest.approx(8)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
def test_the_elbo_is_below_the_importance_weighted_bound_which_tightens(kind: str) -> None:
    model = small(likelihood=kind)
    with torch.no_grad():
        for weights in model.decoder.parameters():
            weights *= 4  # so that latents matter
    batch = {"image": torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)}
    bounds = []
    for draws in (1, 8, 64):
        found = model.score_images(batch, samples=draws)
        assert (found["elbo"] <= -found["nll"] + 1e-3).all()
        bounds.append(-found["nll"].mean())
    assert bounds[0] < bounds[1] < bounds[2]


def test_the_estimate_is_the_likelihood_where_that_is_known() -> None:
    model = small(likelihood="gaussian", sigma=0.5, widths=(), hidden=(), latent_dim=2)
    batch = {"image": torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8)}
    linear = model.decoder[0]  # a linear decoder of a normal latent makes a normal image (probabilistic PCA)
    with torch.no_grad():
        linear.weight *= 0.2
        for layer in model.encoder.parameters():
            layer.zero_()
    covariance = linear.weight @ linear.weight.T + 0.25 * torch.eye(64)
    exact = torch.distributions.MultivariateNormal(linear.bias.detach(), covariance.detach())
    x = batch["image"].flatten(1) / 127.5 - 1
    found = -model.score_images(batch, samples=2000)["nll"]
    torch.testing.assert_close(
        found.mean(), (exact.log_prob(x) + 64 * math.log(likelihood.LEVEL)).mean(), atol=0.1, rtol=0
    )


def test_scoring_is_a_function_of_seed_and_leaves_training_alone() -> None:
    model, batch = small(), {"image": torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)}
    state, model.training = torch.get_rng_state(), True
    first, again, other = (model.score_images(batch, seed=seed)["nll"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


def test_the_weight_of_the_kl_warms_up_with_the_clock() -> None:
    model = small(BetaVAE, kl_weight=4.0, kl_warmup_kimg=2.0)
    weights = []
    for images in (0, 1000, 2000, 9000):
        model.clock.images = images
        weights.append(model.c)
    assert weights == [0, 2, 4, 4]


def test_beta_vae_differs_from_vae_by_its_default_weight_alone() -> None:
    vae, beta = small(kl_weight=4.0, likelihood="gaussian"), small(BetaVAE)
    batch = {"image": torch.rand(4, 1, 8, 8) * 2 - 1}
    losses = []
    for model in (vae, beta):
        model.clock.images = 10**9
        model._name_noise(0)
        losses.append(model.training_step(batch, 0)["loss"])
    assert torch.equal(*losses)


def test_samples_of_an_autoencoder_have_the_moments_of_its_codes() -> None:
    model = AE(image_shape=(1, 8, 8), latent_dim=2, hidden=(4,))
    covariance, mean = torch.tensor([[2.0, 1.0], [1.0, 1.0]]), torch.tensor([3.0, -1.0])
    model.code_mean, model.code_square = mean, covariance + mean.outer(mean)
    drawn = model.latents(4000, seed=0, start=0)
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.1, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), covariance, atol=0.15, rtol=0)
    assert torch.equal(model.latents(1, seed=0, start=3999)[0], drawn[3999])


def test_the_moments_follow_the_codes() -> None:
    model = AE(image_shape=(1, 8, 8), latent_dim=2, hidden=(4,))
    for _ in range(200):
        model.remember(torch.randn(64, 2) * torch.tensor([1.0, 3.0]) + 5)
        model.clock.advance(64)
    torch.testing.assert_close(model.code_mean, torch.tensor([5.0, 5.0]), atol=0.3, rtol=0)
    variance = model.code_square.diag() - model.code_mean.square()
    torch.testing.assert_close(variance, torch.tensor([1.0, 9.0]), atol=1.0, rtol=0)


def test_only_the_input_of_a_denoising_autoencoder_is_corrupted() -> None:
    model = DenoisingAE(image_shape=(3, 8, 8), latent_dim=2, hidden=(4,), masked=0.5)
    images = torch.rand(50, 3, 8, 8)
    seen = model.shown(images)
    black = (seen == -1).all(1)
    assert 0.4 < black.float().mean() < 0.6
    assert torch.equal(seen.movedim(1, -1)[~black], images.movedim(1, -1)[~black])
    assert torch.equal(model.encode(images), model.encoder(images))


def test_sides_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(UserError, match="3 halvings"):
        VAE(image_shape=(1, 28, 28), widths=(4, 4, 4))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "vae"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        arguments = ["--model", "vae", "--preset", "quick", "--model.widths", "[4]", "--model.hidden", "[8]"]
        arguments += ["--model.ema_halflife_kimg", "0.01", "--data.size", "64", "--data.batch_size", "16"]
        arguments += [
            "--kimg",
            "0.064",
            "--log.every_kimg",
            "0.016",
            "--metrics.every_kimg",
            "0",
            "--logger",
            "none",
            "--out",
            str(folder),
        ]
        done = CliRunner().invoke(main, ["fit", *arguments])
        assert done.exit_code == 0, done.output
    return folder


def test_a_run_logs_the_parts_of_its_loss_and_the_gradient(run: Path) -> None:
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"loss", "reconstruction", "kl", "grad_norm", "images_per_second"} <= last.keys()
    assert last["grad_norm"] > 0


def test_evaluate_gives_bits_and_bounds_with_a_passport(run: Path) -> None:
    asked = ["evaluate", str(run), "--metrics", "bpd,reconstruction,active-units", "--n", "32", "--draws", "2"]
    done = CliRunner().invoke(main, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    scores = told["scores"]
    assert scores["bpd"] == pytest.approx(scores["nll"] / (3072 * math.log(2)))
    assert scores["elbo"] <= -scores["nll"]
    assert {"mse", "psnr", "active_units"} <= scores.keys()
    assert told["passport"]["split"] == "test"
    assert told["passport"]["settings"] == {"bpd.draws": 2, "bpd.levels": 256}
    assert "lightning-gen" in told["passport"]["libraries"]  # whose model it is


def test_evaluate_computes_on_a_gpu_where_there_is_one_as_its_help_says(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(scoring, "default_device", lambda: "the first GPU")
    monkeypatch.setattr(explicit, "score", lambda *_, device, **__: asked.append(device) or sys.exit(0))
    done = CliRunner().invoke(main, ["evaluate", str(run), "--metrics", "bpd"])
    assert (done.exit_code, asked) == (0, ["the first GPU"]), done.output


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ("bpd,fid", "ask for them apart"),
        ("bdp", "unknown metric 'bdp'"),
        ("bpd", "--n 1,000,000: there are only "),
    ],
)
def test_a_mistake_is_one_line(run: Path, metrics: str, said: str) -> None:
    done = CliRunner().invoke(main, ["evaluate", str(run), "--metrics", metrics, "--n", "1000000"])
    assert (done.exit_code, said in done.output) == (2, True), done.output


def test_a_model_without_a_density_says_so(tmp_path: Path) -> None:
    model = registry.load("gan")(image_shape=(3, 32, 32))
    with pytest.raises(UserError, match="no likelihood"):
        model.score_images({"image": torch.zeros(1, 3, 32, 32, dtype=torch.uint8)})
