"""The GANs of 2014 to 2017: each against the formula, the table or the sentence of its paper."""

from __future__ import annotations

import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

from lightning_gen import experiment, launch, registry, settings
from lightning_gen.data.module import RunData
from lightning_gen.data.points import Points
from lightning_gen.data.shapes import Shapes
from lightning_gen.data.source import Source
from lightning_gen.errors import UserError
from lightning_gen.layers import Maxout
from lightning_gen.losses import clip_weights
from lightning_gen.models.acgan import ACGAN
from lightning_gen.models.cgan import CGAN
from lightning_gen.models.gan import GAN
from lightning_gen.models.infogan import Codes, InfoGAN, information
from lightning_gen.models.lsgan import LSGAN
from lightning_gen.models.wgan import WGAN
from lightning_gen.module import GenerativeModule

PUBLISHED = {
    # trainable parameters of the paper's networks, by hand from the layers that it lists
    "gan": (100 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 784 + 784, 784 * 1200 + 1200 + 240 * 1200 + 1200 + 241),
    "cgan": (
        (100 + 1) * 200 + (10 + 1) * 1000 + (1200 + 1) * 1200 + (1200 + 1) * 784,
        (784 + 1) * 240 * 5 + (10 + 1) * 50 * 5 + (290 + 1) * 240 * 4 + 241,
    ),
    "wgan": (3_576_704, 2_765_568),  # DCGAN's
    "infogan": (
        (74 + 1) * 1024 + 2 * 1024 + (1024 + 1) * 6272 + 2 * 6272 + (128 * 16 + 1) * 64 + 2 * 64 + 64 * 16 + 1,
        (16 + 1) * 64
        + (64 * 16 + 1) * 128
        + 2 * 128
        + (6272 + 1) * 1024
        + 2 * 1024
        + (1024 + 1)
        + (1024 + 1) * 128
        + 2 * 128
        + (128 + 1) * 12,
    ),
    # biases before batch norm, whose scale and shift are two numbers a map; figure 1
    "lsgan": (
        (1024 + 1) * 12544 + 2 * 256 + 4 * (256 * 9 * 256 + 3 * 256) + (256 * 9 + 3) * 128 + (128 * 9 + 3) * 64
        + (64 * 9 + 1) * 3,
        (3 * 25 + 1) * 64 + (64 * 25 + 3) * 128 + (128 * 25 + 3) * 256 + (256 * 25 + 3) * 512 + (512 * 7 * 7 + 1),
    ),
    # the same; table 2
    "acgan": (
        (110 + 1) * 6144 + (384 * 25 + 3) * 192 + (192 * 25 + 3) * 96 + (96 * 25 + 1) * 3,
        (3 * 9 + 1) * 16
        + sum((9 * narrow + 3) * 2 * narrow for narrow in (16, 32, 64, 128, 256))
        + (512 * 4 * 4 + 1) * (1 + 10),
    ),
}  # fmt: skip

SMALL: dict[type[GenerativeModule], dict[str, Any]] = {
    GAN: {"image_shape": (3, 8, 8), "latent_dim": 4, "width": 12, "discriminator_width": 6},
    CGAN: {"image_shape": (3, 8, 8), "num_classes": 6, "latent_dim": 4, "width": 12, "discriminator_width": 6},
    LSGAN: {"image_shape": (3, 32, 32), "latent_dim": 4, "width": 2},
    WGAN: {"image_shape": (3, 32, 32), "latent_dim": 4, "width": 2},
    ACGAN: {"image_shape": (3, 32, 32), "num_classes": 6, "latent_dim": 4, "width": 4, "discriminator_width": 2},
    InfoGAN: {"image_shape": (3, 16, 16), "noise_dim": 4, "categories": 3, "width": 4},
}


def small(cls: type[GenerativeModule], **more: Any) -> Any:
    torch.manual_seed(0)
    return cls(**{**SMALL[cls], **more})


def train(model: GenerativeModule, source: Source, steps: int, batch_size: int = 12) -> Any:
    """The model after some steps, and what the last one returned."""

    class Last(pl.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.outputs = outputs

    last = Last()
    with launch.quiet():
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=-1,
            max_steps=steps,
            logger=False,
            callbacks=[last],
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, datamodule=RunData(source, batch_size, model.critic_steps, seed=0))
    return last.outputs


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_paper_preset_has_the_paper_s_layers(name: str) -> None:
    cls = registry.load(name)
    with torch.device("meta"):
        model = cls(**cls.presets["paper"])
    networks = (model.generator, model.discriminator)
    counts = tuple(sum(p.numel() for p in network.parameters()) for network in networks)
    assert counts == PUBLISHED[name]


