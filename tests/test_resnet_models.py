"""The ResNet GANs: what is particular to sngan, wgan-gp, cgan-projection, sagan and biggan."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached, is_parametrized

from lightning_gen import registry
from lightning_gen.ema import StandingStatistics
from lightning_gen.errors import UserError
from lightning_gen.losses import orthogonality
from lightning_gen.models.biggan import truncated
from lightning_gen.module import GenerativeModule
from lightning_gen.resnet import (
    ConditionalBatchNorm2d,
    DiscriminatorBlock,
    Gain,
    GeneratorBlock,
    SelfAttention,
    class_norm,
    glorot,
    spectral_glorot,
)

ALL = ["sngan", "wgan-gp", "cgan-projection", "sagan", "biggan"]
CONDITIONAL = ["cgan-projection", "sagan", "biggan"]
NORMALISED: dict[str, dict[str, Any]] = {"sngan": {}} | {name: {"spectral_norm": True} for name in CONDITIONAL}
"""What it takes, beside the preset `quick`, to have spectral norm."""
SIZES = [(name, 32) for name in ALL] + [(name, 64) for name in ALL] + [(name, 128) for name in ALL] + [("sngan", 48)]


def small(name: str, **settings: Any) -> GenerativeModule:
    torch.manual_seed(0)
    model = registry.load(name)
    preset = {key: value for key, value in model.presets["quick"].items() if "width" not in key}
    widths = {"width": 4, "discriminator_width": 4, "critic_width": 4}
    known = model.__init__.__annotations__  # type: ignore[misc]
    preset |= {key: value for key, value in {**widths, "standing": 2}.items() if key in known}
    return model(**{**preset, **settings})


def updated(model: GenerativeModule) -> GenerativeModule:
    """Conditional scales and shifts start alike for all classes: move them as training does."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ConditionalBatchNorm2d):
                for table in (module.scale, module.shift):
                    weight = table.parametrizations.weight.original if is_parametrized(table) else table.weight
                    weight += 0.3 * torch.randn_like(weight)
    return model.eval()


@pytest.mark.parametrize(("name", "resolution"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_that_is_promised_can_be_made_and_judged(name: str, resolution: int, channels: int) -> None:
    of_biggan = {"latent_dim": 60, "standing": 0} if name == "biggan" else {}
    model = small(name, image_shape=(channels, resolution, resolution), **of_biggan)
    images = model.sample(2)
    assert images.shape == (2, channels, resolution, resolution)
    assert images.abs().max() <= 1
    label = (torch.zeros(2, dtype=torch.long),) if name in CONDITIONAL else ()
    assert model.discriminator(images, *label).shape == (2,)


def test_the_sagan_paper_preset_has_the_layers_of_its_code_at_128_pixels() -> None:
    """brain-research/self-attention-gan, by hand; batch norm has two numbers for each class and map."""
    generator = (128 + 1) * 16 * 1024  # to 4x4 pixels
    for wide, narrow in itertools.pairwise((1024, 1024, 512, 256, 128, 64)):
        generator += (9 * wide + 1) * narrow + (9 * narrow + 1) * narrow + (wide + 1) * narrow
        generator += 2 * 1000 * (wide + narrow)
    generator += 2 * 256 * 32 + 2 * 256 * 128 + 1  # attention at 32 pixels
    generator += 2 * 64 + (9 * 64 + 1) * 3
    discriminator = 0
    for depth, (narrow, wide) in enumerate(itertools.pairwise((3, 64, 128, 256, 512, 1024, 1024))):
        shortcut = (narrow + 1) * wide if depth < 5 else 0
        discriminator += (9 * narrow + 1) * wide + (9 * wide + 1) * wide + shortcut
    discriminator += 2 * 128 * 16 + 2 * 128 * 64 + 1
    discriminator += (1024 + 1) + 1000 * 1024  # the logit, the labels
    with torch.device("meta"):
        model = registry.load("sagan")(**registry.load("sagan").presets["paper"])
    counts = [sum(p.numel() for p in network.parameters()) for network in (model.generator, model.discriminator)]
    assert counts == [generator, discriminator]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(3, 40, 40), (3, 256, 256), (3, 32, 64)])
