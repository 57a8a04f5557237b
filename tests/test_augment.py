"""Augmentations do what their papers say, twice differentiably, from the noise they are given and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen import augment, launch, registry
from lightning_gen.augment import ADA, AugmentOptions, DiffAugment, moved, resample
from lightning_gen.checkpoints import AtomicCheckpointIO
from lightning_gen.data.module import RunData
from lightning_gen.data.shapes import Shapes
from lightning_gen.errors import UserError
from lightning_gen.losses import zero_centred_penalty
from lightning_gen.models.dcgan import DCGAN

KINDS: dict[str, Callable[[], Any]] = {"diffaugment": DiffAugment, "ada": lambda: ADA(start=0.8)}
SHAPES = [(8, 3, 16, 16), (8, 1, 16, 16), (8, 2, 12, 20)]


def noise(seed: int, rows: slice = slice(None), total: int = 8) -> augment.Rand:
    """`rand` of one rank, which sees `rows` of a global batch."""
    generator = torch.Generator().manual_seed(seed)
    return lambda n, *shape: torch.rand(total, *shape, generator=generator)[rows]


def chosen(*values: float) -> augment.Rand:
    """`rand` that gives every image these numbers."""
    return lambda n, *shape: torch.tensor(values).expand(n, -1)


def diff(bright: float = 0.5, saturated: float = 0.5, contrast: float = 0.5, down: float = 0.5, right: float = 0.5):
    """DiffAugment's seven numbers; a half changes nothing, the hole is in the upper left corner."""
    return chosen(bright, saturated, contrast, down, right, 0.0, 0.0)


ORDER = ["flip", "turn", "blit", "scale", "rotate", "stretch", "rotate again", "move"]
ORDER += ["brightness", "contrast", "luma flip", "hue", "saturation"]


def ada(name: str, *values: float) -> augment.Rand:
    """ADA's numbers at p = 0.5 when only `name` happens, with these values."""
    drawn: list[float] = []
    for step in ORDER:
        room = 2 if step in ("blit", "move") else 1
        mine, happens = (values, 0.0) if step == name else ((0.5,) * room, 0.99)
        drawn += [happens, *mine] if room == 2 else [*mine, happens]
    return chosen(*drawn)


def quantile(normal: float) -> float:
    """The uniform number that is made into this normal one."""
    return (1 + math.erf(normal / math.sqrt(2))) / 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_strength_0_is_the_identity_and_strength_1_is_not(kind: str, shape: tuple[int, ...]) -> None:
    images, transform = torch.rand(shape) * 2 - 1, KINDS[kind]()
    transform.strength = 0.0
    torch.testing.assert_close(transform(images, noise(0)), images, atol=1e-6, rtol=1e-6)
    transform.strength = 1.0
    changed = transform(images, noise(0))
    assert changed.shape == images.shape
    assert ((changed - images).abs().amax((1, 2, 3)) > 0.05).all()


@pytest.mark.parametrize("part", augment.PARTS)
def test_a_policy_of_diffaugment_does_its_parts_alone(part: augment.Part) -> None:
    images = torch.rand(8, 3, 16, 16) * 0.5 + 0.25  # nowhere the grey that is moved and cut in
    changed = DiffAugment([part])(images, noise(0))
    apart = (changed - images).abs() > 1e-4
    cut, grey = apart & (changed == 0), (changed == 0).any(1, keepdim=True).expand_as(images)
    assert apart.any()
    assert torch.equal(cut, apart) == (part == "cutout")
    assert bool(grey.any()) == (part != "color")
    assert torch.equal(DiffAugment([])(images, noise(0)), images)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_noise_gives_the_same_images_and_a_rank_sees_its_rows_of_them(kind: str) -> None:
    images, transform = torch.rand(8, 3, 16, 16), KINDS[kind]()
    whole = transform(images, noise(3))
    assert torch.equal(whole, transform(images, noise(3)))
    assert not torch.equal(whole, transform(images, noise(4)))
    halves = [transform(images[rows], noise(3, rows)) for rows in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(torch.cat(halves), whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_gradient_penalty_goes_through(kind: str, precision: str) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.LeakyReLU(0.2), torch.nn.Conv2d(4, 1, 6))
    images = torch.rand(8, 3, 8, 8).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = network(KINDS[kind]()(images, noise(1))).flatten()
        penalty = zero_centred_penalty(logits, images)
    penalty.backward()
    for weight in (network[0].weight, network[2].weight):
        assert torch.isfinite(weight.grad).all()
        assert weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_are_those_of_finite_differences(kind: str) -> None:
    images, transform = torch.rand(2, 3, 6, 6), KINDS[kind]()
    along = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))

    def slope(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (found,) = torch.autograd.grad(transform(x, noise(2, total=2)).double().pow(3).sum(), x, create_graph=True)
        return found

    x = images.clone().requires_grad_()
    (first,) = torch.autograd.grad(transform(x, noise(2, total=2)).double().pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first * along).sum(), x)
    step = 1e-2
    expected = (slope(images + step * along) - slope(images - step * along)) / (2 * step)
    torch.testing.assert_close(second, expected.detach(), atol=2e-2, rtol=2e-2)


