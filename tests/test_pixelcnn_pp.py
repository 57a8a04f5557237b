"""PixelCNN++: its likelihood is a distribution, nothing sees what comes after it, and cached sampling is sampling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.likelihood import LEVEL, LogisticMixture
from lightning_gen.models.pixelcnn_pp import PixelCNNPP, PixelCNNPPNetwork

LEVELS = torch.arange(256, dtype=torch.float64) * LEVEL - 1


def small(shape: tuple[int, int, int] = (3, 8, 8), **settings: object) -> PixelCNNPP:
    torch.manual_seed(0)
    own = {"width": 6, "blocks": 1, "mixtures": 3, "dropout": 0.0}
    return PixelCNNPP(image_shape=shape, **{**own, **settings}).double().eval()


def mixture(channels: int, n: int, spread: float = 1.0) -> LogisticMixture:
    torch.manual_seed(1)
    outputs = torch.randn(1, 4 * LogisticMixture.parameters(channels), dtype=torch.float64) * spread
    return LogisticMixture.of(outputs.expand(n, -1), channels)


@pytest.mark.parametrize("spread", [0.5, 2.0, 8.0])
def test_the_likelihood_of_all_levels_of_a_grey_pixel_sums_to_1(spread: float) -> None:
    log_p = mixture(1, 256, spread).log_prob(LEVELS[:, None])
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-10)


def test_so_does_that_of_each_channel_given_the_channels_before_it() -> None:
    found = mixture(3, 256)
    before = torch.tensor([0.3, -0.7], dtype=torch.float64).expand(256, 2)
    for channel in range(3):  # marginal over later channels: a mixture of the first ones alone
        pairs = channel * (channel - 1) // 2 + channel
        marginal = LogisticMixture(
            found.logits,
            found.means[:, : channel + 1],
            found.log_scales[:, : channel + 1],
            found.slopes[:, :pairs],
        )
        levels = torch.cat([before[:, :channel], LEVELS[:, None]], dim=1)
        log_joint = marginal.log_prob(levels)
        if channel:
            earlier = LogisticMixture(
                found.logits, found.means[:, :channel], found.log_scales[:, :channel], found.slopes
            )
            log_joint = log_joint - earlier.log_prob(levels[:, :channel])
        assert log_joint.exp().sum().item() == pytest.approx(1, abs=1e-10)


def test_a_level_has_the_mass_between_its_borders() -> None:
    found = mixture(1, 1)
    levels = LEVELS[[0, 1, 100, 255]]
    mean, scale = found.means[0, 0], found.log_scales[0, 0].exp()

    def below(border: Tensor) -> Tensor:
        return torch.sigmoid((border - mean) / scale)

    share = found.logits[0].softmax(0)
    for level, expected in zip(
        levels,
        [
            below(LEVELS[0] + LEVEL / 2),
            below(LEVELS[1] + LEVEL / 2) - below(LEVELS[1] - LEVEL / 2),
            below(LEVELS[100] + LEVEL / 2) - below(LEVELS[100] - LEVEL / 2),
            1 - below(LEVELS[255] - LEVEL / 2),
        ],
        strict=True,
    ):
        torch.testing.assert_close(found.log_prob(level.view(1, 1)).exp()[0], (share * expected).sum())


def test_drawn_levels_have_their_likelihood() -> None:
    n = 40_000
    found = mixture(1, n, 2.0)
    drawn = found.draw(torch.rand(n, 2, dtype=torch.float64))
    seen = torch.bincount(((drawn[:, 0] + 1) / LEVEL).round().long(), minlength=256) / n
    expected = mixture(1, 256, 2.0).log_prob(LEVELS[:, None]).exp()
    assert (seen - expected).abs().sum() / 2 < 0.05
    assert (seen - expected).abs().max() < 5 * (expected.max() / n).sqrt()


def test_a_far_level_has_a_finite_likelihood_and_gradient() -> None:
    outputs = torch.tensor([[0.0, 0.9, -9.0]], requires_grad=True)  # one narrow logistic at the bright end
    log_p = LogisticMixture.of(outputs, 1).log_prob(torch.tensor([[-0.5]]))
    log_p.sum().backward()
    assert torch.isfinite(log_p).all()
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_no_pixel_sees_itself_or_a_later_one_and_every_earlier_neighbour_is_seen(
    shape: tuple[int, int, int], blocks: int
) -> None:
    network = small(shape, blocks=blocks).network
    image = torch.rand(1, *shape, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        before = network(image)
        for place in range(64):
            other = image.clone()
            other[:, :, place // 8, place % 8] += 0.5
            moved = (network(other) != before).any(1).flatten()
            assert not moved[: place + 1].any(), f"pixel {place} is seen by {int(moved.int().argmax())}"
            if place % 8 < 7:
                assert moved[place + 1], f"pixel {place} is not seen by its right neighbour"
            if place < 56:
                assert moved[place + 8], f"pixel {place} is not seen by the one below"


def test_a_channel_moves_the_likelihood_of_itself_and_later_channels_only() -> None:
    found = mixture(3, 1)
    base = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    for channel in range(3):
        moved = base.clone()
        moved[0, channel] += 0.4
        for other in range(3):
            same = torch.equal(
                found.mean(other, moved[:, :other].unbind(1)), found.mean(other, base[:, :other].unbind(1))
            )
            assert same == (other <= channel)


@torch.no_grad()
def naive(network: PixelCNNPPNetwork, uniform: Tensor, known: Tensor | None) -> Tensor:
    """A pass over the whole image for every pixel."""
    batch, _, height, width = uniform.shape
    drawn = torch.zeros(batch, network.channels, height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            found = LogisticMixture.of(network(drawn)[:, :, i, j], network.channels)
            value = found.draw(uniform[:, :, i, j])
            if known is not None:
                value = torch.where(known[:, :, i, j].isnan(), value, known[:, :, i, j].double())
            drawn[:, :, i, j] = value
    return drawn.float()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_cached_sampling_equals_naive_value_for_value(shape: tuple[int, int, int], blocks: int) -> None:
    model = small(shape, blocks=blocks)
    uniform = model.latents(3, seed=0, start=0)
    half = torch.full((3, *shape), torch.nan)
    half[:, :, :4] = 0.25
    for known in (None, half):
        assert torch.equal(model.network.draw(uniform, known), naive(model.network, uniform, known))


def test_completion_keeps_the_known_half() -> None:
    model = small((1, 8, 8)).float()
    image = torch.randint(0, 256, (2, 1, 8, 8)) / 127.5 - 1
    known = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    known[:, :, :4] = True
    done = model.sample(2, condition={"image": image, "known": known})
    torch.testing.assert_close(done[:, :, :4], image[:, :, :4], atol=1e-6, rtol=0)


def test_the_paper_preset_has_the_published_size() -> None:
    with torch.device("meta"):
        model = PixelCNNPP(**PixelCNNPP.presets["paper"])
    millions = sum(parameter.numel() for parameter in model.network.parameters()) / 1e6
    assert 50 < millions < 56  # about 54 million by third-party counts of the published code


def test_sides_that_cannot_be_quartered_are_refused() -> None:
    with pytest.raises(UserError, match="divisible by 4"):
        small((1, 10, 8))