def test_an_impossible_size_is_refused_in_one_line(name: str, shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=f"^{name} .*not {shape[1]} x {shape[2]}$"):
        small(name, image_shape=shape)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_data_without_labels_is_refused_and_data_with_labels_named(name: str) -> None:
    with pytest.raises(UserError, match=f"^{name} .*no labels.*shapes") as reason:
        small(name, num_classes=0)
    assert "\n" not in str(reason.value)


def test_latents_that_biggan_cannot_cut_are_refused() -> None:
    with pytest.raises(UserError, match=r"latent_dim 50.*4 equal slices"):
        small("biggan", latent_dim=50)


# -- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONDITIONAL)
def test_another_label_gives_another_image_of_the_same_latent(name: str) -> None:
    model = updated(small(name, num_classes=3))
    one, same, other = (model.sample(2, condition={"label": torch.full((2,), k)}) for k in (0, 0, 2))
    assert torch.equal(one, same)
    assert (one - other).abs().mean() > 1e-3


@pytest.mark.parametrize("name", CONDITIONAL)
def test_the_discriminator_projects_its_features_on_the_label(name: str) -> None:
    discriminator = small(name, num_classes=3).discriminator.eval()
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        features = discriminator.blocks(images).relu().sum((2, 3))
        zero, two = (discriminator(images, torch.full((4,), k)) for k in (0, 2))
        expected = features @ (discriminator.classes.weight[2] - discriminator.classes.weight[0])
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(two - zero, expected, rtol=1e-3, atol=1e-4)


def test_a_class_norm_begins_as_a_plain_batch_norm_and_scales_by_class() -> None:
    norm, x = class_norm(2)(5), 3 * torch.randn(8, 5, 4, 4) + 1
    label = torch.tensor([0, 1] * 4)
    torch.testing.assert_close(norm(x, label), nn.BatchNorm2d(5)(x))
    with torch.no_grad():
        norm.scale.weight[1], norm.shift.weight[1] = 1.0, -2.0
    plain, now = nn.BatchNorm2d(5)(x), norm(x, label)
    torch.testing.assert_close(now[0::2], plain[0::2])
    torch.testing.assert_close(now[1::2], 2 * plain[1::2] - 2)


def test_biggan_gives_each_block_a_slice_of_the_latent() -> None:
    model = updated(small("biggan", latent_dim=8))
    z, label = torch.randn(1, 8), torch.zeros(1, dtype=torch.long)
    seen: list[Tensor] = []
    for block in model.generator.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    with torch.no_grad():
        model.generator(z, label)
    shared = model.generator.classes(label)
    for i, condition in enumerate(seen, start=1):
        torch.testing.assert_close(condition, torch.cat([shared, z[:, 2 * i : 2 * i + 2]], dim=1))


# -- spectral norm ---------------------------------------------------------------------------------------------------


def singular_values(network: nn.Module) -> list[float]:
    network.eval()
    return [
        torch.linalg.matrix_norm(module.weight.detach().flatten(1), 2).item()
        for module in network.modules()
        if is_parametrized(module, "weight")
    ]


@pytest.mark.parametrize("name", NORMALISED)
def test_spectral_norm_holds_every_layer_at_one_while_weights_move(name: str) -> None:
    model = small(name, **NORMALISED[name])
    weights = [p for p in model.discriminator.parameters() if p.dim() > 1]
    assert len(singular_values(model.discriminator)) == len(weights)  # no layer is left out
    label = (torch.zeros(4, dtype=torch.long),) if name in CONDITIONAL else ()
    optimizer = torch.optim.Adam(model.discriminator.parameters(), 2e-4)
    model.discriminator.train()
    for _ in range(10):
        optimizer.zero_grad()
        model.discriminator(torch.randn(4, 3, 32, 32), *label).mean().backward()
        optimizer.step()
    assert max(abs(value - 1) for value in singular_values(model.discriminator)) < 0.05


