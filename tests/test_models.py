"""Every registered model keeps the contract, and has the size its paper's code has."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_gen import registry
from lightning_gen.data.module import RunData
from lightning_gen.errors import UserError
from lightning_gen.models import progan
from lightning_gen.models.dcgan import DCGAN
from lightning_gen.models.progan import Growth, ProGAN
from lightning_gen.models.stylegan2 import StyleGAN2
from lightning_gen.models.wgan import WGAN
from lightning_gen.module import GenerativeModule, StepOutput
from lightning_gen.testing import BATCH, _Outputs, _Pixels, check_model

PUBLISHED = {
    # model, settings: trainable parameters of (generator, discriminator), and where the numbers come from
    ("progan", "paper"): (23_079_115, 23_087_249),  # tkarras networks.py, all toRGB and fromRGB layers
    ("dcgan", "width 64"): (3_576_704, 2_765_568),  # pytorch/examples and lightning-bolts
    ("dcgan", "grey"): (3_574_656, 2_763_520),
    ("sngan", "paper"): (4_276_739, 1_053_825),  # mimicry sngan_32.py
    ("wgan-gp", "paper"): (1_204_483, 1_053_825),  # igul222 gan_cifar_resnet.py, unconditional, by hand
    ("cgan-projection", "paper"): (4_304_387, 1_055_105),  # mimicry cgan_pd_32.py, StudioGAN's log of SNGAN
    ("biggan", "paper"): (70_433_988, 87_982_370),  # StudioGAN's logs
    ("biggan", "paper-32"): (9_416_196, 2_415_170),
    ("stylegan2", "paper"): (30_370_060, 29_012_513),  # stylegan2-ada-pytorch, configuration F
    ("stylegan2", "256"): (24_767_458, 24_001_089),  # the same, its paper256
    ("r3gan", "paper"): (20_781_952, 21_280_512),  # the presets of R3GAN's train.py
    ("r3gan", "ffhq-256"): (23_057_952, 23_009_568),
    ("r3gan", "imagenet-64"): (103_570_432, 107_205_120),
}
IMAGENET_64 = {"image_shape": (3, 64, 64), "num_classes": 1000, "conditional": True}
SETTINGS = {
    "width 64": {},
    "grey": {"image_shape": (1, 64, 64)},
    "256": {"image_shape": (3, 256, 256), "width_base": 16384},
    "ffhq-256": {"image_shape": (3, 256, 256)},
    "imagenet-64": {**IMAGENET_64, "width": 1536, "width_base": 1536 * 64, "group_width": 32},
}


def trainable(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", registry.names("models"))
def test_a_registered_model_keeps_the_contract(name: str, precision: Literal["32-true", "bf16-mixed"]) -> None:
    check_model(name, precision)


IN_FP16 = ("dcgan", "stylegan2", "vae", "wgan-gp")
"""One of each way to step: two optimizers, a lazy penalty, Lightning's own loop, a penalty in every update."""


@pytest.mark.parametrize(
    "name", [*IN_FP16, *(pytest.param(n, marks=pytest.mark.full) for n in registry.names("models") if n not in IN_FP16)]
)
def test_a_registered_model_keeps_the_contract_in_fp16_under_a_loss_scaler(name: str) -> None:
    check_model(name, "16-mixed")


def fitted(model: GenerativeModule, steps: int) -> list[StepOutput]:
    """What each training step put out."""
    outputs = _Outputs()
    trainer = pl.Trainer(
        accelerator="cpu",
        precision="32-true",
        max_epochs=-1,
        max_steps=steps,
        logger=False,
        callbacks=[outputs],
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = RunData(_Pixels(model), BATCH, model.critic_steps, seed=0)
    model.examples = data.source.examples
    trainer.fit(model, datamodule=data)
    assert len(outputs.steps) == steps
    return outputs.steps


@pytest.mark.parametrize(("name", "settings"), PUBLISHED)
def test_parameter_counts_are_the_published_ones(name: str, settings: str) -> None:
    with torch.device("meta"):
        cls = registry.load(name)
        model = cls(**(cls.presets[settings] if settings in cls.presets else SETTINGS[settings]))
    assert (trainable(model.generator), trainable(model.discriminator)) == PUBLISHED[name, settings]


def test_the_dcgan_paper_preset_has_the_layers_of_figure_1() -> None:
    with torch.device("meta"):
        model = DCGAN(**DCGAN.presets["paper"])
        x, shapes = torch.empty(1, 100, 1, 1), []
        for layer in model.generator:
            x = layer(x)
            if isinstance(layer, torch.nn.ConvTranspose2d):
                shapes.append(tuple(x.shape[1:]))
    assert shapes == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]


@pytest.mark.parametrize("resolution", [4 << stage for stage in range(9)])
@pytest.mark.parametrize("channels", [1, 3])
def test_progan_makes_every_power_of_two_from_4_to_1024(resolution: int, channels: int) -> None:
    model = ProGAN(
        image_shape=(channels, resolution, resolution), latent_dim=4, width=4, width_base=64, stable_kimg=0, fade_kimg=0
    )
    assert model.sample(2).shape == (2, channels, resolution, resolution)
    last = model.growth.last_stage
    assert model.discriminator(model.sample(2), last, 1.0).shape == (2,)