def test_resampling_has_the_derivatives_of_an_affine_map_of_any_order() -> None:
    angle = torch.tensor([0.3, -1.1], dtype=torch.float64)
    images = torch.rand(2, 1, 5, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: resample(x, augment._rotation(angle)).pow(2), (images,))
    assert torch.autograd.gradgradcheck(lambda x: resample(x, augment._rotation(angle)).pow(3), (images,))


@pytest.mark.parametrize(("drawn", "shift"), [(0.0, -0.5), (0.5, 0.0), (0.9, 0.4)])
def test_brightness_moves_the_mean(drawn: float, shift: float) -> None:
    images, transform = torch.rand(2, 3, 8, 8), DiffAugment()
    seen = transform(images, diff(bright=drawn))[:, :, 4:, 4:]
    torch.testing.assert_close(seen, images[:, :, 4:, 4:] + shift)


def test_saturation_scales_the_distance_from_grey_and_contrast_that_from_the_mean() -> None:
    images, transform = torch.rand(2, 3, 8, 8), DiffAugment()
    grey, part = images.mean(1, keepdim=True), (slice(None), slice(None), slice(4, None), slice(4, None))
    torch.testing.assert_close(
        transform(images, diff(saturated=0.0))[part], grey.expand_as(images)[part], atol=1e-6, rtol=0
    )
    torch.testing.assert_close(transform(images, diff(saturated=0.9))[part], (grey + 1.8 * (images - grey))[part])
    mean = images.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(transform(images, diff(contrast=0.25))[part], (mean + 0.75 * (images - mean))[part])


def test_translation_moves_by_whole_pixels_up_to_an_eighth_and_zeros_come_in() -> None:
    images = torch.rand(2, 3, 16, 16) + 1
    torch.testing.assert_close(
        moved(images, torch.tensor([0, 3]), torch.tensor([-2, 5])),
        torch.stack([F.pad(images[0, :, :, 2:], (0, 2)), F.pad(images[1, :, :-3, :-5], (5, 0, 3, 0))]),
    )
    steps = {int(DiffAugment()._steps(torch.tensor([u]), 16)) for u in torch.linspace(0, 0.999, 200).tolist()}
    assert steps == {-2, -1, 0, 1, 2}