def test_the_lsgan_paper_preset_has_the_maps_of_figure_1() -> None:
    with torch.device("meta"):
        model = LSGAN(**LSGAN.presets["paper"])
        x, maps = torch.empty(1, 1024), []
        for layer in model.generator:
            x = layer(x)
            if isinstance(layer, nn.Unflatten | nn.ConvTranspose2d):
                maps.append((x.shape[1], x.shape[2]))
        assert maps == [(256, 7), (256, 14), (256, 14), (256, 28), (256, 28), (128, 56), (64, 112), (3, 112)]
        maps = []
        for layer in model.discriminator:
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                maps.append((x.shape[1], x.shape[2]))
        assert maps == [(64, 56), (128, 28), (256, 14), (512, 7)]


def test_the_acgan_paper_preset_has_the_layers_of_table_2() -> None:
    with torch.device("meta"):
        model = ACGAN(**ACGAN.presets["paper"])
    deconvs = [m for m in model.generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(d.in_channels, d.out_channels, d.kernel_size[0]) for d in deconvs] == [
        (384, 192, 5), (192, 96, 5), (96, 3, 5)
    ]  # fmt: skip
    convs = [m for m in model.discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.stride[0]) for c in convs] == [(16, 2), (32, 1), (64, 2), (128, 1), (256, 2), (512, 1)]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.discriminator.modules()) == 5
    assert model.generator.layers[0].in_features == 110


@pytest.mark.parametrize(
    ("cls", "sizes"),
    [(LSGAN, (32, 64, 112, 128)), (WGAN, (32, 64, 128)), (ACGAN, (24, 32, 64)), (InfoGAN, (16, 28, 32, 64))],
)
def test_a_model_makes_the_sizes_that_it_names(cls: type[GenerativeModule], sizes: tuple[int, ...]) -> None:
    for size in sizes:
        model = small(cls, image_shape=(1, size, size))
        assert model.sample(2).shape == (2, 1, size, size)


def test_a_refined_infogan_makes_the_image_of_maps_of_its_own_size() -> None:
    convs = [m for m in small(InfoGAN, refined=True).generator if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    widths = [(conv.in_channels, conv.out_channels, conv.stride[0]) for conv in convs]
    assert widths == [(8, 8, 1), (8, 4, 2), (4, 4, 1), (4, 2, 2), (2, 3, 1)]
    assert small(InfoGAN, refined=True, width=1, image_shape=(1, 28, 28)).sample(2).shape == (2, 1, 28, 28)


def test_a_refined_acgan_repeats_pixels_in_place_of_strided_layers() -> None:
    generator = small(ACGAN, refined=True).generator
    assert not any(isinstance(m, nn.ConvTranspose2d) for m in generator.modules())
    widths = [(m.in_channels, m.out_channels) for m in generator.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [(16, 16), (16, 8), (8, 8), (8, 4), (4, 4), (4, 2), (2, 3)]
    assert small(ACGAN, refined=True, width=1, image_shape=(1, 24, 24)).sample(2).shape == (2, 1, 24, 24)


@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 28, 28), (3, 5, 9)])
def test_fully_connected_models_make_any_shape(shape: tuple[int, int, int]) -> None:
    for cls in (GAN, CGAN):
        assert small(cls, image_shape=shape).sample(3).shape == (3, *shape)


@pytest.mark.parametrize("cls", [LSGAN, WGAN, ACGAN, InfoGAN])
@pytest.mark.parametrize("shape", [(3, 50, 50), (3, 256, 256), (3, 32, 64), (2, 1, 1)])
def test_an_impossible_size_is_refused_in_one_line(cls: type[GenerativeModule], shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=f"not {shape[1]} x {shape[2]}"):
        cls(image_shape=shape)


@pytest.mark.parametrize("cls", [CGAN, ACGAN])
def test_a_conditional_model_refuses_data_without_labels(cls: type[GenerativeModule]) -> None:
    with pytest.raises(UserError, match="no labels"):
        cls(num_classes=0)


@pytest.mark.parametrize("name", ["cgan", "acgan"])
def test_the_data_say_how_many_classes_there_are(name: str) -> None:
    resolved = settings.resolve(model=name, data="shapes")
    assert experiment.build_model(resolved, Shapes()).num_classes == 48
    wrong = settings.resolve(["--model.num_classes", "7"], model=name, data="shapes", preset="quick")
    with pytest.raises(UserError, match="num_classes 7 does not match"):
        experiment.build_model(wrong, Shapes())