@pytest.mark.parametrize(("name", "normalised"), [("sngan", False), ("cgan-projection", False), ("sagan", True)])
def test_the_generator_is_normalised_where_the_paper_does_so(name: str, normalised: bool) -> None:
    assert bool(singular_values(small(name, **NORMALISED[name]).generator)) == normalised


def test_learned_gains_are_the_largest_singular_values_of_their_weights() -> None:
    """Miyato et al. 2018, appendix E."""
    model = small("sngan", learned_gains=True, penalty=1.0)
    gains = [module.gain for module in model.discriminator.modules() if isinstance(module, Gain)]
    assert len(gains) == len(singular_values(model.discriminator))
    with torch.no_grad():
        for number, gain in enumerate(gains, start=2):
            gain.fill_(number)
    assert singular_values(model.discriminator) == pytest.approx([*range(2, len(gains) + 2)], rel=0.05)
    optimizer = torch.optim.SGD(gains, 1.0)
    model.discriminator(torch.randn(4, 3, 32, 32)).mean().backward()
    optimizer.step()
    assert all(gain.item() != number for number, gain in enumerate(gains, start=2))


@pytest.mark.parametrize("name", CONDITIONAL)
def test_spectral_norm_can_be_left_out_of_both_networks(name: str) -> None:
    model = small(name, spectral_norm=False)
    assert not [module for module in model.modules() if is_parametrized(module)]


def test_one_update_makes_one_power_iteration_however_many_forward_passes_it_has() -> None:
    layer = spectral_glorot(nn.Linear(30, 20))
    x, norm = torch.randn(2, 30), layer.parametrizations.weight[0]
    with torch.no_grad():
        layer.parametrizations.weight.original.normal_()
        twin_u, twin_v = norm._u.clone(), norm._v.clone()
        with cached():
            first = layer(x)
            assert torch.equal(first, layer(x))
        weight = layer.parametrizations.weight.original
        twin_u = nn.functional.normalize(weight @ twin_v, dim=0)
        twin_v = nn.functional.normalize(weight.T @ twin_u, dim=0)
        torch.testing.assert_close(norm._u, twin_u)
        torch.testing.assert_close(norm._v, twin_v)
        layer.eval()
        before = norm._u.clone()
        layer(x)
        assert torch.equal(norm._u, before)  # judging changes nothing


def test_sampling_moves_no_buffer() -> None:
    for name in ALL:
        model = small(name, **NORMALISED.get(name, {}))
        before = {key: value.clone() for key, value in model.state_dict().items() if isinstance(value, Tensor)}
        model.sample(3)
        after = model.state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before.items()), name


# -- attention and blocks --------------------------------------------------------------------------------------------


def test_attention_begins_as_the_identity_and_learns_to_be_let_in() -> None:
    attention, x = SelfAttention(16, spectral_glorot), torch.randn(2, 16, 8, 8)
    assert attention.gamma.item() == 0
    assert torch.equal(attention(x), x)
    attention(x).square().sum().backward()
    assert attention.gamma.grad.abs() > 0


def test_attention_is_the_formula_of_its_paper() -> None:
    attention, x = SelfAttention(16, glorot), torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        attention.gamma += 0.5
        pooled = [nn.functional.max_pool2d(layer(x), 2).flatten(2) for layer in (attention.key, attention.value)]
        scores = torch.einsum("bci,bcj->bij", attention.query(x).flatten(2), pooled[0])
        seen = torch.einsum("bij,bcj->bci", scores.softmax(dim=2), pooled[1]).view(2, 8, 8, 8)
        torch.testing.assert_close(attention(x), x + 0.5 * attention.output(seen))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_attention_keeps_the_precision_of_its_images(dtype: torch.dtype) -> None:
    attention, x = SelfAttention(16, glorot).to(dtype), torch.randn(2, 16, 8, 8, dtype=dtype)
    assert attention(x).dtype == dtype