@pytest.mark.parametrize("cls", [DCGAN, WGAN])
def test_a_refined_generator_makes_the_image_of_maps_of_its_own_size(cls: type[DCGAN] | type[WGAN]) -> None:
    with torch.device("meta"):
        generator = cls(image_shape=(3, 32, 32), latent_dim=16, width=32, refined=True).generator
        x, shapes = torch.empty(1, 16, 1, 1), []
        for layer in generator:
            x = layer(x)
            if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                shapes.append(tuple(x.shape[1:]))
    assert shapes == [(64, 4, 4), (64, 4, 4), (64, 8, 8), (64, 8, 8), (32, 16, 16), (16, 32, 32), (3, 32, 32)]


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_dcgan_makes_its_three_sizes(resolution: int, refined: bool) -> None:
    model = DCGAN(image_shape=(3, resolution, resolution), width=4, refined=refined)
    images = model.sample(2)
    assert images.shape == (2, 3, resolution, resolution)
    assert model.discriminator(images).shape == (2,)


@pytest.mark.parametrize("cls", [ProGAN, DCGAN])
@pytest.mark.parametrize("shape", [(3, 48, 48), (3, 2048, 2048), (3, 32, 64)])
def test_an_impossible_size_is_refused_in_one_line(cls: type, shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=f"not {shape[1]} x {shape[2]}"):
        cls(image_shape=shape)


@pytest.mark.parametrize("cls", [ProGAN, StyleGAN2])
def test_latents_of_one_number_are_refused_where_they_are_normalised(cls: type) -> None:
    with pytest.raises(UserError, match="latent_dim 2 or more"):
        cls(image_shape=(3, 32, 32), latent_dim=1, width=4)
    assert len(cls(image_shape=(3, 32, 32), latent_dim=2, width=4).sample(4).unique(dim=0)) == 4


def test_growth_is_continuous_ends_at_the_last_stage_and_never_shrinks() -> None:
    growth = Growth(last_stage=3, fade_kimg=2, stable_kimg=1)
    seen = [growth.at(images) for images in range(0, 14_000, 10)]
    sizes = [stage - 1 + alpha for stage, alpha in seen]
    assert seen[0] == (0, 1.0)
    assert seen[-1] == (3, 1.0)
    assert all(0 <= b - a < 0.02 for a, b in itertools.pairwise(sizes))
    assert {stage for stage, alpha in seen if alpha == 1.0} == {0, 1, 2, 3}


@pytest.mark.parametrize("norm", ["pixel", "batch"])
def test_fading_in_begins_where_the_smaller_network_was(norm: Literal["pixel", "batch"]) -> None:
    torch.manual_seed(0)
    model = ProGAN(image_shape=(3, 16, 16), latent_dim=8, width=8, width_base=64, norm=norm)
    z = torch.randn(4, 8)
    small = model.generator(z, 1, 1.0).repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(model.generator(z, 2, 1e-6), small, atol=1e-4, rtol=0)
    images = torch.rand(4, 3, 16, 16)
    shrunk = torch.nn.functional.avg_pool2d(images, 2)
    torch.testing.assert_close(
        model.discriminator(images, 2, 1e-6), model.discriminator(shrunk, 1, 1.0), atol=1e-4, rtol=0
    )


def test_progan_judges_batches_that_are_joined_as_each_by_itself() -> None:
    model = ProGAN(image_shape=(3, 8, 8), latent_dim=4, width=4)
    real, fake = torch.randn(6, 3, 8, 8), torch.randn(6, 3, 8, 8)  # groups of 4 and of 2 images
    both = model.discriminator(torch.cat([real, fake]), 1, 0.5, batches=2)
    apart = torch.cat([model.discriminator(images, 1, 0.5) for images in (real, fake)])
    torch.testing.assert_close(both, apart)
    assert not torch.allclose(model.discriminator(torch.cat([real, fake]), 1, 0.5), apart)


@pytest.mark.parametrize("loss", ["wasserstein", "non-saturating"])
def test_a_lazy_penalty_of_progan_is_due_every_so_many_updates_and_counts_for_all_of_them(
    loss: Literal["wasserstein", "non-saturating"], monkeypatch: pytest.MonkeyPatch
) -> None:
    due: list[Tensor] = []

    def watched(term: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*arguments: Any) -> Tensor:
            due.append(term(*arguments))
            return due[-1]

        return call

    def losses(penalty: float, every: int) -> list[Tensor]:
        due.clear()
        torch.manual_seed(0)
        model = ProGAN((3, 8, 8), 4, width=4, width_base=16, loss=loss, penalty=penalty, penalty_every=every)
        return [step["loss_d"] for step in fitted(model, 4)]

    for name in ("gradient_penalty", "zero_centred_penalty"):
        monkeypatch.setattr(progan, name, watched(getattr(progan, name)))
    lazy = losses(1.0, 3)
    assert len(due) == 2  # the first update and the fourth
    every = losses(3.0, 1)
    assert len(due) == 4
    torch.testing.assert_close(lazy[0], every[0])
    losses(0.0, 1)
    assert not due