def test_cutout_empties_a_square_of_half_the_side() -> None:
    transform = DiffAugment()
    drawn = chosen(0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    seen = transform(torch.ones(1, 3, 16, 16), drawn)
    assert (seen == 0).sum() == 3 * 8 * 8
    assert (seen[:, :, 4:12, 4:12] == 0).all()
    areas = [(transform(torch.ones(8, 1, 16, 16), noise(seed)) == 0).sum((1, 2, 3)) for seed in range(20)]
    assert torch.cat(areas).float().min() >= 16  # a quarter of it, where it stands in a corner


def test_blits_are_exact_copies_of_pixels() -> None:
    images, transform = torch.rand(2, 3, 16, 16), ADA(start=0.5)
    torch.testing.assert_close(transform(images, ada("flip", 0.9)), images.flip(3), atol=1e-4, rtol=0)
    turned = transform(images, ada("turn", 0.3))
    torch.testing.assert_close(turned, images.rot90(-1, (2, 3)), atol=1e-4, rtol=0)
    step = transform(images, ada("blit", 1.0, 0.5))  # an eighth of the side to the right
    torch.testing.assert_close(step[:, :, :, 2:], images[:, :, :, :-2], atol=1e-4, rtol=0)
    torch.testing.assert_close(step[:, :, :, :2], images[:, :, :, :2].flip(3), atol=1e-4, rtol=0)


def test_geometry_turns_and_scales_about_the_centre() -> None:
    transform = ADA(start=0.5)
    y, x = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    blob = torch.exp(-((x - 5) ** 2 + y**2) / 8).expand(1, 3, 33, 33)  # to the right of the centre

    def centre(image: Tensor) -> tuple[float, float]:
        weight = image[0, 0] / image[0, 0].sum()
        return float((weight * x).sum()), float((weight * y).sum())

    assert centre(blob) == pytest.approx((5, 0), abs=0.05)
    angle = 2 * (0.5 + 1 / 12) * math.pi - math.pi  # 30 degrees
    for name in ("rotate", "rotate again"):
        expected = (5 * math.cos(angle), -5 * math.sin(angle))  # y points down
        assert centre(transform(blob, ada(name, 0.5 + 1 / 12))) == pytest.approx(expected, abs=0.05)
    factor = 2**0.2
    assert centre(transform(blob, ada("scale", quantile(1.0)))) == pytest.approx((5 * factor, 0), abs=0.05)
    assert centre(transform(blob, ada("stretch", quantile(-1.0)))) == pytest.approx((5 / factor, 0), abs=0.05)
    found = centre(transform(blob, ada("move", quantile(-0.5), quantile(0.5))))
    assert found == pytest.approx((5 - 33 / 16, 33 / 16), abs=0.05)


def test_colours_change_as_in_the_papers_matrices() -> None:
    images, transform = torch.rand(2, 3, 4, 4) * 2 - 1, ADA(start=0.5)
    v = torch.full((3,), 1 / math.sqrt(3))
    eye, along = torch.eye(3), torch.outer(v, v)

    def coloured(matrix: Tensor, shift: float = 0.0) -> Tensor:
        return torch.einsum("ij,bjhw->bihw", matrix, images) + shift

    cross = torch.tensor([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    quarter = along + cross  # Rodrigues' formula at 90 degrees
    expected = {
        ("brightness", quantile(1.0)): coloured(eye, 0.2),
        ("contrast", quantile(-1.0)): coloured(eye * 2**-0.5),
        ("luma flip", 0.9): coloured(eye - 2 * along),
        ("hue", 0.75): coloured(quarter),
        ("saturation", quantile(1.0)): coloured(along + 2 * (eye - along)),
    }
    for (name, drawn), wanted in expected.items():
        torch.testing.assert_close(transform(images, ada(name, drawn)), wanted, atol=1e-5, rtol=0, msg=name)


def test_each_transformation_happens_with_probability_p() -> None:
    images = torch.rand(4000, 1, 4, 4)
    transform = ADA(start=0.1)
    seen = transform(images, noise(5, total=4000))
    # a grey pixel has no hue and no saturation; a flip, a luma flip and a turn do nothing with chance 1/2, 1/2 and 1/4;
    # whole steps of at most half a pixel are none
    untouched = (seen == images).flatten(1).all(1).float().mean().item()
    p, rotation = 0.1, 1 - math.sqrt(0.9)
    nothing = (1 - p / 2) ** 2 * (1 - 3 * p / 4) * (1 - p) ** 5 * (1 - rotation) ** 2
    assert untouched == pytest.approx(nothing, abs=0.03)


def test_ada_goes_from_0_to_1_in_speed_kimg_while_d_is_sure_and_comes_down_when_it_is_not() -> None:
    transform, seen = ADA(target=0.6, speed_kimg=10), 0
    while transform.strength < 1:
        transform.adapt(torch.tensor(0.9), 64)
        seen += 64
    assert seen == pytest.approx(10_000, abs=2 * 64)
    transform.adapt(torch.tensor(0.9), 64)
    assert transform.strength == 1
    transform.adapt(torch.tensor(0.1), 64)
    assert transform.strength == pytest.approx(1 - 64 / 10_000)
    for _ in range(200):
        transform.adapt(torch.tensor(-1.0), 64)
    assert transform.strength == 0


def test_an_infinite_speed_keeps_the_probability() -> None:
    transform: Any = AugmentOptions(kind="ada", speed_kimg=math.inf, start=0.3).make()
    transform.adapt(torch.tensor(1.0), 10_000)
    assert transform.strength == pytest.approx(0.3)


@pytest.mark.parametrize(("name", "logits"), [("dcgan", 0.1), ("lsgan", 0.6), ("cyclegan", 0.6)])
def test_ada_takes_a_discriminator_for_sure_that_is_on_the_side_of_real_images(name: str, logits: float) -> None:
    model = registry.load(name)(**registry.load(name).presets["quick"])
    model.augment = AugmentOptions(kind="ada", start=0.5).make()
    model.step_output(8, logits_real=torch.full((8,), logits))
    risen = model.augment.strength
    assert risen > 0.5
    model.step_output(8, logits_real=torch.full((8,), logits - 0.2))  # now it takes them for fakes
    assert model.augment.strength < risen


@pytest.mark.parametrize("name", ["wgan", "wgan-gp", "progan"])
def test_ada_judges_a_wasserstein_critic_by_the_middle_between_real_and_fake_images(name: str) -> None:
    settings = {**registry.load(name).presets["quick"], **({"loss": "wasserstein"} if name == "progan" else {})}
    model = registry.load(name)(**settings)
    model.augment = AugmentOptions(kind="ada", start=0.5).make()
    for offset in (-100.0, 100.0):  # which means nothing
        before = model.augment.strength
        model.step_output(8, logits_real=torch.full((8,), offset + 1), logits_fake=torch.full((8,), offset))
        assert model.augment.strength > before, "it tells them apart"
        alike = torch.tensor([1.0, -1.0]).repeat(4) + offset
        before = model.augment.strength
        model.step_output(8, logits_real=alike, logits_fake=alike)
        assert model.augment.strength < before


def test_a_model_that_sets_the_probability_refuses_what_it_would_ignore() -> None:
    model = registry.load("r3gan")(**registry.load("r3gan").presets["quick"])
    AugmentOptions(kind="ada").check(model)
    with pytest.raises(UserError, match=r"--augment\.start means nothing to R3GAN"):
        AugmentOptions(kind="ada", start=0.3).check(model)


def train(options: AugmentOptions, steps: int, save: Path, restore: Path | None = None) -> DCGAN:
    torch.manual_seed(0)
    model = DCGAN(**{**DCGAN.presets["quick"], "width": 4})
    model.augment = options.make()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    with launch.quiet():
        data = RunData(Shapes(size=40), 8, seed=0, critic_steps=1)
        trainer.fit(model, datamodule=data, ckpt_path=restore, weights_only=True)
    trainer.save_checkpoint(save)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_with_augmentation_is_bit_identical(kind: str, tmp_path: Path) -> None:
    options = AugmentOptions(kind=kind, speed_kimg=0.1, target=0.0, start=0.3)  # type: ignore[arg-type]
    straight = train(options, 7, tmp_path / "straight.ckpt")
    train(options, 3, tmp_path / "half.ckpt")
    resumed = train(options, 7, tmp_path / "resumed.ckpt", tmp_path / "half.ckpt")
    assert straight.augment is not None
    assert resumed.augment is not None
    assert straight.augment.strength == resumed.augment.strength
    assert kind != "ada" or straight.augment.strength != pytest.approx(0.3)
    for key, value in straight.state_dict().items():
        if isinstance(value, Tensor):
            assert torch.equal(value, resumed.state_dict()[key]), key
            assert torch.isfinite(value).all(), key