@pytest.mark.parametrize(
    ("model", "setting"),
    [("wgan", "clip=0"), ("acgan", "dropout=1"), ("infogan", "information=-1"), ("gan", "loss=hinge"), ("gan", "lr=0")],
)
def test_a_setting_out_of_range_is_refused(model: str, setting: str) -> None:
    with pytest.raises(UserError, match=f"--model.{setting.split('=')[0]}"):
        settings.resolve([f"--model.{setting}"], model=model)


def test_maxout_is_the_largest_of_its_pieces() -> None:
    torch.manual_seed(0)
    layer, x = Maxout(4, 3, pieces=5), torch.randn(6, 4)
    weight, bias = layer.linear.weight.view(3, 5, 4), layer.linear.bias.view(3, 5)
    expected = torch.stack([(x @ weight[:, piece].T + bias[:, piece]) for piece in range(5)]).max(0).values
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("cls", [CGAN, ACGAN])
def test_the_label_changes_the_image_and_nothing_else_does(cls: type[GenerativeModule]) -> None:
    model = small(cls)
    zeros, ones = ({"label": torch.full((5,), label)} for label in (0, 1))
    a, b = model.sample(5, condition=zeros), model.sample(5, condition=ones)
    assert ((a - b).abs().amax(dim=(1, 2, 3)) > 1e-5).all()
    mixed = model.sample(5, condition={"label": torch.tensor([0, 1, 0, 1, 0])})
    torch.testing.assert_close(
        mixed, torch.where(torch.tensor([1, 0, 1, 0, 1]).bool()[:, None, None, None], a, b), atol=1e-7, rtol=0
    )


@pytest.mark.parametrize("width", [1, 5])
def test_a_narrow_cgan_hears_latents_and_labels_both(width: int) -> None:
    model = small(CGAN, width=width)
    assert model.sample(2).shape == (2, 3, 8, 8)
    assert min(model.generator.latent.out_features, model.generator.label.out_features) > 0


def test_the_cgan_discriminator_judges_image_and_label_together() -> None:
    model, images = small(CGAN), torch.rand(4, 3, 8, 8)
    first, second = (model.discriminator(images, torch.full((4,), label)) for label in (0, 1))
    assert (first != second).all()


def test_gan_has_both_losses_of_the_paper() -> None:
    logits = torch.linspace(-3, 3, 7)
    chance = torch.sigmoid(logits)
    torch.testing.assert_close(small(GAN, loss="minimax").generator_loss(logits), torch.log(1 - chance).mean())
    torch.testing.assert_close(small(GAN, loss="non-saturating").generator_loss(logits), -torch.log(chance).mean())
    both = [train(small(GAN, loss=loss), Shapes(resolution=8), 2) for loss in ("minimax", "non-saturating")]
    assert both[0]["loss_g"] < 0 < both[1]["loss_g"]


def test_gan_starts_with_the_published_weights() -> None:
    model = GAN()
    for network, bound in ((model.generator, 0.05), (model.discriminator, 0.005)):
        for weight in network.parameters():
            if weight.dim() > 1:
                assert 0.95 * bound < weight.abs().max() <= bound
            else:
                assert not weight.any()


def test_gan_trains_on_points() -> None:
    outputs = train(small(GAN, image_shape=(2, 1, 1)), Points(), 3)
    assert torch.isfinite(outputs["loss_g"])


@pytest.mark.parametrize("clip", [0.01, 0.03])
def test_every_critic_weight_of_wgan_stays_in_its_box(clip: float) -> None:
    model = small(WGAN, clip=clip, lr=1e-2, critic_steps=2)
    before = [p.clone() for p in model.discriminator.parameters()]
    train(model, Shapes(), 3)
    assert all(p.abs().max() <= clip for p in model.discriminator.parameters())
    assert any(not torch.equal(p, q) for p, q in zip(before, model.discriminator.parameters(), strict=True))
    assert any(p.abs().max() == clip for p in model.discriminator.parameters())
    clip_weights(model.discriminator, clip)
    assert max(p.abs().max() for p in model.generator.parameters()) > clip


def test_acgan_teaches_both_networks_the_classes() -> None:
    """Equation 3: without the class terms the losses are those of a plain GAN; with them, larger by cross-entropies."""
    guess = math.log(48)
    same = {"num_classes": 48, "dropout": 0.0, "activation_noise": 0.0}
    plain, once, twice = (train(small(ACGAN, classifier=weight, **same), Shapes(), 1) for weight in (0.0, 1.0, 2.0))
    # an untrained classifier guesses, of real and of fake images
    assert abs((once["loss_d"] - plain["loss_d"]).item() - 2 * guess) < 0.1 * guess
    assert abs((once["loss_g"] - plain["loss_g"]).item() - guess) < 0.2 * guess
    torch.testing.assert_close(twice["loss_d"] - plain["loss_d"], 2 * (once["loss_d"] - plain["loss_d"]))