def test_a_penalty_through_sharp_attention_has_the_same_gradient_in_bf16() -> None:
    """A softmax in bf16 made it 1e10 times as large here, and ended a run of sagan."""

    def gradients(half: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        attention, x = SelfAttention(24, glorot), torch.randn(4, 24, 16, 16, requires_grad=True)
        with torch.no_grad():
            attention.gamma += 0.1
            for layer in (attention.query, attention.key):
                layer.weight *= 1000  # each place looks at one other
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            (slope,) = torch.autograd.grad((attention(x) * torch.randn(4, 24, 16, 16)).sum(), x, create_graph=True)
        slope.float().square().sum().backward()
        return {name: weight.grad for name, weight in attention.named_parameters()}

    exact, half = gradients(half=False), gradients(half=True)
    for name in ("gamma", "value.weight", "output.weight"):
        assert float(half[name].norm()) == pytest.approx(float(exact[name].norm()), rel=0.1), name


def test_the_class_tables_of_sagan_learn_faster_than_the_rest() -> None:
    model = small("sagan", lr=0.01, class_rate=3.0)
    _, optimizer = model.configure_optimizers()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    norms = [module for module in model.generator.modules() if isinstance(module, ConditionalBatchNorm2d)]
    tables = {id(table.weight) for norm in norms for table in (norm.scale, norm.shift)}
    assert tables
    assert rates == {id(p): 0.03 if id(p) in tables else 0.01 for p in model.generator.parameters()}


@pytest.mark.parametrize(("resolution", "pixels"), [(32, 16), (64, 32), (128, 32)])
def test_sagan_attends_at_the_maps_of_its_paper(resolution: int, pixels: int) -> None:
    model = small("sagan", image_shape=(3, resolution, resolution))
    sides: list[int] = []
    for module in model.modules():
        if isinstance(module, SelfAttention):
            module.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
    model.discriminator(model.sample(1), torch.zeros(1, dtype=torch.long))
    assert sides == [pixels, pixels]


def test_pooled_and_enlarged_shortcuts_are_those_of_the_paper() -> None:
    x = torch.randn(2, 3, 8, 8)
    up, down = GeneratorBlock(3, 5, glorot, nn.BatchNorm2d), DiscriminatorBlock(3, 5, glorot, hidden=5, halve=True)
    for block in (up, down):
        nn.init.zeros_(block.conv2.weight)
    large = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
    torch.testing.assert_close(up(x), up.shortcut(large))
    torch.testing.assert_close(down(x), nn.functional.avg_pool2d(down.shortcut(x), 2))


def test_the_critic_of_wgan_gp_judges_each_image_alone() -> None:
    critic, images = small("wgan-gp").discriminator.train(), torch.randn(4, 3, 32, 32)
    assert not [m for m in critic.modules() if "Norm" in type(m).__name__]
    alone = torch.cat([critic(image[None]) for image in images])
    torch.testing.assert_close(critic(images), alone, rtol=1e-4, atol=1e-5)


# -- biggan ----------------------------------------------------------------------------------------------------------


def test_truncation_shrinks_latents_and_keeps_their_order() -> None:
    z = torch.randn(200_000)
    order = z.argsort()
    deviation = [truncated(z, threshold).std().item() for threshold in (None, 2.0, 1.0, 0.5)]
    assert deviation == sorted(deviation, reverse=True)
    for threshold in (2.0, 1.0, 0.04):
        cut = truncated(z, threshold)
        assert cut.abs().max() <= threshold
        assert (cut[order].diff() >= 0).all()
    assert truncated(z, None) is z


def test_truncated_latents_have_the_law_of_redrawn_ones() -> None:
    t = 1.5
    redrawn = torch.randn(400_000)
    redrawn = redrawn[redrawn.abs() < t]
    cut = truncated(torch.randn(400_000), t)
    where = torch.linspace(0.01, 0.99, 25)
    torch.testing.assert_close(cut[:200_000].quantile(where), redrawn[:200_000].quantile(where), atol=0.02, rtol=0)
    density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    assert cut.var().item() == pytest.approx(1 - 2 * t * density / math.erf(t / math.sqrt(2)), abs=0.01)


def test_truncation_is_an_option_of_sample_and_makes_images_more_alike() -> None:
    model = updated(small("biggan", standing=0))
    label = {"label": torch.zeros(32, dtype=torch.long)}
    whole, narrow = (model.sample(32, condition=label, truncation=t).std(dim=0).mean() for t in (None, 0.1))
    assert narrow < 0.5 * whole
    with pytest.raises(UserError, match=r"truncation must be more than 0"):
        model.sample(1, truncation=-1.0)


def test_orthogonality_is_its_formula_and_zero_for_orthogonal_filters() -> None:
    torch.manual_seed(0)
    wide, tall = torch.randn(4, 3, 2, 2), torch.randn(9, 5)
    expected = 0.0
    for rows in (wide.flatten(1), tall.T):
        gram = rows @ rows.T
        expected += sum(gram[i, j].item() ** 2 for i in range(len(gram)) for j in range(len(gram)) if i != j)
    assert orthogonality([wide, tall]).item() == pytest.approx(expected, rel=1e-4)
    frame = nn.init.orthogonal_(torch.empty(6, 4, 3, 3))
    assert orthogonality([7 * frame]).item() < 1e-6  # lengths do not count
    with torch.autocast("cpu", torch.bfloat16):
        assert orthogonality([tall]).dtype == torch.float32


def test_the_orthogonal_regularisation_leaves_out_the_shared_embedding_and_vectors() -> None:
    generator = small("biggan").generator
    regularised = {id(p) for p in generator.regularised()}
    left_out = {name for name, p in generator.named_parameters() if id(p) not in regularised}
    assert "classes.weight" in left_out
    assert all(p.dim() <= 1 for name, p in generator.named_parameters() if name in left_out - {"classes.weight"})


@pytest.mark.parametrize("standing", [0, 2])
def test_an_image_of_biggan_does_not_depend_on_those_beside_it(standing: int) -> None:
    model = updated(small("biggan", standing=standing))
    z, label = torch.randn(6, model.latent_dim), torch.arange(6) % 3
    with torch.no_grad():
        together = model.generate(z, {"label": label})
        alone = torch.cat([model.generate(z[i : i + 1], {"label": label[i : i + 1]}) for i in range(6)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_standing_statistics_are_those_of_the_present_weights() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).eval()
    data, runs = [torch.randn(50, 2, 4, 4) for _ in range(3)], []

    def passes() -> None:
        runs.append(1)
        for x in data:
            network(x)

    standing, before = StandingStatistics(), [b.clone() for b in network.buffers()]
    for expected_runs in (1, 1, 2):
        if expected_runs == 2:
            with torch.no_grad():
                network[0].weight.mul_(5)  # new weights: gathered anew
        with torch.no_grad(), standing.of(network, passes):
            out = torch.cat([network(x) for x in data])
        assert len(runs) == expected_runs
        assert out.mean((0, 2, 3)).abs().max() < 1e-4
        assert (out.std((0, 2, 3)) - 1).abs().max() < 0.01
    assert all(torch.equal(a, b) for a, b in zip(before, network.buffers(), strict=True))
    assert not network.training


def test_biggan_gathers_statistics_anew_after_a_fused_step_which_tensors_do_not_count() -> None:
    model = updated(small("biggan", ema_halflife_kimg=0.0))
    z, label = torch.randn(4, model.latent_dim), {"label": torch.arange(4) % 3}
    optimizer = torch.optim.Adam(model.generator.parameters(), 0.1, fused=True)
    model.generate(z, label).sum().backward()
    optimizer.step()
    model.clock.advance(4)
    with torch.no_grad():
        after = model.generate(z, label)
        model.statistics = StandingStatistics()
        assert torch.equal(after, model.generate(z, label))