def test_acgan_may_learn_the_classes_from_real_images_alone() -> None:
    """Its discriminator's loss then has one cross-entropy, of a guess, and its generator still has its own."""
    guess = math.log(48)
    same = {"num_classes": 48, "dropout": 0.0, "activation_noise": 0.0, "classify_fakes": False}
    plain, taught = (train(small(ACGAN, classifier=weight, **same), Shapes(), 1) for weight in (0.0, 1.0))
    assert abs((taught["loss_d"] - plain["loss_d"]).item() - guess) < 0.1 * guess
    assert abs((taught["loss_g"] - plain["loss_g"]).item() - guess) < 0.2 * guess


def test_acgan_s_generator_follows_its_class_term() -> None:
    """The gradient of the class term alone makes the discriminator surer of the asked class."""
    model = small(ACGAN, dropout=0.0, activation_noise=0.0)
    latents, label = torch.randn(32, 4), torch.arange(32) % 6
    optimizer = torch.optim.Adam(model.generator.parameters(), 1e-2)
    found = []
    for _ in range(20):
        _, classes = model.discriminator(model.generator(latents, label))
        loss = F.cross_entropy(classes, label)
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert found[-1] < found[0]


def test_the_information_of_infogan_is_the_bound_of_equation_5() -> None:
    torch.manual_seed(0)
    codes = Codes(torch.tensor([[0, 2], [1, 1], [2, 0]]), torch.rand(3, 2) * 2 - 1)
    guess = Codes(torch.randn(3, 2, 3), torch.randn(3, 2))
    of_categories = torch.distributions.Categorical(logits=guess.category).log_prob(codes.category).sum(1).mean()
    of_places = torch.distributions.Normal(guess.place, 1.0).log_prob(codes.place).sum(1).mean()
    entropy = 2 * math.log(3) + 2 * math.log(2)  # of two uniform categories, and of two uniform lengths of 2
    torch.testing.assert_close(information(codes, guess), of_categories + of_places + entropy)


def test_the_information_reaches_the_codes_entropy_and_is_none_where_q_knows_nothing() -> None:
    category = torch.arange(9).remainder(3)[:, None]
    nothing = Codes(category, torch.empty(9, 0))
    known = Codes(100.0 * F.one_hot(category, 3).float(), torch.empty(9, 0))
    assert abs(information(nothing, known).item() - math.log(3)) < 1e-5
    assert abs(information(nothing, Codes(torch.zeros(9, 1, 3), torch.empty(9, 0))).item()) < 1e-6


def test_infogan_s_latents_hold_noise_one_hot_categories_and_places() -> None:
    model = small(InfoGAN, categorical_codes=2, continuous_codes=2)
    latents, codes = model.spell(torch.rand(2000, model.draws))
    assert latents.shape == (2000, model.latent_dim)
    assert latents.abs().max() <= 1
    one_hot = latents[:, 4:10].view(2000, 2, 3)
    assert torch.equal(one_hot.argmax(2), codes.category)
    assert torch.equal(one_hot.sum(2), torch.ones(2000, 2))
    assert torch.equal(latents[:, 10:], codes.place)
    assert (torch.bincount(codes.category.flatten()) / 4000 - 1 / 3).abs().max() < 0.05


def test_infogan_s_codes_can_be_set() -> None:
    model = small(InfoGAN)
    a, b = model.sample(4, category=0), model.sample(4, category=2)
    assert ((a - b).abs().amax(dim=(1, 2, 3)) > 1e-6).all()
    assert not torch.equal(model.sample(4, place=-1.0), model.sample(4, place=1.0))
    with pytest.raises(UserError, match="category 3"):
        model.sample(1, category=3)
    with pytest.raises(UserError, match="no categorical code"):
        small(InfoGAN, categorical_codes=0).sample(1, category=0)
    with pytest.raises(UserError, match="no continuous code"):
        small(InfoGAN, continuous_codes=0).sample(1, place=0.0)
    with pytest.raises(UserError, match="needs a code"):
        InfoGAN(categorical_codes=0, continuous_codes=0)


@pytest.mark.parametrize(("categorical", "continuous"), [(0, 1), (1, 0), (2, 1)])
def test_infogan_trains_with_any_codes(categorical: int, continuous: int) -> None:
    model = small(InfoGAN, categorical_codes=categorical, continuous_codes=continuous)
    assert torch.isfinite(train(model, Shapes(resolution=16), 2)["loss_g"])
